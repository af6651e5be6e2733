"""Which stretches of a video are worth learning from: shots without cuts, black or frozen parts."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.errors import UserError
from robot_wm.data.video import resize

Reason = Literal["", "black", "frozen", "short"]
_SMALL = (32, 32)  # looking at a small image ignores noise and costs next to nothing
_BINS = 8  # per colour channel


@dataclass(frozen=True)
class Screening:
    """What counts as a cut, and as nothing to see.

    Attributes:
        cut: share of the pixels whose colour must change between two frames for a cut, in (0, 1].
        black: mean brightness below which a frame is black, of 255.
        frozen_change: largest change of any small patch that still counts as none, of 255.
        frozen_s: a picture without change is tolerated this long [s].
        min_frames: shorter stretches are refused [frames].
    """

    cut: float = 0.5
    black: float = 10.0
    frozen_change: float = 3.0
    frozen_s: float = 1.0
    min_frames: int = 6

    def __post_init__(self) -> None:
        if not 0 < self.cut <= 1:
            raise UserError(f"cut is {self.cut}", "Give a share above 0 and up to 1")
        if self.min_frames < 2:
            raise UserError(f"min_frames is {self.min_frames}", "Give at least 2: a transition needs two frames")


@dataclass(frozen=True)
class Stretch:
    """Frames `start` up to `stop`, kept if `reason` is empty."""

    start: int
    stop: int
    reason: Reason


def stretches(frames_TYXC: NDArray[np.uint8], step_s: float, screening: Screening) -> list[Stretch]:
    """Divide consecutive frames, `step_s` apart, into stretches to keep and to refuse; together they are all frames."""
    small_TYXC = np.stack([resize(image_YXC, _SMALL) for image_YXC in frames_TYXC])
    refused = np.full(len(small_TYXC), "", dtype="U6")
    refused[_frozen(small_TYXC, step_s, screening)] = "frozen"
    refused[small_TYXC.mean(axis=(1, 2, 3)) < screening.black] = "black"
    changes = (refused[1:] != refused[:-1]) | _cuts(small_TYXC, screening.cut)
    edges = [0, *(np.flatnonzero(changes) + 1).tolist(), len(small_TYXC)]
    found = []
    for start, stop in pairwise(edges):
        reason: Reason = str(refused[start])  # type: ignore[assignment]
        found.append(Stretch(start, stop, reason or ("short" if stop - start < screening.min_frames else "")))
    return found


def _frozen(small_TYXC: NDArray[np.uint8], step_s: float, screening: Screening) -> NDArray[np.bool_]:
    """Frames that still show the picture of an earlier one, in runs longer than `frozen_s`.

    A run is measured against its first frame, from which slow motion departs, and flicker of compression does not.
    """
    wide_TYXC, frozen, start = small_TYXC.astype(np.int16), np.zeros(len(small_TYXC), dtype=np.bool_), 0
    for stop in range(1, len(wide_TYXC) + 1):
        if stop < len(wide_TYXC) and np.abs(wide_TYXC[stop] - wide_TYXC[start]).max() <= screening.frozen_change:
            continue
        frozen[start + 1 : stop] = (stop - start - 1) * step_s > screening.frozen_s
        start = stop
    return frozen


def _cuts(small_TYXC: NDArray[np.uint8], threshold: float) -> NDArray[np.bool_]:
    """Whether a cut lies between each frame and the next: half the L1 distance of their colour histograms."""
    bins, limits = [_BINS] * 3, [0, 256] * 3
    histograms = np.stack([cv2.calcHist([image], [0, 1, 2], None, bins, limits).ravel() for image in small_TYXC])
    moved = np.abs(np.diff(histograms, axis=0)).sum(axis=1) / 2
    return np.asarray(moved > threshold * _SMALL[0] * _SMALL[1])
