"""A dataset decoded once: frames at training size and the model's rate, their flow and columns, memory-mapped."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts import files
from robot_wm.contracts.dataset import ACTION, ARM, FOCAL, HAND, NEAREST, OBJECT, position_key
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import dataset_folder
from robot_wm.data import cache as caches
from robot_wm.data.flow import flow, moments, pool
from robot_wm.data.grid import Grid
from robot_wm.data.lerobot import BOOKKEEPING, LeRobotDataset, is_numeric

_SCHEMA = 2
_COLUMN = "column/"
_FLOW_PX = 64  # side of the frames that flow is computed on: it is pooled to cells afterwards
_ROWS_TOGETHER = 1024  # short episodes that make so many rows are read in one go
_MOST_THREADS = 16  # more of them wait for the interpreter
POSITIONS = (HAND, OBJECT, NEAREST, ARM, FOCAL)


@dataclass(frozen=True)
class PackSpec:
    """How a dataset is packed.

    Attributes:
        size: height and width of the packed frames [pixels]; other shapes are squeezed into the square.
        step_s: time from one packed frame to the next [s].
        flow_cells: flow is pooled to this many cells in height and width; divides `size`. 0: no flow.
        columns: names of the columns to pack, where the dataset has them; no other is read. None: all numeric ones.
    """

    size: int = 64
    step_s: float = 0.2
    flow_cells: int = 16
    columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.flow_cells < 0 or self.size < 16 or (self.flow_cells and self.size % self.flow_cells):
            raise UserError(
                f"size {self.size} does not divide into {self.flow_cells} flow cells",
                "Take a size of at least 16 pixels and a divisor of it",
            )
        if not self.step_s > 0:
            raise UserError(f"step_s is {self.step_s}", "Give a positive time in seconds")


@dataclass(frozen=True)
class Pack:
    """F frames of one camera in E episodes, one after another, read from memory-mapped files.

    Attributes:
        frames_FYXC: uint8 RGB.
        flow_F: (F, cells, cells, 2) float16, flow (right, down) to the next frame [packed pixels], 0 at episode ends.
        moments_F: (F, 4) float32, see `flow.moments`.
        columns: numeric columns of the dataset at the packed frames, (F, ...). `action` is (F, every, U): the rows from
            each frame up to the next; where an episode ends inside a chunk, its last row is repeated. Positions are in
            this camera's frame.
        episode_F: episode of each frame.
        valid_F: whether the next frame is of the same episode: there is a transition, with flow and a whole chunk.
        starts: (E + 1,) first frame of each episode, and F.
        step_s: real time between packed frames [s].
        every: rows of the dataset from one packed frame to the next.
        dataset: fingerprint of the dataset; packs of its cameras share it.
        camera: whose frames these are.
        embodiment: the body, as the dataset names it.
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
    dataset: str = ""
    camera: str = ""
    embodiment: str = "unknown"


