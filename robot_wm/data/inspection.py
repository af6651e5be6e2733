"""A dataset looked over: what is in it, and what is wrong with it. Nothing stops at the first fault."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_wm import console
from robot_wm.contracts.dataset import ACTION, STATE, is_depth
from robot_wm.contracts.errors import UserError
from robot_wm.data import checks, video
from robot_wm.data.checks import Clock, Joint, Places, Problem, many
from robot_wm.data.depths import Depth, look
from robot_wm.data.grid import Grid
from robot_wm.data.lerobot import BOOKKEEPING, LeRobotDataset, is_numeric
from robot_wm.data.lerobot_meta import confined
from robot_wm.data.shots import Screening, stretches

_LOOK_S = 0.2  # between the images that are compared
_LOOK_SIZE = (64, 64)
_FREEZE = Screening(frozen_change=6.0, frozen_s=1.0, min_frames=2)  # compression makes a still picture flicker
_MOVED = 0.1  # of its range: a joint that went further was moving
_MOST_ENTRIES = 256  # a feature with more is no joint
_LEAST_S = 1.0


@dataclass(frozen=True)
class Camera:
    """One camera: the feature's name, size of its pictures [px], how they are stored, and the frame rate [Hz]."""

    key: str
    height: int
    width: int
    codec: str
    fps: float


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        robot: its name, as the owner wrote it.
        fps: promised rows per second [Hz]; `measured_fps` is what the time stamps say.
        lengths: rows of each episode.
        tasks: text → number of episodes.
        depths: of the cameras that have it.
        joints: entries of the numeric features.
        watched: episodes whose pictures were looked at.
        problems: severe ones first.
    """

    path: Path
    version: str
    robot: str
    fps: float
    measured_fps: float
    lengths: tuple[int, ...]
    tasks: dict[str, int]
    cameras: tuple[Camera, ...]
    depths: tuple[Depth, ...]
    joints: tuple[Joint, ...]
    watched: tuple[int, ...]
    problems: tuple[Problem, ...]


def inspect(path: Path, watch: int = 24) -> Inspection:
    """Look over a whole dataset, and at the pictures of `watch` episodes, evenly chosen.

    Raises:
        UserError: there is no dataset, or its list of episodes cannot be read.
    """
    dataset = LeRobotDataset(path, strict=False)
    rows = _Rows(dataset)
    for episode in console.track(range(dataset.num_episodes), "rows"):
        rows.add(episode)
    joints = rows.joints()
    watched = _evenly(dataset.num_episodes, watch)
    problems = _of_counts(dataset) + rows.problems() + checks.of_joints(joints)
    problems += checks.of_not_finite(joints, rows.not_finite)
    problems += _of_statistics(dataset, joints) + _of_videos(dataset, rows.wanted_s) + _of_pictures(dataset, watched)
    depths, of_depths = look(dataset, watched)
    problems += of_depths
    periods_s = [period for period in rows.clock.periods_s if period > 0]
    return Inspection(
        path=Path(path), version=dataset.info.version, robot=dataset.robot_type, fps=dataset.info.fps,
        measured_fps=1 / float(np.median(periods_s)) if periods_s else 0.0,
        lengths=tuple(dataset.episode_length(e) for e in range(dataset.num_episodes)),
        tasks=dict(Counter(task for e in range(dataset.num_episodes) for task in dataset.tasks(e))),
        cameras=tuple(_cameras(dataset)), depths=tuple(depths), joints=tuple(joints), watched=tuple(watched),
        problems=tuple(sorted((_short(p, dataset.path) for p in problems), key=lambda problem: not problem.severe)),
    )  # fmt: skip


def _short(problem: Problem, root: Path) -> Problem:
    """Files named from the dataset's folder on."""
    return replace(problem, text=problem.text.replace(f"{root.resolve()}/", "").replace(f"{root}/", ""))


