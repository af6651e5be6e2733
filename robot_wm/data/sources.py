"""Recordings that a user brings (video, numbered images, LeRobot episodes) as clips at the model's rate and size."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.dataset import Feature
from robot_wm.contracts.errors import UserError
from robot_wm.data import images, video
from robot_wm.data.clips import VIDEO, Clip, Recording, Source, VideoFile, VideoSource, find_bars, picture_size
from robot_wm.data.grid import Grid
from robot_wm.data.lerobot import BOOKKEEPING, LeRobotDataset, is_numeric

_GAP = 1.5  # periods from one row to the next; more is a hole in the recording


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

    @property
    def remark(self) -> str:
        """Nothing: a camera's picture is kept whole."""
        return ""

    def expected_frames(self) -> int:
        """How many frames its clip will hold."""
        return len(self._rows())

    def clips(self) -> Iterator[Clip]:
        """The whole episode, divided where rows are missing."""
        times_s = self.dataset.times_s(self.episode)
        found = self.dataset.columns(self.episode, self.columns) if self.columns else {}
        task = next(iter(self.dataset.tasks(self.episode)), "")
        gaps = np.flatnonzero(np.diff(times_s) > _GAP / self.dataset.info.fps) + 1
        for first, stop in pairwise([0, *gaps.tolist(), len(times_s)]):
            rows = first + self.grid.rows(stop - first)
            videos = {key: self.dataset.frames_at(self.episode, rows, key, size) for key, size in self.sizes.items()}
            yield Clip(float(times_s[first]), videos, {key: found[key][rows] for key in self.columns}, task)

    def image_at(self, time_s: float) -> NDArray[np.uint8]:
        """The first camera's image nearest to a time [s]."""
        row = int(np.abs(self.dataset.times_s(self.episode) - time_s).argmin())
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


def from_videos(root: Path, size: int, step_s: float, images_fps: float) -> Intake:
    """A video file, or every video and run of numbered images of a folder, in the shape that most of them have.

    Raises:
        UserError: no such path, nothing to watch there, or nothing that can be read.
    """
    infos, unreadable = {}, {}
    for recording in _recordings(root, images_fps):
        try:
            info = recording.info()
            infos[recording.name] = (recording, info, find_bars(recording, info))
        except UserError as error:
            unreadable[recording.name] = error.problem
    if not infos:
        raise UserError(f"{root} holds no readable video ({next(iter(unreadable.values()))})", "Give other files")
    shapes = Counter(_scaled(*picture_size(info, bars), size) for _, info, bars in infos.values())
    shape = shapes.most_common(1)[0][0]
    sources = [VideoSource(recording, info, bars, step_s, shape) for recording, info, bars in infos.values()]
    return Intake(list(sources), unreadable, {VIDEO: Feature("video", (*shape, 3))}, 1 / step_s)


def _recordings(root: Path, images_fps: float) -> list[Recording]:
    if root.is_file():
        return [VideoFile(root.name, root)]
    sequences = images.find_sequences(root, images_fps) if root.is_dir() else []
    try:
        files = [VideoFile(path.relative_to(root).as_posix(), path) for path in video.list_videos(root)]
    except UserError:
        if not sequences:
            raise
        files = []
    return [*files, *sequences]


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
