"""A dataset decoded once: frames at training size and the model's rate, their flow and columns, memory-mapped."""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.dataset import ACTION
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import dataset_folder
from robot_wm.data.flow import flow, moments, pool
from robot_wm.data.grid import Grid
from robot_wm.data.lerobot import BOOKKEEPING, LeRobotDataset, is_numeric

_SCHEMA = 1
_INDEX = "pack.json"
_COLUMN = "column/"
_SAVE_S = 10.0


@dataclass(frozen=True)
class PackSpec:
    """How a dataset is packed.

    Attributes:
        size: height and width of the packed frames [pixels]; other shapes are squeezed into the square.
        step_s: time from one packed frame to the next [s].
        flow_cells: flow is pooled to this many cells in height and width; divides `size`.
    """

    size: int = 64
    step_s: float = 0.2
    flow_cells: int = 16

    def __post_init__(self) -> None:
        if self.flow_cells < 1 or self.size < 16 or self.size % self.flow_cells:
            raise UserError(
                f"size {self.size} does not divide into {self.flow_cells} flow cells",
                "Take a size of at least 16 pixels and a divisor of it",
            )
        if not self.step_s > 0:
            raise UserError(f"step_s is {self.step_s}", "Give a positive time in seconds")


@dataclass(frozen=True)
class Pack:
    """F frames of E episodes, one after another, read from memory-mapped files.

    Attributes:
        frames_FYXC: uint8 RGB.
        flow_F: (F, cells, cells, 2) float16, flow (right, down) to the next frame [packed pixels], 0 at episode ends.
        moments_F: (F, 4) float32, see `flow.moments`.
        columns: numeric columns of the dataset at the packed frames, (F, ...). `action` is (F, every, U): the rows from
            each frame up to the next; where an episode ends inside a chunk, its last row is repeated.
        episode_F: episode of each frame.
        valid_F: whether the next frame is of the same episode: there is a transition, with flow and a whole chunk.
        starts: (E + 1,) first frame of each episode, and F.
        step_s: real time between packed frames [s].
        every: rows of the dataset from one packed frame to the next.
    """

    frames_FYXC: NDArray[np.uint8]
    flow_F: NDArray[np.float16]
    moments_F: NDArray[np.float32]
    columns: dict[str, NDArray[Any]]
    episode_F: NDArray[np.int32]
    valid_F: NDArray[np.bool_]
    starts: NDArray[np.int64]
    step_s: float
    every: int


def build_pack(
    dataset: Path, spec: PackSpec, cache: Path, camera: str | None = None, workers: int | None = None
) -> Pack:
    """Open the pack of a dataset; build it first if the cache has none, or only a damaged one.

    The cache is keyed by the content of the dataset, `spec` and `camera`. An interrupted build goes on with the
    episodes that are missing. Decoding, scaling and flow run in threads, because they spend their time in libraries
    that release the interpreter lock.

    Args:
        dataset: a LeRobot dataset, or the run that wrote one.
        spec: size, rate and flow cells.
        cache: folder for packs; made if absent.
        camera: which camera; the first one if None.
        workers: threads; one per core if None.

    Raises:
        UserError: the dataset cannot be read, or another process is building the same pack.
    """
    folder = dataset_folder(Path(dataset))
    identity = {"schema": _SCHEMA, "dataset": files.fingerprint(folder), **asdict(spec), "camera": camera}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    target = Path(cache) / key
    unfinished = target.with_suffix(".partial")
    if not _is_whole(target):
        source = LeRobotDataset(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_suffix(".lock")):
            if not _is_whole(target):  # another process may just have built it
                unfinished.mkdir(exist_ok=True)
                _build(source, spec, camera, unfinished, workers)
                if target.is_dir():
                    console.say(f"the cached pack {target} was damaged and has been built again")
                    shutil.rmtree(target)
                unfinished.rename(target)
    return _open(target)


def _build(source: LeRobotDataset, spec: PackSpec, camera: str | None, folder: Path, workers: int | None) -> None:
    """Fill the arrays in `folder`, of which an earlier attempt may have left some; write the index last."""
    grid = Grid.of(source.info.fps, spec.step_s, source.path.name)
    counts = np.array([len(grid.rows(source.episode_length(e))) for e in range(source.num_episodes)])
    starts = np.concatenate([[0], np.cumsum(counts)])
    done = _Done(folder / "done.npy", source.num_episodes)
    arrays = _allocate(_layout(source, spec, grid, int(starts[-1])), folder, done)
    fill = partial(_fill, source, spec, camera, grid, arrays, starts)
    with (
        ThreadPoolExecutor(workers or os.cpu_count() or 1) as threads,
        console.progress(f"pack {source.path.name}", int(starts[-1]), int(counts[done.flags_E].sum())) as bar,
    ):
        missing = np.flatnonzero(~done.flags_E).tolist()
        waiting = {threads.submit(fill, episode): episode for episode in missing}
        try:
            for future in as_completed(waiting):
                future.result()
                done.mark(waiting[future], arrays)
                bar.advance(int(counts[waiting[future]]))
        finally:
            threads.shutdown(wait=True, cancel_futures=True)
            done.save(arrays)
    listed = {name: {"file": Path(str(array.filename)).name} for name, array in arrays.items()}
    for entry in listed.values():
        entry["sha256"] = files.sha256(folder / entry["file"])
    index = {"arrays": listed, "starts": starts.tolist(), "every": grid.every, "step_s": grid.stride / source.info.fps}
    files.write_json(folder / _INDEX, index)