class _Rows:
    """What the parquet files hold, episode by episode.

    Attributes:
        clock: the time stamps.
        wanted_s: (camera, video file) → for each of its episodes, when a frame must be there [s].
        not_finite: feature → where it is NaN or infinite.
    """

    def __init__(self, dataset: LeRobotDataset):
        self._dataset = dataset
        features = dataset.info.features.items()
        self._numbers = [
            k
            for k, f in features
            if is_numeric(f) and k not in BOOKKEEPING and np.prod(f.shape) <= _MOST_ENTRIES and not is_depth(k)
        ]
        self._values: dict[str, list[NDArray[Any]]] = {key: [] for key in self._numbers}
        self._unreadable, self._reason = Places(), ""
        self._alike: dict[str, list[int]] = defaultdict(list)
        self.clock = Clock(dataset.info.fps)
        self.not_finite: dict[str, Places] = defaultdict(Places)
        self.wanted_s: dict[tuple[str, str], list[NDArray[np.float64]]] = defaultdict(list)

    def add(self, episode: int) -> None:
        """Read one episode; one that cannot be read is remembered."""
        try:
            columns = self._dataset.columns(episode, ["timestamp", *self._numbers])
        except UserError as error:
            self._unreadable.add(episode, 1)
            self._reason = self._reason or error.problem
            return
        times_s = columns["timestamp"].astype(np.float64)
        self.clock.add(episode, times_s)
        digest = hashlib.sha256()
        for key in self._numbers:
            self._values[key].append(columns[key].reshape(len(times_s), -1))
            digest.update(columns[key].tobytes())
            if bad := int((~np.isfinite(self._values[key][-1])).any(axis=1).sum()):
                self.not_finite[key].add(episode, bad)
        if self._numbers:
            self._alike[digest.hexdigest()].append(episode)
        for key in (k for k, f in self._dataset.info.features.items() if f.is_video):
            place = self._dataset.video_place(episode, key)
            if place is not None:
                self.wanted_s[key, place.file].append(place.start_s + self._dataset.times_s(episode))

    def joints(self) -> list[Joint]:
        """Every entry of every numeric feature, measured over all episodes."""
        found = []
        for key, parts in self._values.items():
            if not parts:
                continue
            names = self._dataset.info.features[key].names or ()
            columns_F = np.concatenate(parts).T
            for index, column in enumerate(columns_F):
                name = names[index] if len(names) == len(columns_F) else f"[{index}]"
                found.append(Joint.of(key, name, column))
        return found

    def problems(self) -> list[Problem]:
        """Episodes that cannot be read, that repeat each other, or whose time stamps are wrong."""
        found = self.clock.problems()
        if self._unreadable.rows:
            text = f"{self._unreadable.rows} of {self._dataset.num_episodes} episodes cannot be read: {self._reason}"
            found.append(Problem("unreadable", True, text, "Download or convert the dataset again"))
        alike = [episodes for episodes in self._alike.values() if len(episodes) > 1]
        if alike:
            shown = ", ".join(map(str, alike[0][:4]))
            text = (
                f"{many(sum(map(len, alike)) - len(alike), 'episode')} with the same rows as another, such as {shown}"
            )
            found.append(Problem("copies", False, text, "Keep one of each: a split by episode would leak"))
        return found


def _of_counts(dataset: LeRobotDataset) -> list[Problem]:
    """What info.json promises against what the list of episodes says."""
    lengths = [dataset.episode_length(episode) for episode in range(dataset.num_episodes)]
    found = []
    for name, promised, listed in (
        ("total_episodes", dataset.info.total_episodes, len(lengths)),
        ("total_frames", dataset.info.total_frames, sum(lengths)),
    ):
        if promised != listed:
            text = f"info.json promises {name} {promised}, the list of episodes has {listed}"
            found.append(Problem("counts", True, text, "Files are missing, or were added by hand; download again"))
    short = [e for e, length in enumerate(lengths) if length < _LEAST_S * dataset.info.fps]
    if short:
        text = f"{many(len(short), 'episode')} of less than {_LEAST_S:g} s, such as episode {short[0]}"
        found.append(Problem("short", False, text, "A recording that was broken off?"))
    untold = sum(not any(dataset.tasks(episode)) for episode in range(len(lengths)))
    if untold:
        text = f"{untold} of {len(lengths)} episodes have no task"
        found.append(Problem("tasks", False, text, "Needed by policies that follow instructions, not here"))
    return found


