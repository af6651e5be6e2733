"""Black bars around a picture: cinema films, screen recordings and telephones add them, and none of it is the world."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLACK = 16  # of 255; compression leaves some noise in a bar
_BRIGHT_SHARE = 0.02  # of a line may be brighter: a logo's edge, noise
_LEAST, _MOST = 0.02, 0.45  # of the picture, for each of the two bars
_UNEQUAL = 0.05  # of the picture: bars come in pairs, a dark floor does not


@dataclass(frozen=True)
class Bars:
    """Widths of the black bars on the four sides [pixels]."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    @classmethod
    def of(cls, frames: Sequence[NDArray[np.uint8]]) -> "Bars":
        """What stays black in all of the given images (Y, X, 3), above and below or left and right alike."""
        if not frames:
            return cls()
        brightest_YX = np.max([image_YXC.max(axis=2) for image_YXC in frames], axis=0)
        return cls(*_pair(brightest_YX), *_pair(brightest_YX.T))

    def crop(self, image_YXC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture between the bars."""
        height, width = image_YXC.shape[:2]
        return image_YXC[self.top : height - self.bottom, self.left : width - self.right]

    def __bool__(self) -> bool:
        return self != Bars()


def _pair(brightest_YX: NDArray[np.uint8]) -> tuple[int, int]:
    """Bars at the first and the last rows."""
    lit = np.flatnonzero((brightest_YX > _BLACK).mean(axis=1) > _BRIGHT_SHARE)
    if not len(lit):
        return 0, 0
    size = len(brightest_YX)
    first, last = int(lit[0]), int(size - 1 - lit[-1])
    paired = min(first, last) >= _LEAST * size and abs(first - last) <= _UNEQUAL * size
    return (first, last) if paired and max(first, last) <= _MOST * size else (0, 0)
