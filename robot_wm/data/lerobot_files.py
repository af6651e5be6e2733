"""The files of a LeRobot v3.0 dataset: several episodes share one parquet file, and one mp4 per camera."""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from robot_wm.contracts import files
from robot_wm.contracts.dataset import Feature, is_depth
from robot_wm.contracts.errors import UserError
from robot_wm.data import lerobot_stats, video
from robot_wm.data.lerobot import BOOKKEEPING, refuse_not_finite

CHUNK = 1000  # files per folder
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_EPISODES = "meta/episodes/chunk-000/file-000.parquet"
INFO = "meta/info.json"

Row = dict[str, Any]  # of `meta/episodes`


@dataclass(frozen=True)
class Episode:
    """Columns (L, ...) and videos (L, Y, X, 3) under LeRobot's feature names, and the task in words."""

    columns: Mapping[str, NDArray[Any]]
    videos: Mapping[str, NDArray[np.uint8]]
    task: str = ""


@dataclass(frozen=True)
class Format:
    """What all episodes of a dataset share.

    Attributes:
        fps: rows (and frames) per second [Hz].
        features: name → Feature, without timestamp and indices, which are added.
        robot_type: the robot's name in LeRobot's tools.
    """

    fps: float
    features: Mapping[str, Feature]
    robot_type: str = "unknown"

    def __post_init__(self) -> None:
        if clash := sorted(set(self.features) & set(BOOKKEEPING)):
            raise ValueError(f"{clash[0]} is added by the writer")

    def header(self) -> dict[str, Any]:
        """As it stands at the top of `info.json`."""
        fps = int(self.fps) if float(self.fps).is_integer() else float(self.fps)
        features = {key: _feature_json(f, fps) for key, f in {**self.features, **BOOKKEEPING}.items()}
        return {"codebase_version": "v3.0", "robot_type": self.robot_type, "fps": fps, "features": features}

    def check(self, path: Path, found: Mapping[str, Any]) -> None:
        """Refuse to go on with a dataset of another kind."""
        for key in ("codebase_version", "fps", "features"):
            if found.get(key) != self.header()[key]:
                raise UserError(f"{path} holds a dataset with another {key}", "Choose a new folder")


