"""Recordings that a user brings (video files, LeRobot episodes) as clips at the model's rate and size."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.dataset import Feature, image_key
from robot_wm.contracts.errors import UserError
from robot_wm.data import video
from robot_wm.data.grid import Grid
from robot_wm.data.lerobot import BOOKKEEPING, LeRobotDataset, is_numeric

VIDEO = image_key("video")
_BLOCK = 600  # frames of a long video that are held in memory at once
_SLOWEST = 0.9  # of the wanted rate


@dataclass(frozen=True)
class Clip:
    """Consecutive frames: video feature → (T, Y, X, 3), column → (T, ...), and when the first one was shown [s]."""

    start_s: float
    videos: Mapping[str, NDArray[np.uint8]]
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    task: str = ""

    @property
    def num_frames(self) -> int:
        """T."""
        return len(next(iter(self.videos.values())))


class Source(Protocol):
    """One recording."""

    @property
    def name(self) -> str:
        """As it is called in reports."""
        ...

    def expected_frames(self) -> int:
        """About how many frames its clips will hold."""
        ...

    def clips(self) -> Iterator[Clip]:
        """Its clips in order; raises UserError where it cannot be read on."""
        ...

    def image_at(self, time_s: float) -> NDArray[np.uint8]:
        """The image (Y, X, 3) shown at a time [s]."""
        ...


@dataclass(frozen=True)
class VideoSource:
    """A video file; `size` is the (height, width) that its frames are scaled to cover, then cropped to."""

    path: Path
    name: str
    info: video.VideoInfo
    step_s: float
    size: tuple[int, int]

    def expected_frames(self) -> int:
        """About how many frames its clips will hold."""
        return round(self.info.frames / max(self.info.fps, 1e-6) / self.step_s)

    def clips(self) -> Iterator[Clip]:
        """Blocks of frames, `step_s` apart; a gap in the recording starts a new block."""
        if self.info.fps < _SLOWEST / self.step_s:
            raise UserError(f"{self.path} has {self.info.fps:g} frames/s", f"At least {1 / self.step_s:g} are needed")
        images: list[NDArray[np.uint8]] = []
        start_s, problem = 0.0, None
        try:
            for frame, first in self._picked():
                if images and (first or len(images) == _BLOCK):
                    yield Clip(start_s, {VIDEO: np.stack(images)})
                    images = []
                if not images:
                    start_s = frame.time_s
                images.append(self._fit(frame))
        except UserError as error:  # what came before the break is still good
            problem = error
        if images:
            yield Clip(start_s, {VIDEO: np.stack(images)})
        if problem:
            raise problem

    def _picked(self) -> Iterator[tuple[video.Frame, bool]]:
        """Frames nearest to multiples of `step_s`, none twice, and whether a gap or nothing lies before each."""
        first_s, count = 0.0, 0
        before: video.Frame | None = None
        taken: video.Frame | None = None
        for frame in video.stream(self.path):
            if before is not None and frame.time_s <= before.time_s:
                continue
            if before is None or frame.time_s - before.time_s > 1.5 * self.step_s:
                first_s, count = frame.time_s, 0
            wanted_s = first_s + count * self.step_s
            if frame.time_s >= wanted_s - video.TOLERANCE_S:
                unused = before if before is not taken else None
                taken = unused if unused and wanted_s - unused.time_s < frame.time_s - wanted_s else frame
                yield taken, count == 0
                count += 1
            before = frame

    def image_at(self, time_s: float) -> NDArray[np.uint8]:
        """The first image at or after a time [s]."""
        for frame in video.stream(self.path, time_s):
            if frame.time_s >= time_s - video.TOLERANCE_S:
                return self._fit(frame)
        raise UserError(f"{self.path} ends before {time_s:.2f} s", "Record or download it again")

    def _fit(self, frame: video.Frame) -> NDArray[np.uint8]:
        scale = max(self.size[0] / self.info.height, self.size[1] / self.info.width)
        height = max(self.size[0], round(self.info.height * scale))
        width = max(self.size[1], round(self.info.width * scale))
        top, left = (height - self.size[0]) // 2, (width - self.size[1]) // 2
        image_YXC = frame.rgb((height, width))
        return np.ascontiguousarray(image_YXC[top : top + self.size[0], left : left + self.size[1]])


@dataclass(frozen=True)
class EpisodeSource:
    """One episode of a LeRobot dataset: each camera scaled to its size in `sizes`, columns at the kept rows."""

    dataset: LeRobotDataset
    episode: int
    grid: Grid
    sizes: Mapping[str, tuple[int, int]]
    columns: tuple[str, ...]

    @property
    def name(self) -> str:
        """As it is called in reports."""
        return f"episode {self.episode}"

    def expected_frames(self) -> int:
        """How many frames its clip will hold."""
        return len(self._rows())

    def clips(self) -> Iterator[Clip]:
        """The whole episode."""
        rows = self._rows()
        found = self.dataset.columns(self.episode) if self.columns else {}
        columns = {key: found[key][rows] for key in self.columns}
        videos = {key: self.dataset.frames_at(self.episode, rows, key, size) for key, size in self.sizes.items()}
        yield Clip(0.0, videos, columns, next(iter(self.dataset.tasks(self.episode)), ""))

    def image_at(self, time_s: float) -> NDArray[np.uint8]:
        """The first camera's image nearest to a time [s]."""
        last = self.dataset.episode_length(self.episode) - 1
        row = min(round(time_s * self.dataset.info.fps), last)
        key, size = next(iter(self.sizes.items()))
        return np.asarray(self.dataset.frames_at(self.episode, np.array([row]), key, size)[0])

    def _rows(self) -> NDArray[np.int64]:
        return self.grid.rows(self.dataset.episode_length(self.episode))


