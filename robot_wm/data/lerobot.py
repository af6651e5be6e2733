"""LeRobot datasets, read: v2.0 and v2.1 (one file per episode) and v3.0 (several episodes may share a file)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from robot_wm.contracts import files
from robot_wm.contracts.dataset import DatasetInfo, Feature, image_key
from robot_wm.contracts.errors import UserError
from robot_wm.data import video

BOOKKEEPING = {
    "timestamp": Feature("float32", (1,)),
    "frame_index": Feature("int64", (1,)),
    "episode_index": Feature("int64", (1,)),
    "index": Feature("int64", (1,)),
    "task_index": Feature("int64", (1,)),
}
_NUMERIC = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)))
_MEND = "Download or convert the dataset again"


@dataclass(frozen=True)
class _Clip:
    """Where the video of one episode lies: file relative to the dataset, and its start on that file's clock."""

    file: str
    start_s: float


@dataclass(frozen=True)
class _Episode:
    length: int
    tasks: tuple[str, ...]
    data: str
    clips: Mapping[str, _Clip]


class LeRobotDataset:
    """A dataset in a local folder, read only.

    Attributes:
        path: the dataset's folder.
        info: what `meta/info.json` promises.
        num_episodes: how many episodes there are.
        robot_type: the robot's name, as its owner wrote it.

    Raises:
        UserError: no dataset there, or its files contradict each other.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        where = self.path / "meta" / "info.json"
        if not where.is_file():
            raise UserError(f"{self.path} is not a LeRobot dataset (no meta/info.json)", "Give a dataset folder")
        raw = files.read_json(where)
        self.info = DatasetInfo.from_json(raw, str(where))
        self.robot_type = str(raw.get("robot_type") or "unknown")
        episodes = _episodes_v3 if self.info.version == "v3.0" else _episodes_v2
        self._episodes = list(episodes(self.path, raw, [k for k, f in self.info.features.items() if _is_mp4(f)]))
        self.num_episodes = len(self._episodes)
        self._check_counts(where)
        self._read_table = lru_cache(maxsize=2)(_read_table)

    def _check_counts(self, where: Path) -> None:
        for episode, entry in enumerate(self._episodes):
            if entry.length < 1:
                raise UserError(f"{self.path}: episode {episode} has length {entry.length}", _MEND)
        rows = sum(e.length for e in self._episodes)
        for name, promised, found in (
            ("total_episodes", self.info.total_episodes, self.num_episodes),
            ("total_frames", self.info.total_frames, rows),
        ):
            if promised != found:
                raise UserError(f"{where}: {name} is {promised}, but meta/ lists {found}", _MEND)

    def episode_length(self, episode: int) -> int:
        """Number of rows (frames) of an episode."""
        return self._episodes[episode].length

    def tasks(self, episode: int) -> list[str]:
        """What the robot was told to do, in words."""
        return list(self._episodes[episode].tasks)

    def columns(self, episode: int) -> dict[str, NDArray[Any]]:
        """Everything but images: name → (L, ...), with the dtype of `info.features`.

        `timestamp` [s] and the indices come as (L,); other features as (L, *shape), text as (L,) strings.

        Raises:
            UserError: unreadable or missing data, or a value that is not finite (feature, episode and row are named).
        """
        table = self._rows(episode)
        features = {k: f for k, f in self.info.features.items() if not f.is_video}
        return {key: self._column(table, episode, key, f) for key, f in {**BOOKKEEPING, **features}.items()}

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
        table = self._rows(episode)
        if not _is_mp4(self.info.features[key]):
            return np.stack([self._still(table, key, int(row), size) for row in rows])
        clip = self._episodes[episode].clips[key]
        times_s = self._column(table, episode, "timestamp", BOOKKEEPING["timestamp"]).astype(np.float64)
        return video.decode_at(files.confine(self.path, clip.file), clip.start_s + times_s[rows], size)

    def _camera(self, camera: str | None) -> str:
        keys = [k for k, f in self.info.features.items() if f.is_video]
        if camera is None and keys:
            return keys[0]
        for key in (camera, image_key(camera or "")):
            if key in keys:
                return str(key)
        raise UserError(f"{self.path} has no camera {camera!r}", f"It has: {', '.join(keys) or 'no images'}")

    def _rows(self, episode: int) -> pa.Table:
        """The rows of one episode, checked to be as many as promised."""
        entry = self._episodes[episode]
        file = files.confine(self.path, entry.data)
        table = self._read_table(file)
        owner = _values(table, "episode_index", file)
        first = int(np.searchsorted(owner, episode))  # rows of an episode are consecutive, episodes ascend
        found = int(np.searchsorted(owner, episode, side="right")) - first
        if found != entry.length:
            raise UserError(f"{file} holds {found} rows of episode {episode}, meta/ promises {entry.length}", _MEND)
        return table.slice(first, found)

    def _column(self, table: pa.Table, episode: int, key: str, feature: Feature) -> NDArray[Any]:
        file = self._episodes[episode].data
        values = _values(table, key, self.path / file)
        if values.dtype.kind in "OU":
            return values.astype(str)
        shape = (len(table),) if key in BOOKKEEPING else (len(table), *feature.shape)
        if values.size != np.prod(shape):
            raise UserError(f"{self.path / file}: {key} of episode {episode} is not of shape {feature.shape}", _MEND)
        values = values.reshape(shape)
        refuse_not_finite(values, key, episode)
        return values.astype(feature.dtype, copy=False)

    def _still(self, table: pa.Table, key: str, row: int, size: tuple[int, int] | None) -> NDArray[np.uint8]:
        """One image of a dataset that keeps images as files or inside its parquet rows."""
        cell = table[key][row].as_py()
        data = cell["bytes"] or files.confine(self.path, cell["path"]).read_bytes()
        image_YXC = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
        if image_YXC is None:
            raise UserError(f"{self.path}: {key}, row {row} is not an image", _MEND)
        return np.asarray(image_YXC, dtype=np.uint8) if size is None else video.resize(image_YXC, size)


def read_episode_rows(path: Path, with_stats: bool = True) -> list[dict[str, Any]]:
    """The rows of a v3.0 dataset's `meta/episodes`, in order; UserError when they cannot be read."""
    tables = [_read_table(file) for file in sorted((path / "meta" / "episodes").glob("*/*.parquet"))]
    if not with_stats:
        tables = [t.drop_columns([name for name in t.column_names if name.startswith("stats/")]) for t in tables]
    return sorted((row for t in tables for row in t.to_pylist()), key=lambda row: int(row.get("episode_index") or 0))


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