def build_pack(
    dataset: Path, spec: PackSpec, cache: Path, camera: str | None = None, workers: int | None = None
) -> Pack:
    """Open the pack of a dataset; build it first if the cache has none, and mend one that is damaged.

    The cache is keyed by the content of the dataset, `spec` and `camera`. An interrupted build goes on with the
    episodes that are missing. Decoding, scaling and flow run in threads, because they spend their time in libraries
    that release the interpreter lock.

    Args:
        dataset: a LeRobot dataset, or the run that wrote one.
        spec: size, rate, flow cells and columns.
        cache: folder for packs; made if absent.
        camera: which camera; the first one if None.
        workers: threads; one per core, at most 16, if None.

    Raises:
        UserError: the dataset cannot be read, or has no such camera.
    """
    folder = dataset_folder(Path(dataset))
    source = LeRobotDataset(folder)
    camera = _camera(source, camera)
    fingerprint = files.fingerprint(folder)
    identity = {"schema": _SCHEMA, "dataset": fingerprint, **asdict(spec), "camera": camera}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    grid = Grid.of(source.info.fps, spec.step_s, source.path.name)
    counts = [len(grid.rows(source.episode_length(e))) for e in range(source.num_episodes)]
    starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    read = _columns(source, spec, camera)
    plan = caches.Plan(_layout(source, spec, grid, read, int(starts[-1])), starts, {})
    workers = workers or min(_MOST_THREADS, os.cpu_count() or 1)
    lengths = np.array([source.episode_length(e) for e in range(source.num_episodes)])
    together = np.clip(lengths.sum() // (4 * workers), 1, _ROWS_TOGETHER)
    groups = (np.cumsum(lengths) - lengths) // together
    with _one_thread_each():
        fill = partial(_fill, source, spec, camera, grid, read)
        title = f"pack {source.path.name} {camera}"
        stored = caches.obtain(Path(cache) / key, plan, fill, workers, title, groups)
    valid_F = np.ones(int(starts[-1]), dtype=np.bool_)
    valid_F[starts[1:] - 1] = False
    return Pack(
        frames_FYXC=stored.arrays["frames"],
        flow_F=stored.arrays.get("flow", np.zeros((len(valid_F), 0, 0, 2), np.float16)),
        moments_F=stored.arrays.get("moments", np.zeros((len(valid_F), 4), np.float32)),
        columns={k.removeprefix(_COLUMN): a for k, a in stored.arrays.items() if k.startswith(_COLUMN)},
        episode_F=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        valid_F=valid_F,
        starts=starts,
        step_s=grid.stride / source.info.fps,
        every=grid.every,
        dataset=fingerprint,
        camera=camera,
        embodiment=source.robot_type,
    )


def build_views(dataset: Path, spec: PackSpec, cache: Path, workers: int | None = None) -> tuple[Pack, ...]:
    """One pack per camera of a dataset: the same moments, frame for frame."""
    cameras = LeRobotDataset(dataset_folder(Path(dataset))).info.cameras
    if not cameras:
        raise UserError(f"{dataset} has no camera", "Give a dataset with video")
    return tuple(build_pack(dataset, spec, cache, camera, workers) for camera in cameras)


def _camera(source: LeRobotDataset, camera: str | None) -> str:
    """The plain name of a camera, which may be given as a feature."""
    cameras = source.info.cameras
    name = cameras[0] if camera is None and cameras else str(camera).removeprefix("observation.images.")
    if name not in cameras:
        raise UserError(f"{source.path} has no camera {camera!r}", f"It has: {', '.join(cameras) or 'no images'}")
    return name


def _columns(source: LeRobotDataset, spec: PackSpec, camera: str) -> dict[str, str]:
    """What each packed column is called in the dataset: positions are those in the frame of the camera."""
    cameras, features = source.info.cameras, source.info.features
    elsewhere = {position_key(key, other, cameras) for key in POSITIONS for other in cameras}
    names = {key: key for key in features if key not in elsewhere and key not in BOOKKEEPING}
    names |= {key: position_key(key, camera, cameras) for key in POSITIONS}
    wanted = names if spec.columns is None else {key: names[key] for key in spec.columns if key in names}
    return {key: name for key, name in wanted.items() if name in features and is_numeric(features[name])}


def _layout(
    source: LeRobotDataset, spec: PackSpec, grid: Grid, read: dict[str, str], num_frames: int
) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and dtype of every array."""
    layout: dict[str, tuple[tuple[int, ...], Any]] = {"frames": ((num_frames, spec.size, spec.size, 3), np.uint8)}
    if spec.flow_cells:
        layout["flow"] = ((num_frames, spec.flow_cells, spec.flow_cells, 2), np.float16)
        layout["moments"] = ((num_frames, 4), np.float32)
    for key, name in read.items():
        feature, chunk = source.info.features[name], (grid.every,) if key == ACTION else ()
        layout[_COLUMN + key] = ((num_frames, *chunk, *feature.shape), feature.dtype)
    return {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in layout.items()}


def _fill(
    source: LeRobotDataset,
    spec: PackSpec,
    camera: str,
    grid: Grid,
    read: dict[str, str],
    place: dict[str, NDArray[Any]],
    episodes: list[int],
) -> None:
    """Decode consecutive episodes into their slice of every array."""
    own = source.apart()
    rows = [grid.rows(own.episode_length(episode)) for episode in episodes]
    first = 0
    for episode, kept, frames_TYXC in zip(
        episodes, rows, own.frames_of(episodes, rows, camera, (spec.size, spec.size), place["frames"]), strict=True
    ):
        part = {name: array[first : first + len(kept)] for name, array in place.items()}
        first += len(kept)
        if spec.flow_cells:
            pooled_T, moments_T4 = motion(frames_TYXC, spec.flow_cells)
            part["flow"][:-1], part["flow"][-1] = pooled_T, 0
            part["moments"][:-1], part["moments"][-1] = moments_T4, 0
        columns = own.columns(episode, read.values()) if read else {}
        for key, name in read.items():
            part[_COLUMN + key][:] = columns[name][grid.chunks(len(columns[name])) if key == ACTION else kept]


def motion(frames_TYXC: NDArray[np.uint8], cells: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Flow to the next frame pooled to cells, (T - 1, cells, cells, 2), and its moments [pixels of the frames].

    Flow is computed on frames of about 64 pixels: at 128 it takes four times as long and, pooled, says no more.
    """
    size = frames_TYXC.shape[1]
    small = min(size, cells * max(1, _FLOW_PX // cells))
    if small < size:
        frames_TYXC = np.stack([cv2.resize(f, (small, small), interpolation=cv2.INTER_AREA) for f in frames_TYXC])
    pooled_T, scale = pool(flow(frames_TYXC), cells), np.float32(size / small)
    return pooled_T * scale, moments(pooled_T) * np.array([scale, scale, 1, 1], np.float32)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """OpenCV in one thread per call: the calls run in parallel already."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
