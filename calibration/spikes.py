"""Measurements that no joint makes: alone or in pairs, far from what was measured before and after."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_FAR, _FLOOR = 8.0, 2e-3  # deviations from the neighbours [robust deviations; rad or m]
_SIDES = ((1, 1), (1, 2), (2, 1))  # rows before and after that are to be trusted: it is alone, or one of two


def find_spikes(position_NJ: Array, episode_N: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Measurements (N, J) far from those beside them, and not where the motion before or after was heading.

    A joint that strikes something turns within a sample: its highest point is far from the median around it, but short
    of where it was going.
    """
    spike = np.zeros(position_NJ.shape, bool)
    p = position_NJ
    middle = np.median(np.stack([p[:-4], p[1:-3], p[2:-2], p[3:-1], p[4:]]), axis=0)
    away = np.abs(p[2:-2] - middle)
    bound = np.maximum(_FAR * np.median(away, axis=0) / 0.6745, _FLOOR)
    bound = np.maximum(bound, 2 * np.quantile(away, 0.98, axis=0))  # fast motion is no spike
    same = episode_N[4:] == episode_N[:-4]  # all five neighbours of one episode
    for row, joint in np.argwhere((away > bound) & same[:, None]) + np.array([2, 0]):
        sides = [(k, m) for k, m in _SIDES if _within(episode_N, row - k - 1, row + m + 1)]
        spike[row, joint] = any(_out_of_line(p[:, joint], row, *each) for each in sides)
    return spike


def _within(episode_N: NDArray[np.int64], first: int, last: int) -> bool:
    return first >= 0 and last < len(episode_N) and bool(episode_N[first] == episode_N[last])


def _out_of_line(values: Array, row: int, before: int, after: int) -> bool:
    """Whether a value lies beyond its trusted neighbours and beyond the straight lines through either two of them."""
    left, right = values[row - before], values[row + after]
    ahead = left + before * (left - values[row - before - 1])
    behind = right + after * (right - values[row + after + 1])
    near = (left, right, ahead, behind)
    return not min(near) <= values[row] <= max(near)
