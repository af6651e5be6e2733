"""A log as a live robot: it shows what was recorded, and does what was recorded, whatever it is told."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.dataset import ACTION, STATE
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation
from robot_wm.data.lerobot import LeRobotDataset


class Replay:
    """The live Robot protocol over one episode of a LeRobot dataset.

    `write` lets one row pass and returns the logged command, because that is what was really sent. A controller sees
    the log exactly as the robot did, so that what it would have done can be compared row by row.

    Attributes:
        length: rows of the episode.
        goal_frame: its last frame.
        first_command_U: the first command, which stands for the unknown one before it.
    """

    def __init__(self, dataset: LeRobotDataset, episode: int, spec: ControllerSpec):
        """Read one episode.

        Raises:
            UserError: no such episode, or features that are not those of the controller's body.
        """
        if not 0 <= episode < dataset.num_episodes:
            raise UserError(f"episode {episode} does not exist", f"{dataset.path} has {dataset.num_episodes}")
        dataset.check_rate(spec.command.control_rate_hz, spec.embodiment)
        columns = dataset.columns(episode)
        self._state_LP = _column(dataset, columns, STATE, len(spec.proprio)).astype(np.float32)
        self._action_LU = _column(dataset, columns, ACTION, spec.command.dim).astype(np.float64)
        self._frames_LYXC = dataset.frames(episode, spec.camera, (spec.height, spec.width))
        self._period_s = 1 / dataset.info.fps
        self.length = len(self._action_LU)
        self.goal_frame: NDArray[np.uint8] = self._frames_LYXC[-1]
        self.first_command_U: NDArray[np.float64] = self._action_LU[0]
        self._row = 0

    def read(self) -> Observation:
        """The present row; the last one again when the log is over."""
        row = min(self._row, self.length - 1)
        return Observation(self._frames_LYXC[row], self._state_LP[row], row * self._period_s)

    def write(self, command_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """Let one row pass; returns the command of the log."""
        sent_U = self._action_LU[min(self._row, self.length - 1)].copy()
        self._row += 1
        return sent_U

    def now(self) -> float:
        """Time of the log [s]."""
        return self._row * self._period_s


def _column(dataset: LeRobotDataset, columns: dict[str, NDArray[Any]], key: str, size: int) -> NDArray[Any]:
    dataset.feature(key)
    values = columns[key].reshape(len(columns[key]), -1)
    if values.shape[1] != size:
        raise UserError(f"{dataset.path}: {key} has {values.shape[1]} entries", f"The controller's body has {size}")
    return values