def _read_table(file: Path) -> pa.Table:
    if not file.is_file():
        raise UserError(f"{file} does not exist", _MEND)
    try:
        return pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} cannot be read as parquet ({error})", _MEND) from None


def _values(table: pa.Table, key: str, file: Path) -> NDArray[Any]:
    """A column as one flat array, lists of any depth laid end to end."""
    if key not in table.column_names:
        raise UserError(f"{file} has no column {key!r}", _MEND)
    column = table[key].combine_chunks()
    while isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    while pa.types.is_nested(column.type) and not pa.types.is_struct(column.type):
        column = column.flatten()
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _episodes_v2(path: Path, raw: Mapping[str, Any], cameras: list[str]) -> Iterator[_Episode]:
    where = path / "meta" / "episodes.jsonl"
    if not where.is_file():
        raise UserError(f"{where} does not exist", _MEND)
    chunks_size = int(raw.get("chunks_size", 1000))
    for number, line in enumerate(where.read_text(encoding="utf-8").splitlines()):
        try:
            entry = json.loads(line)
            index, length, tasks = int(entry["episode_index"]), int(entry["length"]), tuple(entry.get("tasks", ()))
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{where}: line {number + 1} is not an episode", _MEND) from None
        if index != number:
            raise UserError(f"{where}: line {number + 1} is episode {index}", _MEND)
        place = {"episode_chunk": index // chunks_size, "episode_index": index}
        clips = {k: _Clip(_fill(raw, "video_path", video_key=k, **place), 0.0) for k in cameras}
        yield _Episode(length, tasks, _fill(raw, "data_path", **place), clips)


def _episodes_v3(path: Path, raw: Mapping[str, Any], cameras: list[str]) -> Iterator[_Episode]:
    for number, row in enumerate(read_episode_rows(path, with_stats=False)):
        try:
            if row["episode_index"] != number:
                raise UserError(f"{path}: meta/episodes lists {row['episode_index']} in place of {number}", _MEND)
            clips = {
                k: _Clip(
                    _fill(raw, "video_path", video_key=k, **_place(row, f"videos/{k}/")),
                    float(row[f"videos/{k}/from_timestamp"]),
                )
                for k in cameras
            }
            data = _fill(raw, "data_path", **_place(row, "data/"))
            yield _Episode(int(row["length"]), tuple(row.get("tasks") or ()), data, clips)
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: meta/episodes lacks {error} for episode {number}", _MEND) from None


def _place(row: Mapping[str, Any], prefix: str) -> dict[str, int]:
    return {name: int(row[prefix + name]) for name in ("chunk_index", "file_index")}


def _fill(raw: Mapping[str, Any], name: str, **place: Any) -> str:
    """A path template of `info.json`, filled in; where it leads is checked when the file is opened."""
    try:
        return str(raw[name]).format(**place)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UserError(f"meta/info.json: {name} is {raw.get(name)!r} ({error})", _MEND) from None
