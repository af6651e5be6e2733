"""LeRobot v3.0 datasets, written so that an acknowledged episode survives whatever comes after."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from robot_wm.contracts import files
from robot_wm.contracts.dataset import Feature
from robot_wm.contracts.errors import UserError
from robot_wm.data import journal, lerobot_stats, video
from robot_wm.data.lerobot import BOOKKEEPING, read_episode_rows, refuse_not_finite

_CHUNK = 1000  # files per folder
_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_EPISODES = "meta/episodes/chunk-000/file-000.parquet"
_JOURNAL = "meta/journal.jsonl"


class LeRobotWriter:
    """Writes a dataset episode by episode: one parquet file, and one mp4 per camera, each.

    An episode counts once its row stands in `meta/journal.jsonl`, after its files are on disk. `close` turns the
    journal into the format's own metadata. A writer opened again on the same folder, interrupted or closed, continues
    after the last acknowledged episode.

    Args:
        path: the dataset's folder; made if absent.
        fps: rows (and frames) per second [Hz].
        features: name → Feature, without timestamp and indices, which the writer adds.
        robot_type: the robot's name in LeRobot's tools.

    Raises:
        UserError: the folder holds a dataset of other features, another rate or an older version.
    """

    def __init__(self, path: Path, fps: float, features: dict[str, Feature], robot_type: str = "unknown"):
        if clash := sorted(set(features) & set(BOOKKEEPING)):
            raise ValueError(f"{clash[0]} is added by the writer")
        self.path = Path(path)
        self._fps, self._features, self._robot_type = float(fps), features, robot_type
        (self.path / "meta").mkdir(parents=True, exist_ok=True)
        self._journal = self.path / _JOURNAL
        self._rows = self._recover()
        self._tasks = {task: i for i, task in enumerate(dict.fromkeys(row["tasks"][0] for row in self._rows))}

    @property
    def num_episodes(self) -> int:
        """How many episodes are acknowledged, those of earlier writers included."""
        return len(self._rows)

    def add_episode(
        self, columns: Mapping[str, NDArray[Any]], videos: Mapping[str, NDArray[np.uint8]], task: str = ""
    ) -> None:
        """Append one episode; when this returns it is on disk for good.

        Args:
            columns: every feature that is no video → (L, *shape), or (L,) where shape is (1,).
            videos: every video feature → (L, Y, X, 3) uint8 RGB.
            task: what the robot was told to do.

        Raises:
            UserError: a value that is not finite (feature, episode and row are named).
            ValueError: not the columns and videos of `features`, or of unequal lengths.
        """
        episode, length = self.num_episodes, self._check(columns, videos)
        first = self._rows[-1]["dataset_to_index"] if self._rows else 0
        steps = np.arange(length)
        table = {key: np.asarray(values).reshape(length, -1) for key, values in columns.items()}
        table |= {
            "timestamp": steps[:, None] / self._fps,
            "frame_index": steps[:, None],
            "episode_index": np.full((length, 1), episode),
            "index": first + steps[:, None],
            "task_index": np.full((length, 1), self._tasks.setdefault(task, len(self._tasks))),
        }
        for key, values in table.items():
            refuse_not_finite(values, key, episode)
        place = {"chunk_index": episode // _CHUNK, "file_index": episode % _CHUNK}
        row: dict[str, Any] = {"episode_index": episode, "tasks": [task], "length": length}
        row |= {"dataset_from_index": first, "dataset_to_index": first + length, **_prefixed("data/", place)}
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        for key, frames_FYXC in videos.items():
            video.encode(self._folder_of(_VIDEO, video_key=key, **place), frames_FYXC, self._fps)
            span = {"from_timestamp": 0.0, "to_timestamp": length / self._fps}
            row |= _prefixed(f"videos/{key}/", {**place, **span})
            row |= _prefixed(f"stats/{key}/", lerobot_stats.of_images(frames_FYXC))
        features = {**self._features, **BOOKKEEPING}
        arrays = {key: _arrow(values, features[key]) for key, values in table.items()}
        _write_table(self._folder_of(_DATA, **place), pa.table(arrays))
        for key, values in table.items():
            row |= _prefixed(f"stats/{key}/", lerobot_stats.of_rows(values))
        header = [] if self._journal.is_file() else [self._header()]
        journal.append(self._journal, *header, row)
        self._rows.append(row)

    def close(self) -> None:
        """Write the format's metadata, `info.json` last.

        Raises:
            UserError: no episode was ever added.
        """
        if not self._rows:
            raise UserError(f"{self.path} holds no episode", "Record at least one")
        _write_table(_made(self.path / _EPISODES), pa.Table.from_pylist(self._rows))
        _write_table(self.path / "meta/tasks.parquet", _tasks_table(list(self._tasks)))
        stats = {
            key: lerobot_stats.merged(
                [{name: row[f"stats/{key}/{name}"] for name in lerobot_stats.NAMES} for row in self._rows]
            )
            for key in (*self._features, *BOOKKEEPING)
        }
        files.write_json(self.path / "meta/stats.json", stats)
        files.write_json(self.path / "meta/info.json", self._info())
        self._journal.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def _check(self, columns: Mapping[str, NDArray[Any]], videos: Mapping[str, NDArray[np.uint8]]) -> int:
        """Compare with the features; returns the number of rows."""
        given = {**columns, **videos}
        if set(given) != set(self._features) or any(self._features[k].is_video != (k in videos) for k in given):
            raise ValueError(f"an episode has {sorted(given)}, the dataset {sorted(self._features)}")
        length = len(next(iter(given.values())))
        for key, values in given.items():
            shape = (length, *self._features[key].shape)
            if np.shape(values) != shape and not (shape[1:] == (1,) and np.shape(values) == (length,)):
                raise ValueError(f"{key} has shape {np.shape(values)}, not {shape}")
        if length == 0:
            raise ValueError("an episode needs at least one row")
        return length

    def _folder_of(self, template: str, **place: Any) -> Path:
        return _made(self.path / template.format(**place))

    def _recover(self) -> list[dict[str, Any]]:
        """Rows of all acknowledged episodes: those of the last `close`, then those of the journal."""
        rows: list[dict[str, Any]] = []
        if (self.path / "meta/info.json").is_file():
            self._check_header(files.read_json(self.path / "meta/info.json"))
            rows = read_episode_rows(self.path)
        lines = journal.read(self._journal)
        if lines:
            self._check_header(lines[0])
        return rows + [row for row in lines[1:] if row["episode_index"] >= len(rows)]

    def _header(self) -> dict[str, Any]:
        """What every episode of the dataset shares, as in `info.json`."""
        fps = int(self._fps) if self._fps.is_integer() else self._fps
        features = {key: _feature_json(f, fps) for key, f in {**self._features, **BOOKKEEPING}.items()}
        return {"codebase_version": "v3.0", "robot_type": self._robot_type, "fps": fps, "features": features}

    def _check_header(self, found: Mapping[str, Any]) -> None:
        for key in ("codebase_version", "fps", "features"):
            if found.get(key) != self._header()[key]:
                raise UserError(f"{self.path} holds a dataset with another {key}", "Choose a new folder")

    def _info(self) -> dict[str, Any]:
        return {
            **self._header(),
            "total_episodes": self.num_episodes,
            "total_frames": self._rows[-1]["dataset_to_index"],
            "total_tasks": len(self._tasks),
            "chunks_size": _CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "splits": {"train": f"0:{self.num_episodes}"},
            "data_path": _DATA,
            "video_path": _VIDEO if any(f.is_video for f in self._features.values()) else None,
        }


def _feature_json(feature: Feature, fps: float) -> dict[str, Any]:
    value: dict[str, Any] = {"dtype": feature.dtype, "shape": list(feature.shape), "names": None}
    if feature.names:
        value["names"] = list(feature.names)
    if feature.is_video:
        height, width, channels = feature.shape
        value["names"] = ["height", "width", "channels"]
        value["info"] = {
            "video.height": height,
            "video.width": width,
            "video.channels": channels,
            "video.codec": "h264",
            "video.pix_fmt": video.pixel_format(height, width),
            "video.is_depth_map": False,
            "video.fps": fps,
            "has_audio": False,
        }
    return value


def _arrow(values_LF: NDArray[Any], feature: Feature) -> pa.Array:
    """One column: plain for shape (1,), else lists of fixed size, nested as deep as the shape."""
    array = pa.array(values_LF.astype(feature.dtype).ravel())
    for size in reversed(feature.shape if feature.shape != (1,) else ()):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def _tasks_table(tasks: list[str]) -> pa.Table:
    """Task texts as the index of a pandas frame with the column `task_index`, described without pandas."""
    described = [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"},
        {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object"},
    ]
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [{**column, "metadata": None} for column in described],
        "pandas_version": "2.2.0",
    }
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _write_table(path: Path, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    files.write_atomic(path, buffer.getvalue())


def _prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {prefix + key: value for key, value in values.items()}


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
