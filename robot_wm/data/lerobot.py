"""LeRobot datasets, read: v2.0 and v2.1 (one file per episode) and v3.0 (several episodes may share a file)."""

from collections.abc import Collection, Sequence
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_wm.contracts import files
from robot_wm.contracts.dataset import DatasetInfo, Feature, image_key, is_depth
from robot_wm.contracts.errors import UserError
from robot_wm.data import images, lerobot_meta, video
from robot_wm.data.lerobot_meta import MEND, Place, confined, read_table
from robot_wm.data.lerobot_meta import read_episode_rows as read_episode_rows
from robot_wm.data.lerobot_stats import Stats

BOOKKEEPING = {
    "timestamp": Feature("float32", (1,)),
    "frame_index": Feature("int64", (1,)),
    "episode_index": Feature("int64", (1,)),
    "index": Feature("int64", (1,)),
    "task_index": Feature("int64", (1,)),
}
_NUMERIC = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)))


class LeRobotDataset:
    """A dataset in a local folder, read only.

    Args:
        path: the dataset's folder.
        strict: refuse counts that contradict each other, and values that are not finite.

    Attributes:
        path: the dataset's folder.
        info: what `meta/info.json` promises.
        num_episodes: how many episodes there are.
        robot_type: the robot's name, as its owner wrote it.

    Raises:
        UserError: no dataset there, or its files contradict each other.
    """

    def __init__(self, path: Path, strict: bool = True):
        self.path, self._strict = Path(path), strict
        where = self.path / "meta" / "info.json"
        if not where.is_file():
            raise UserError(f"{self.path} is not a LeRobot dataset (no meta/info.json)", "Give a dataset folder")
        raw = files.read_json(confined(self.path, "meta/info.json"))
        self.info = DatasetInfo.from_json(raw, str(where))
        self.robot_type = str(raw.get("robot_type") or "unknown")
        cameras = [key for key, feature in self.info.features.items() if _is_mp4(feature)]
        self._episodes = lerobot_meta.read_episodes(self.path, raw, self.info.version, cameras)
        self.num_episodes = len(self._episodes)
        if strict:
            self._check_counts(where)
        self._read_table = lru_cache(maxsize=2)(read_table)

    def _check_counts(self, where: Path) -> None:
        for episode, entry in enumerate(self._episodes):
            if entry.length < 1:
                raise UserError(f"{self.path}: episode {episode} has length {entry.length}", MEND)
        rows = sum(e.length for e in self._episodes)
        for name, promised, found in (
            ("total_episodes", self.info.total_episodes, self.num_episodes),
            ("total_frames", self.info.total_frames, rows),
        ):
            if promised != found:
                raise UserError(f"{where}: {name} is {promised}, but meta/ lists {found}", MEND)

    def feature(self, key: str) -> Feature:
        """What a feature looks like; raises UserError, with the names of those that there are, if it is not there."""
        if key not in self.info.features:
            raise UserError(f"{self.path} has no feature {key!r}", f"It has: {', '.join(self.info.features)}")
        return self.info.features[key]

    def check_rate(self, rate_hz: float, body: str) -> None:
        """Raise UserError unless there is a row for every control tick of `body`, to 1 %."""
        if abs(self.info.fps - rate_hz) > 0.01 * rate_hz:
            raise UserError(
                f"{self.path} was recorded at {self.info.fps:g} Hz, {body} is controlled at {rate_hz:g} Hz",
                "Give a log at the control rate, or change control_rate_hz",
            )

    def episode_length(self, episode: int) -> int:
        """Number of rows (frames) of an episode."""
        return self._episodes[episode].length

    def tasks(self, episode: int) -> list[str]:
        """What the robot was told to do, in words."""
        return list(self._episodes[episode].tasks)

    def stats(self) -> dict[str, Stats]:
        """The statistics that came with the dataset: feature → min, max, mean, std, count; empty if none did."""
        return lerobot_meta.read_stats(self.path)

    def video_place(self, episode: int, camera: str) -> Place | None:
        """Where the video of a camera (a feature) lies; None if its images are inside the parquet files."""
        return self._episodes[episode].videos.get(camera)

    def columns(self, episode: int, keys: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
        """Everything but images and depth, or what `keys` names: name → (L, ...), with the dtype of `info.features`.

        `timestamp` [s] and the indices come as (L,); other features as (L, *shape), text as (L,) strings. A column that
        is not asked for is not looked at.

        Raises:
            UserError: unreadable or missing data, or a value that is not finite (feature, episode and row are named).
        """
        table = self.table(episode)
        features = BOOKKEEPING | {k: f for k, f in self.info.features.items() if not f.is_video}
        wanted = [key for key in features if not is_depth(key)] if keys is None else keys
        return {key: self._column(table, episode, key, features[key]) for key in wanted}

    def times_s(self, episode: int) -> NDArray[np.float64]:
        """When each row was recorded [s], (L,): multiples of the period exactly, where float32 only rounded them.

        From 34 minutes on float32 is coarser than the tolerance of 1e-4 s.
        """
        stored = self.columns(episode, ["timestamp"])["timestamp"]
        exact = np.rint(stored.astype(np.float64) * self.info.fps) / self.info.fps
        return np.where(np.abs(exact - stored) <= np.spacing(np.abs(stored)), exact, stored)

    def camera_size(self, camera: str | None = None) -> tuple[int, int]:
        """Height and width of a camera's stored images, from its first frame."""
        height, width = self.frames_at(0, np.zeros(1, dtype=np.int64), camera).shape[1:3]
        return height, width

    def frames(
        self, episode: int, camera: str | None = None, size: tuple[int, int] | None = None, every: int = 1
    ) -> NDArray[np.uint8]:
        """Every `every`-th image of an episode: (ceil(L / every), Y, X, 3) uint8 RGB, see `frames_at`."""
        return self.frames_at(episode, np.arange(0, self.episode_length(episode), every), camera, size)

    def frames_at(
        self, episode: int, rows: NDArray[np.integer], camera: str | None = None, size: tuple[int, int] | None = None
    ) -> NDArray[np.uint8]:
        """The images that belong to the given rows: (R, Y, X, 3) uint8 RGB.

        Each is the frame whose own time lies within 1e-4 s of the row's timestamp.

        Args:
            episode: which episode.
            rows: ascending row numbers.
            camera: its name (`front`) or feature (`observation.images.front`); the first one if None.
            size: (height, width) to scale to.

        Raises:
            UserError: no such camera, an unreadable video, or one that drifts from the timestamps.
        """
        key = self._camera(camera)
        table = self.table(episode)
        if not _is_mp4(self.info.features[key]):
            return np.stack([self._still(table, key, int(row), size) for row in rows])
        place = self._episodes[episode].videos[key]
        times_s = place.start_s + self.times_s(episode)[rows]
        return video.decode_at(confined(self.path, place.file), times_s, size)

    def frames_of(
        self,
        episodes: Sequence[int],
        rows: Sequence[NDArray[np.integer]],
        camera: str | None = None,
        size: tuple[int, int] | None = None,
        out_NYXC: NDArray[np.uint8] | None = None,
    ) -> list[NDArray[np.uint8]]:
        """`frames_at` of several episodes; those that follow each other in one video are decoded in one pass.

        Finding the way into a video takes as long as decoding a hundred small frames, and grows with the video.

        Args:
            episodes, rows, camera, size: as for `frames_at`.
            out_NYXC: where the frames of all of them are put, one after the other, if it is given.
        """
        key = self._camera(camera)
        if not _is_mp4(self.info.features[key]):
            images = [self.frames_at(e, wanted, camera, size) for e, wanted in zip(episodes, rows, strict=True)]
            if out_NYXC is not None:
                np.concatenate(images, out=out_NYXC)
            return images
        runs: list[tuple[str, list[NDArray[np.float64]]]] = []
        for episode, wanted in zip(episodes, rows, strict=True):
            place = self._episodes[episode].videos[key]
            times_s = place.start_s + self.times_s(episode)[wanted]
            if runs and runs[-1][0] == place.file and runs[-1][1][-1][-1] < times_s[0]:
                runs[-1][1].append(times_s)
            else:
                runs.append((place.file, [times_s]))
        frames: list[NDArray[np.uint8]] = []
        for file, parts in runs:
            done = sum(map(len, frames))
            there = None if out_NYXC is None else out_NYXC[done : done + sum(map(len, parts))]
            decoded = video.decode_at(confined(self.path, file), np.concatenate(parts), size, there)
            frames += np.split(decoded, np.cumsum([len(part) for part in parts])[:-1])
        return frames

    def apart(self) -> "LeRobotDataset":
        """The same dataset for another thread: tables that it has read are not pushed out by what others read."""
        twin = copy(self)
        twin._read_table = lru_cache(maxsize=2)(read_table)
        return twin

    def _camera(self, camera: str | None) -> str:
        keys = [k for k, f in self.info.features.items() if f.is_video]
        if camera is None and keys:
            return keys[0]
        for key in (camera, image_key(camera or "")):
            if key in keys:
                return str(key)
        raise UserError(f"{self.path} has no camera {camera!r}", f"It has: {', '.join(keys) or 'no images'}")

    def table(self, episode: int) -> pa.Table:
        """The rows of one episode as they are stored, checked to be as many as promised."""
        entry = self._episodes[episode]
        file = confined(self.path, entry.data)
        table = self._read_table(file)
        owner = _values(table, "episode_index", file)
        first = int(np.searchsorted(owner, episode))  # rows of an episode are consecutive, episodes ascend
        found = int(np.searchsorted(owner, episode, side="right")) - first
        if found != entry.length:
            raise UserError(f"{file} holds {found} rows of episode {episode}, meta/ promises {entry.length}", MEND)
        return table.slice(first, found)

    def _column(self, table: pa.Table, episode: int, key: str, feature: Feature) -> NDArray[Any]:
        file = self._episodes[episode].data
        values = _values(table, key, self.path / file)
        if values.dtype.kind in "OU":
            return values.astype(str)
        shape = (len(table),) if key in BOOKKEEPING else (len(table), *feature.shape)
        if values.size != np.prod(shape):
            raise UserError(f"{self.path / file}: {key} of episode {episode} is not of shape {feature.shape}", MEND)
        values = values.reshape(shape)
        if self._strict:
            refuse_not_finite(values, key, episode)
        elif values.dtype.kind == "f" and not np.isfinite(values).all():
            return values  # a whole number could not say so
        try:
            return values.astype(feature.dtype, copy=False)
        except (TypeError, ValueError):
            raise UserError(
                f"{self.path}: dtype of {key} is {feature.dtype!r}, which its values are not", MEND
            ) from None

    def _still(self, table: pa.Table, key: str, row: int, size: tuple[int, int] | None) -> NDArray[np.uint8]:
        """One image of a dataset that keeps images as files or inside its parquet rows."""
        if key not in table.column_names:
            raise UserError(f"{self.path}: the parquet files have no column {key!r}", MEND)
        cell = table[key][row].as_py()
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if not data and isinstance(cell, dict) and cell.get("path"):
            file = confined(self.path, cell["path"])
            data = file.read_bytes() if file.is_file() else b""
        image_YXC = images.decode(data, f"{key}, row {row}") if isinstance(data, bytes) else None
        if image_YXC is None:
            raise UserError(f"{self.path}: {key}, row {row} is missing or not an image", MEND)
        return image_YXC if size is None else video.resize(image_YXC, size)


def refuse_not_finite(values: NDArray[Any], key: str, episode: int) -> None:
    """Raise UserError that names feature, episode and row of the first NaN or infinity."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0][0])
        raise UserError(f"{key} of episode {episode} is not finite at row {row}", "Repair or drop that episode")


def is_numeric(feature: Feature) -> bool:
    """Whether a column holds numbers or truth values, at least one a row."""
    return feature.dtype in _NUMERIC and 0 not in feature.shape


def _is_mp4(feature: Feature) -> bool:
    return feature.dtype == "video"


def _values(table: pa.Table, key: str, file: Path) -> NDArray[Any]:
    """A column as one flat array, lists of any depth laid end to end."""
    if key not in table.column_names:
        raise UserError(f"{file} has no column {key!r}", MEND)
    column = table[key].combine_chunks()
    while isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    while pa.types.is_nested(column.type) and not pa.types.is_struct(column.type):
        column = column.flatten()
    return np.asarray(column.to_numpy(zero_copy_only=False))
