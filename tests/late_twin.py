"""A log of a twin with faults that are known, such as commands that are late, while it babbles."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from robot_wm.contracts.dataset import ACTION, STATE, Feature, image_key
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.data.lerobot_writer import LeRobotWriter
from sims import robots
from sims.truth import Truth
from sims.twin import Twin

Babble = Callable[[int, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def record_babble(path: Path, body: Embodiment, truth: Truth, episodes: int, rows: int, babble: Babble) -> Path:
    """Write the dataset; `babble(row, proprio_P, last_U, rng)` says what to command."""
    rng = np.random.default_rng(0)
    with robots.load(body) as simulation:
        twin, command, names = Twin(simulation, truth=truth), simulation.command, simulation.proprio_names
        camera = body.camera
        features = {
            image_key(camera.name): Feature("video", (camera.height, camera.width, 3), ("height", "width", "channels")),
            STATE: Feature("float32", (len(names),), names),
            ACTION: Feature("float32", (command.dim,), command.names),
        }
        with LeRobotWriter(path, body.control_rate_hz, features) as writer:
            for episode in range(episodes):
                simulation.reset(episode)
                twin.reset()
                frames, states, actions, wanted_U = [], [], [], simulation.reference()
                for row in range(rows):
                    seen = twin.read()
                    wanted_U = babble(row, seen.proprio_P, wanted_U, rng)
                    frames.append(seen.frame_YXC)
                    states.append(seen.proprio_P)
                    actions.append(twin.write(wanted_U))
                columns = {STATE: np.asarray(states, np.float32), ACTION: np.asarray(actions, np.float32)}
                writer.add_episode(columns, {image_key(camera.name): np.stack(frames)}, "babble")
        twin.close()
    return path