def _of_statistics(dataset: LeRobotDataset, joints: list[Joint]) -> list[Problem]:
    try:
        return checks.of_statistics(joints, dataset.stats())
    except (UserError, ValueError, TypeError, AttributeError) as error:
        text = f"The statistics that came with it cannot be read ({error})"
        return [Problem("statistics", True, text, "Compute meta/stats.json again")]


def _of_videos(dataset: LeRobotDataset, wanted_s: Mapping[tuple[str, str], list[NDArray[np.float64]]]) -> list[Problem]:
    """Videos that are missing, cut short, or drift from their rows."""
    found: dict[str, list[Problem]] = defaultdict(list)
    for (_, file), rows_s in console.track(list(wanted_s.items()), "videos"):
        try:
            shown_s = video.times(confined(dataset.path, file))
        except UserError as error:
            found["video"].append(Problem("video", True, error.problem, error.remedy))
            continue
        for problem in checks.of_drift(file, shown_s, rows_s):
            found[problem.kind].append(problem)
    merged = []
    for problems in found.values():
        first = max(problems, key=lambda problem: problem.severe)
        others = f" (and in {many(len(problems) - 1, 'more file')})" if len(problems) > 1 else ""
        merged.append(replace(first, text=first.text + others))
    return merged


def _of_pictures(dataset: LeRobotDataset, watched: Sequence[int]) -> list[Problem]:
    """Cameras that show nothing, or the same picture while the robot moves."""
    grid = Grid.of(dataset.info.fps, _LOOK_S, dataset.path.name)
    found = []
    for camera in dataset.info.cameras:
        black, frozen, unseen, reason = Places(), Places(), Places(), ""
        for episode in console.track(watched, f"pictures of {camera}"):
            rows = grid.rows(dataset.episode_length(episode))
            try:
                frames = dataset.frames_at(episode, rows, camera, _LOOK_SIZE)
            except UserError as error:
                unseen.add(episode, 1)
                reason = reason or error.problem
                continue
            for part in stretches(frames, _LOOK_S, _FREEZE):
                if part.reason == "black":
                    black.add(episode, part.stop - part.start)
                elif part.reason == "frozen" and _moved(dataset, episode, rows[part.start : part.stop]):
                    frozen.add(episode, part.stop - part.start)
        if unseen.rows:
            text = f"Pictures of {camera} cannot be read in {unseen.rows} of {len(watched)} episodes: {reason}"
            found.append(Problem("pictures", True, text, "Record or convert those episodes again"))
        if black.rows:
            text = f"{camera} is black for {black.rows * _LOOK_S:.1f} s {black.where()}"
            found.append(Problem("black", False, text, "ingest leaves such stretches out"))
        if frozen.rows:
            text = (
                f"{camera} freezes for at least {frozen.rows * _LOOK_S:.1f} s {frozen.where()}, while the robot moves"
            )
            found.append(Problem("freeze", True, text, "The model would learn that commands do nothing; drop them"))
    return found


def _moved(dataset: LeRobotDataset, episode: int, rows: NDArray[np.int64]) -> bool:
    """Whether the robot moved meanwhile; without a state, any standstill of the picture counts."""
    key = next((key for key in (STATE, ACTION) if key in dataset.info.features), None)
    if key is None:
        return True
    values_LF = dataset.columns(episode, [key])[key].reshape(dataset.episode_length(episode), -1)
    return bool((np.ptp(values_LF[rows], axis=0) > _MOVED * np.ptp(values_LF, axis=0) + 1e-9).any())


def _cameras(dataset: LeRobotDataset) -> Iterator[Camera]:
    """How the pictures of each camera are stored, from its first episode that can be read."""
    for key, feature in dataset.info.features.items():
        if not feature.is_video:
            continue
        place = next((dataset.video_place(e, key) for e in range(dataset.num_episodes)), None)
        try:
            if place is None:
                height, width = dataset.camera_size(key)
                yield Camera(key, height, width, "images", dataset.info.fps)
            else:
                info = video.probe(confined(dataset.path, place.file))
                yield Camera(key, info.height, info.width, info.codec, info.fps)
        except UserError:  # named among the problems
            yield Camera(key, 0, 0, "unreadable", 0.0)


def _evenly(count: int, wanted: int) -> list[int]:
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(wanted, count)).astype(int))]
