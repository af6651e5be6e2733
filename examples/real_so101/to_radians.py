"""What `lerobot-record` writes of an SO-101, as robot-wm takes it: radians, and velocities beside positions.

    python examples/real_so101/to_radians.py RECORDED CONVERTED

LeRobot writes joints in degrees (`--robot.use_degrees=true`) and the gripper in percent of its range. Videos are taken
over at their own size, frame by frame.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import robot_wm
from robot_wm.contracts.dataset import ACTION, STATE, Feature
from robot_wm.contracts.errors import UserError
from robot_wm.data.lerobot_writer import LeRobotWriter

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
GRIPPER_RAD = (-0.1745, 1.7453)  # closed and open: the range of the MJCF's joint
LARGEST_DEG = 200.0  # of a joint; ticks or encoder counts go beyond


def to_radians(recorded_LU: NDArray[np.floating]) -> NDArray[np.float64]:
    """Degrees, and percent in the last column, to radians."""
    values = np.asarray(recorded_LU, dtype=np.float64)
    if values.shape[1] != len(JOINTS):
        raise UserError(
            f"the dataset has {values.shape[1]} joints", f"An SO-101 has {len(JOINTS)}: {', '.join(JOINTS)}"
        )
    if np.abs(values[:, :-1]).max(initial=0) > LARGEST_DEG:
        raise UserError(f"a joint reaches {np.abs(values[:, :-1]).max():.0f}", "Record with --robot.use_degrees=true")
    if np.abs(values[:, :-1]).max(initial=0) < np.pi + 0.1:
        raise UserError("no joint passes pi", "These seem to be radians already: use the dataset as it is")
    low, high = GRIPPER_RAD
    gripper = low + (high - low) * values[:, -1:] / 100
    return np.hstack([np.radians(values[:, :-1]), gripper])


def convert(recorded: Path, converted: Path) -> None:
    """Write `recorded` again, in radians.

    Raises:
        UserError: not a dataset, not an SO-101's, or in other units.
    """
    dataset = robot_wm.open_dataset(recorded)
    cameras = {key: f for key, f in dataset.info.features.items() if f.is_video}
    names = tuple(f"{joint}_{kind}" for kind in ("position", "velocity") for joint in JOINTS)
    features = {STATE: Feature("float32", (len(names),), names), ACTION: Feature("float32", (len(JOINTS),), JOINTS)}
    with LeRobotWriter(converted, dataset.info.fps, cameras | features, "so101_desk") as writer:
        for episode in range(dataset.num_episodes):
            columns = dataset.columns(episode, [STATE, ACTION])
            position = to_radians(columns[STATE])
            velocity = np.gradient(position, 1 / dataset.info.fps, axis=0)
            frames = {key: dataset.frames(episode, key) for key in cameras}
            written = {STATE: np.hstack([position, velocity]).astype(np.float32), ACTION: to_radians(columns[ACTION])}
            writer.add_episode(written, frames, next(iter(dataset.tasks(episode)), ""))
            print(f"episode {episode + 1} of {dataset.num_episodes}")


if __name__ == "__main__":
    try:
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except IndexError:
        sys.exit("usage: to_radians.py RECORDED CONVERTED")
    except UserError as error:
        sys.exit(f"error: {error}")
