"""Which rows of a recording are kept at the model's rate."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_wm import console


@dataclass(frozen=True)
class Grid:
    """The rows nearest to multiples of `stride` rows.

    Attributes:
        every: rows from one kept row to the next, as a whole number.
        stride: the same, exactly.
    """

    every: int
    stride: float

    @classmethod
    def of(cls, fps: float, step_s: float, name: str) -> "Grid":
        """Every n-th row where n steps fit within 10 %, else the rows nearest in time."""
        stride = fps * step_s
        every = max(1, round(stride))
        if stride < 0.9:
            console.say(f"{name}: {fps:g} Hz is slower than one frame per {step_s:g} s; every frame is used")
        return cls(every, float(every) if stride < 0.9 or abs(every / stride - 1) <= 0.1 else stride)

    def rows(self, length: int) -> NDArray[np.int64]:
        """Kept rows of an episode of `length` rows."""
        rows = np.rint(np.arange(length) * self.stride).astype(np.int64)
        return np.asarray(rows[rows < length])

    def chunks(self, length: int) -> NDArray[np.int64]:
        """Rows (R, every) of the chunk that starts at each kept row."""
        first = np.arange(len(self.rows(length)))[:, None]
        rows = np.rint((first + np.arange(self.every) / self.every) * self.stride).astype(np.int64)
        return np.asarray(np.minimum(rows, length - 1))
