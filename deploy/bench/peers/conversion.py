"""Our log in stable-worldmodel's own format: one HDF5 file, a row per control tick, frames bit for bit."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.transitions import Transitions
from robot_wm.contracts.errors import UserError


def episodes(log: Transitions) -> Iterator[dict[str, NDArray[Any]]]:
    """Every episode as columns: pixels (L, Y, X, 3) uint8, action (L, U) in plan units, proprio (L, P).

    The last row's action is NaN, as theirs are where an episode ends: nothing shows its effect.
    """
    action_FU = actions(log)
    for episode in np.unique(log.episode_F):
        rows = log.episode_F == episode
        yield {"pixels": log.frames_FYXC[rows], "action": action_FU[rows], "proprio": log.proprio_FP[rows]}


def actions(log: Transitions) -> NDArray[np.float32]:
    """The command of every row in plan units (F, U), from the chunks of the rows before; NaN where none shows it."""
    found = np.full((len(log.episode_F), log.chunks_FKU.shape[2]), np.nan, np.float32)
    whole = np.flatnonzero(np.isfinite(log.chunks_FKU).all(axis=(1, 2)))
    for tick in range(log.skip):
        found[whole + tick] = log.chunks_FKU[whole, tick]
    return found


def write_and_check(log: Transitions, path: Path) -> Path:
    """Write the file with their writer, read every episode back with their reader, and compare.

    Raises:
        UserError: they give back anything else than was written.
    """
    from stable_worldmodel.data import HDF5Dataset, HDF5Writer  # type: ignore[import-not-found]

    if path.is_file():
        return path
    half = path.with_suffix(f".{os.getpid()}.h5")  # two parts may write the same
    with HDF5Writer(half, mode="overwrite") as writer:
        writer.write_episodes(episodes(log))
    read = HDF5Dataset(path=half)
    for number, written in enumerate(episodes(log)):
        again = read.load_episode(number)
        pixels = again["pixels"].permute(0, 2, 3, 1).numpy()
        same = all(np.array_equal(again[k].numpy(), written[k], equal_nan=True) for k in ("action", "proprio"))
        if not same or not np.array_equal(pixels, written["pixels"]):
            raise UserError(f"episode {number} is not the same in stable-worldmodel's format", "Report this")
    half.replace(path)
    return path