def _fill(
    source: LeRobotDataset,
    spec: PackSpec,
    camera: str | None,
    grid: Grid,
    arrays: dict[str, np.memmap],
    starts: NDArray[np.int64],
    episode: int,
) -> None:
    """Decode one episode into its slice of every array."""
    rows = grid.rows(source.episode_length(episode))
    place = slice(int(starts[episode]), int(starts[episode + 1]))
    transitions = slice(place.start, place.stop - 1)
    frames_TYXC = source.frames_at(episode, rows, camera, (spec.size, spec.size))
    pooled_T = pool(flow(frames_TYXC), spec.flow_cells)
    arrays["frames"][place] = frames_TYXC
    arrays["flow"][transitions] = pooled_T
    arrays["moments"][transitions] = moments(pooled_T)
    columns = source.columns(episode)
    for name in arrays.keys() & {_COLUMN + key for key in columns}:
        key = name.removeprefix(_COLUMN)
        arrays[name][place] = columns[key][grid.chunks(len(columns[key])) if key == ACTION else rows]


def _layout(
    source: LeRobotDataset, spec: PackSpec, grid: Grid, num_frames: int
) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and dtype of every array."""
    layout: dict[str, tuple[tuple[int, ...], Any]] = {
        "frames": ((num_frames, spec.size, spec.size, 3), np.uint8),
        "flow": ((num_frames, spec.flow_cells, spec.flow_cells, 2), np.float16),
        "moments": ((num_frames, 4), np.float32),
    }
    for key, feature in source.info.features.items():
        if is_numeric(feature) and key not in BOOKKEEPING:
            chunk = (grid.every,) if key == ACTION else ()
            layout[_COLUMN + key] = ((num_frames, *chunk, *feature.shape), feature.dtype)
    return {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in layout.items()}


class _Done:
    """Which episodes are safely in the arrays: saved every few seconds, always after the arrays themselves."""

    def __init__(self, path: Path, num_episodes: int):
        self._path, self._saved_s = path, time.monotonic()
        self.flags_E = np.zeros(num_episodes, dtype=np.bool_)
        with contextlib.suppress(OSError, ValueError, EOFError):
            self.flags_E |= np.load(path, allow_pickle=False)

    def forget(self) -> None:
        self.flags_E[:] = False
        self._path.unlink(missing_ok=True)

    def mark(self, episode: int, arrays: dict[str, np.memmap]) -> None:
        self.flags_E[episode] = True
        if time.monotonic() - self._saved_s > _SAVE_S:
            self.save(arrays)

    def save(self, arrays: dict[str, np.memmap]) -> None:
        for array in arrays.values():
            array.flush()
        buffer = io.BytesIO()
        np.save(buffer, self.flags_E, allow_pickle=False)
        files.write_atomic(self._path, buffer.getvalue())
        self._saved_s = time.monotonic()


def _allocate(
    layout: dict[str, tuple[tuple[int, ...], np.dtype[Any]]], folder: Path, done: _Done
) -> dict[str, np.memmap]:
    """The arrays that an interrupted build left, if all are there in the right shape; else new ones, all zero."""
    paths = {name: folder / f"{number:03d}.npy" for number, name in enumerate(layout)}
    with contextlib.suppress(OSError, ValueError, EOFError):
        found = {name: np.load(path, mmap_mode="r+", allow_pickle=False) for name, path in paths.items()}
        if all((a.shape, a.dtype) == layout[name] for name, a in found.items()):
            return found
    done.forget()
    arrays = {
        name: open_memmap(paths[name], mode="w+", dtype=dtype, shape=shape) for name, (shape, dtype) in layout.items()
    }
    for path in paths.values():
        _reserve(path)
    return arrays


def _reserve(path: Path) -> None:
    """Take the disk space of a sparse file now, as an OSError: writing to mapped memory on a full disk kills us."""
    if hasattr(os, "posix_fallocate"):  # Linux
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _is_whole(folder: Path) -> bool:
    """Whether there is a pack, with every array as its checksum says."""
    if not folder.is_dir():
        return False
    try:
        arrays = files.read_json(folder / _INDEX)["arrays"]
        return all(files.sha256(files.confine(folder, a["file"])) == a["sha256"] for a in arrays.values())
    except (UserError, OSError, KeyError, TypeError, AttributeError):
        return False


def _open(folder: Path) -> Pack:
    index = files.read_json(folder / _INDEX)
    arrays = {
        name: np.load(files.confine(folder, entry["file"]), mmap_mode="r", allow_pickle=False)
        for name, entry in index["arrays"].items()
    }
    starts = np.asarray(index["starts"], dtype=np.int64)
    valid_F = np.ones(len(arrays["frames"]), dtype=np.bool_)
    valid_F[starts[1:] - 1] = False
    return Pack(
        frames_FYXC=arrays["frames"],
        flow_F=arrays["flow"],
        moments_F=arrays["moments"],
        columns={k.removeprefix(_COLUMN): a for k, a in arrays.items() if k.startswith(_COLUMN)},
        episode_F=np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts)),
        valid_F=valid_F,
        starts=starts,
        step_s=float(index["step_s"]),
        every=int(index["every"]),
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file; waits while another process builds the same pack."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.say(f"waiting for another process that builds {path.stem}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