def write_file(
    path: Path,
    form: Format,
    number: int,
    episodes: Iterable[Episode],
    start: tuple[int, int],
    tasks: Mapping[str, int],
) -> list[Row]:
    """Write the files with that number: all given episodes, one after the other.

    Nothing counts yet: the rows returned belong into the dataset's metadata. Files of the same number are replaced.

    Args:
        path: the dataset's folder.
        form: what its episodes share.
        number: of the files, from 0.
        episodes: taken one by one; the frames of one at a time are held.
        start: index of the first episode, and of its first row.
        tasks: text → index.

    Raises:
        UserError: a value that is not finite (feature, episode and row are named).
        ValueError: not the columns and videos of the format, or of unequal lengths.
    """
    place = {"chunk_index": number // CHUNK, "file_index": number % CHUNK}
    rows: list[Row] = []
    values: list[dict[str, NDArray[Any]]] = []
    index, first = start
    with ExitStack() as stack:
        clips = {
            key: stack.enter_context(
                video.Encoder(_made(path / VIDEO.format(video_key=key, **place)), (f.shape[0], f.shape[1]), form.fps)
            )
            for key, f in form.features.items()
            if f.is_video
        }
        for episode in episodes:
            length = _length(form, episode)
            row, columns = _row(episode, form.fps, (index, first, length), tasks)
            row |= {**_prefixed("data/", place), "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
            for key, clip in clips.items():
                begin = clip.num_frames
                clip.add(episode.videos[key])
                span = {"from_timestamp": begin / form.fps, "to_timestamp": clip.num_frames / form.fps}
                row |= _prefixed(f"videos/{key}/", {**place, **span})
                row |= _prefixed(f"stats/{key}/", lerobot_stats.of_images(episode.videos[key]))
            rows.append(row)
            values.append(columns)
            index, first = index + 1, first + length
    features = {**form.features, **BOOKKEEPING}
    whole = {key: arrow(np.concatenate([columns[key] for columns in values]), features[key]) for key in values[0]}
    write_table(path / DATA.format(**place), pa.table(whole))
    return rows


def _row(
    episode: Episode, fps: float, place: tuple[int, int, int], tasks: Mapping[str, int]
) -> tuple[Row, dict[str, NDArray[Any]]]:
    """Metadata and columns (L, F) of one episode, videos left out; `place` is its index, its first row, its rows."""
    index, first, length = place
    steps = np.arange(length)[:, None]
    values = {key: np.asarray(v).reshape(length, -1) for key, v in episode.columns.items()}
    values |= {
        "timestamp": steps / fps,
        "frame_index": steps,
        "episode_index": np.full((length, 1), index),
        "index": first + steps,
        "task_index": np.full((length, 1), tasks[episode.task]),
    }
    row: Row = {"episode_index": index, "tasks": [episode.task], "length": length}
    row |= {"dataset_from_index": first, "dataset_to_index": first + length}
    for key, column in values.items():
        refuse_not_finite(column, key, index)
    stats = lerobot_stats.of_columns({key: column for key, column in values.items() if not is_depth(key)})
    stats |= {key: lerobot_stats.of_depth(column) for key, column in values.items() if is_depth(key)}
    for key, found in stats.items():
        row |= _prefixed(f"stats/{key}/", found)
    return row, values


def _length(form: Format, episode: Episode) -> int:
    """Compare an episode with the features; returns its number of rows."""
    features, given = form.features, {**episode.columns, **episode.videos}
    if set(given) != set(features) or any(features[k].is_video != (k in episode.videos) for k in given):
        raise ValueError(f"an episode has {sorted(given)}, the dataset {sorted(features)}")
    length = len(next(iter(given.values())))
    for key, values in given.items():
        shape = (length, *features[key].shape)
        if np.shape(values) != shape and not (shape[1:] == (1,) and np.shape(values) == (length,)):
            raise ValueError(f"{key} has shape {np.shape(values)}, not {shape}")
    if length == 0:
        raise ValueError("an episode needs at least one row")
    return length


def write_metadata(path: Path, form: Format, rows: Sequence[Row], tasks: Sequence[str]) -> None:
    """Everything under `meta/`, `info.json` last: from then on the folder is a dataset."""
    write_table(path / _EPISODES, pa.Table.from_pylist(list(rows)))
    write_table(path / "meta/tasks.parquet", _tasks_table(tasks))
    stats = {
        key: lerobot_stats.merged([{name: row[f"stats/{key}/{name}"] for name in lerobot_stats.NAMES} for row in rows])
        for key in (*form.features, *BOOKKEEPING)
    }
    files.write_json(path / "meta/stats.json", stats)
    info = {
        **form.header(),
        "total_episodes": len(rows),
        "total_frames": rows[-1]["dataset_to_index"],
        "total_tasks": len(tasks),
        "chunks_size": CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "splits": {"train": f"0:{len(rows)}"},
        "data_path": DATA,
        "video_path": VIDEO if any(f.is_video for f in form.features.values()) else None,
    }
    files.write_json(path / INFO, info)


def write_table(path: Path, table: pa.Table) -> None:
    """A parquet file that appears whole, and its folder."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    files.write_atomic(_made(path), buffer.getvalue())


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


def arrow(values_LF: NDArray[Any], feature: Feature) -> pa.Array:
    """One column: plain for shape (1,), else lists of fixed size, nested as deep as the shape."""
    array = pa.array(values_LF.astype(feature.dtype).ravel())
    for size in reversed(feature.shape if feature.shape != (1,) else ()):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def _tasks_table(tasks: Sequence[str]) -> pa.Table:
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


def _prefixed(prefix: str, values: Mapping[str, Any]) -> Row:
    return {prefix + key: value for key, value in values.items()}


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
