"""Flight logs as LeRobot datasets: what a controller did goes back into calibrate and pretrain."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deploy.runtime.recorder import FlightEpisode
from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.dataset import ACTION, STATE, Feature, image_key
from robot_wm.data.lerobot_writer import LeRobotWriter

COMMAND = "controller.command"  # asked of the robot; ACTION is what was really sent
HELD = "controller.held"  # index into runtime.safety.INTERVENTIONS of the guard that made the robot hold, -1 for none
CLOCK = "robot.time_s"  # the frame's time on the robot's own clock


def write_dataset(path: Path, episodes: Sequence[FlightEpisode], spec: ControllerSpec, task: str) -> None:
    """Write `episodes` to a LeRobot dataset at the control rate, one row per tick.

    A conversion that was interrupted goes on after its last whole episode. An episode that was cut short is data like
    any other.

    Raises:
        UserError: no episodes.
    """
    camera, command = image_key(spec.camera), spec.command
    size = (spec.height, spec.width, 3)
    features = {
        camera: Feature("video", size, ("height", "width", "channels")),
        STATE: Feature("float32", (len(spec.proprio),), spec.proprio),
        ACTION: Feature("float32", (command.dim,), command.names),
        COMMAND: Feature("float32", (command.dim,), command.names),
        HELD: Feature("int64", (1,)),
        CLOCK: Feature("float64", (1,)),
    }
    with LeRobotWriter(path, command.control_rate_hz, features, spec.embodiment) as writer:
        for episode in episodes[writer.num_episodes :]:
            rows = episode.rows_L
            columns = {
                STATE: rows["state"],
                ACTION: rows["action"].astype(np.float32),
                COMMAND: rows["command"].astype(np.float32),
                HELD: rows["held"].astype(np.int64),
                CLOCK: rows["time_s"],
            }
            writer.add_episode(columns, {camera: rows["frame"]}, task)
