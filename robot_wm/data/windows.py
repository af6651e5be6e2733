"""Windows of consecutive frames, and the split into training and validation: by episode, never by window."""

import numpy as np
from numpy.typing import NDArray

from robot_wm.data.pack import Pack


def windows(pack: Pack, length: int, stride: int = 1) -> NDArray[np.int64]:
    """First frames (W,) of all windows of `length` frames, every `stride` frames, that stay inside one episode."""
    if length < 1 or stride < 1:
        raise ValueError(f"length {length} and stride {stride} must be positive")
    spans = zip(pack.starts[:-1], pack.starts[1:], strict=True)
    found = [np.arange(first, end - length + 1, stride, dtype=np.int64) for first, end in spans]
    return np.concatenate([np.empty(0, np.int64), *found])


def split(num_episodes: int, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Training and validation episodes, each ascending.

    Args:
        num_episodes: how many there are.
        fraction: share of validation, in [0, 1). If it is above 0, each side gets at least one of two or more episodes.
        seed: the same seed gives the same split.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction {fraction} is not in [0, 1)")
    num_validation = round(fraction * num_episodes)
    if fraction > 0:
        num_validation = min(max(num_validation, 1), num_episodes - 1)
    order = np.random.default_rng(seed).permutation(num_episodes)
    return np.sort(order[num_validation:]), np.sort(order[:num_validation])
