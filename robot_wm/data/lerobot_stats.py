"""The statistics that LeRobot keeps of every feature: per episode, and merged over a dataset."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Stats = dict[str, list[Any]]
_SAMPLED = 32  # images per episode that image statistics are taken from


def of_rows(rows_LF: NDArray[Any]) -> Stats:
    """min, max, mean and std (F,) and count (1,) over the rows of one episode."""
    return _moments(rows_LF.astype(np.float64), axis=0)


def of_images(frames_FYXC: NDArray[np.uint8]) -> Stats:
    """The same per colour channel, in [0, 1] and shape (3, 1, 1), over at most 32 evenly spaced images."""
    chosen = np.unique(np.linspace(0, len(frames_FYXC) - 1, min(_SAMPLED, len(frames_FYXC))).astype(int))
    channels_FCYX = np.moveaxis(frames_FYXC[chosen], -1, 1).astype(np.float32) / 255
    stats = _moments(channels_FCYX, axis=(0, 2, 3))
    return {name: v if name == "count" else np.reshape(v, (-1, 1, 1)).tolist() for name, v in stats.items()}


def merged(episodes: Sequence[Mapping[str, Any]]) -> Stats:
    """Statistics of one feature over all episodes, from those of each: means by count, variances by the law of total
    variance."""
    stacked = {name: np.array([e[name] for e in episodes], np.float64) for name in ("min", "max", "mean", "std", "count")}
    count = stacked["count"].reshape(-1, *([1] * (stacked["mean"].ndim - 1)))
    share = count / count.sum()
    mean = (share * stacked["mean"]).sum(axis=0)
    variance = (share * (stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2)).sum(axis=0)
    return {
        "min": stacked["min"].min(axis=0).tolist(),
        "max": stacked["max"].max(axis=0).tolist(),
        "mean": mean.tolist(),
        "std": np.sqrt(variance).tolist(),
        "count": [int(count.sum())],
    }


def _moments(values: NDArray[np.floating], axis: int | tuple[int, ...]) -> Stats:
    return {
        "min": values.min(axis=axis).tolist(),
        "max": values.max(axis=axis).tolist(),
        "mean": values.mean(axis=axis, dtype=np.float64).tolist(),
        "std": values.std(axis=axis, dtype=np.float64).tolist(),
        "count": [len(values)],
    }
