"""The statistics that LeRobot keeps of every feature: per episode, and merged over a dataset."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Stats = dict[str, list[Any]]
NAMES = ("min", "max", "mean", "std", "count")
_SAMPLED = 32  # images per episode that image statistics are taken from


def of_rows(rows_LF: NDArray[Any]) -> Stats:
    """min, max, mean and std (F,) and count (1,) over the rows of one episode."""
    return of_columns({"": rows_LF})[""]


def of_columns(columns: Mapping[str, NDArray[Any]]) -> dict[str, Stats]:
    """The same of several columns (L, F): side by side, as a call of numpy costs more than a short episode."""
    values_LF = np.concatenate(list(columns.values()), axis=1, dtype=np.float64)
    found = {
        "min": values_LF.min(axis=0).tolist(),
        "max": values_LF.max(axis=0).tolist(),
        "mean": values_LF.mean(axis=0).tolist(),
        "std": values_LF.std(axis=0).tolist(),
    }
    stats: dict[str, Stats] = {}
    end = 0
    for key, column in columns.items():
        start, end = end, end + column.shape[1]
        stats[key] = {name: values[start:end] for name, values in found.items()} | {"count": [len(values_LF)]}
    return stats


def of_depth(depth_FYX: NDArray[np.uint16]) -> Stats:
    """The same over all pixels, shape (1, 1), in millimetres: one number per pixel would fill the list of episodes."""
    stats = of_rows(depth_FYX.reshape(-1, 1))
    return {name: [values] for name, values in stats.items()} | {"count": [len(depth_FYX)]}


def of_images(frames_FYXC: NDArray[np.uint8]) -> Stats:
    """The same per colour channel, in [0, 1] and shape (3, 1, 1), over at most 32 evenly spaced images."""
    if len(frames_FYXC) > _SAMPLED:
        frames_FYXC = frames_FYXC[np.linspace(0, len(frames_FYXC) - 1, _SAMPLED).astype(int)]
    tall_YXC = frames_FYXC.reshape(-1, *frames_FYXC.shape[2:])
    mean, std = cv2.meanStdDev(tall_YXC)
    low, high, _, _ = zip(*(cv2.minMaxLoc(channel_YX) for channel_YX in cv2.split(tall_YXC)), strict=True)
    stats = {"min": low, "max": high, "mean": mean, "std": std}
    shaped: Stats = {name: (np.reshape(v, (-1, 1, 1)) / 255).tolist() for name, v in stats.items()}
    return {**shaped, "count": [len(frames_FYXC)]}


def merged(episodes: Sequence[Mapping[str, Any]]) -> Stats:
    """Statistics of one feature over all episodes, from those of each: the spread of the means adds to the variance."""
    stacked = {name: np.array([e[name] for e in episodes], np.float64) for name in NAMES}
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
