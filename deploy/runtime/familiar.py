"""How far an image, and the outcome of a model step, are from all that calibration has seen."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.familiar import Familiar, Spread


class Expectations:
    """Compares a flight with the calibration log (see contracts.familiar). Both figures are 1 at its edge.

    Attributes:
        surprise: of the last image.
        miss: of the last model step: the worst entry of proprio. 0 until two model steps have gone by.
        expected_P, reached_P: proprio at its end, as it should be and as it is.
    """

    def __init__(self, familiar: Familiar, frame_skip: int):
        self._spread = Spread(np.asarray(familiar.mean), np.asarray(familiar.directions), familiar.rest)
        self._farthest = familiar.farthest
        self._step, self._worst = np.asarray(familiar.step), np.asarray(familiar.worst)
        self._sent: deque[NDArray[np.float64]] = deque(maxlen=2 * frame_skip)
        self._seen: deque[NDArray[np.float64]] = deque(maxlen=frame_skip + 1)
        self.forget()

    def forget(self) -> None:
        """A new flight, or a pause."""
        self._sent.clear()
        self._seen.clear()
        self.surprise = self.miss = 0.0
        self.expected_P = self.reached_P = np.zeros(0)

    def sent(self, command_U: NDArray[np.float64]) -> None:
        """A command; the tick that began with an observation is over."""
        self._sent.append(command_U)

    def look(self, latent_D: NDArray[np.float32]) -> float:
        """Take in an image; returns its surprise."""
        self.surprise = float(self._spread.distances(latent_D.astype(np.float64)[None])[0]) / self._farthest
        return self.surprise

    def reach(self, proprio_P: NDArray[np.float32]) -> float:
        """Take in what was measured at the start of a tick; returns by how much the last model step missed."""
        self._seen.append(proprio_P.astype(np.float64))
        if len(self._sent) < (self._sent.maxlen or 0) or len(self._seen) < (self._seen.maxlen or 0):
            return 0.0
        before = self._seen[0]
        self.expected_P = before + self._step @ np.concatenate([*self._sent, before, [1.0]])
        self.reached_P = self._seen[-1]
        self.miss = float(np.max(np.abs(self.reached_P - self.expected_P) / self._worst))
        return self.miss