@dataclass(frozen=True)
class Intake:
    """What was found: readable sources, the rest with the reason, and the features that their clips have."""

    sources: list[Source]
    unreadable: dict[str, str]
    features: dict[str, Feature]
    fps: float
    robot_type: str = "unknown"


def from_videos(root: Path, size: int, step_s: float) -> Intake:
    """A video file, or every video of a folder, in the shape that most of them have.

    Raises:
        UserError: no such path, no video there, or none that can be read.
    """
    paths = [root] if root.is_file() else video.list_videos(root)
    infos, unreadable = {}, {}
    for path in paths:
        name = path.name if path == root else path.relative_to(root).as_posix()
        try:
            infos[name] = (path, video.probe(path))
        except UserError as error:
            unreadable[name] = error.problem
    if not infos:
        raise UserError(f"{root} holds no readable video ({next(iter(unreadable.values()))})", "Give other files")
    shapes = Counter(_scaled(info.height, info.width, size) for _, info in infos.values())
    shape = shapes.most_common(1)[0][0]
    sources = [VideoSource(path, name, info, step_s, shape) for name, (path, info) in infos.items()]
    return Intake(list(sources), unreadable, {VIDEO: Feature("video", (*shape, 3))}, 1 / step_s)


def from_dataset(root: Path, size: int, step_s: float, keep_labels: bool) -> Intake:
    """The episodes of a LeRobot dataset, with all its cameras.

    Raises:
        UserError: not a readable dataset, or one without images.
    """
    dataset = LeRobotDataset(root)
    keys = [key for key, feature in dataset.info.features.items() if feature.is_video]
    if not keys:
        raise UserError(f"{root} has no camera", "Give a dataset with video")
    grid = Grid.of(dataset.info.fps, step_s, root.name)
    sizes = {key: _scaled(*_camera_size(dataset, key), size) for key in keys}
    columns = {k: f for k, f in dataset.info.features.items() if is_numeric(f) and k not in BOOKKEEPING}
    kept = columns if keep_labels else {}
    features = {key: Feature("video", (*shape, 3)) for key, shape in sizes.items()} | kept
    episodes = range(dataset.num_episodes)
    sources = [EpisodeSource(dataset, episode, grid, sizes, tuple(kept)) for episode in episodes]
    return Intake(list(sources), {}, features, dataset.info.fps / grid.stride, dataset.robot_type)


def _camera_size(dataset: LeRobotDataset, key: str) -> tuple[int, int]:
    """Of the first episode that can be read."""
    reasons = []
    for episode in range(dataset.num_episodes):
        try:
            height, width = dataset.frames_at(episode, np.array([0]), key).shape[1:3]
        except UserError as error:
            reasons.append(error.problem)
        else:
            return height, width
    raise UserError(f"{dataset.path}: no episode of {key} can be read ({reasons[0]})", "Download the dataset again")


def _scaled(height: int, width: int, size: int) -> tuple[int, int]:
    """Short side `size`, never enlarged, both even so that every player shows the result."""
    scale = min(1.0, size / min(height, width))
    return max(2, 2 * round(height * scale / 2)), max(2, 2 * round(width * scale / 2))
