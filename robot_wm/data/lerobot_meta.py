"""What a LeRobot dataset says of itself in `meta/`: its episodes, where their rows and videos lie, statistics."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robot_wm.contracts import files, limits
from robot_wm.contracts.errors import UserError
from robot_wm.data import lerobot_stats
from robot_wm.data.lerobot_stats import Stats

_SLOT = re.compile(r"\{\w+(:0?\d{1,2}d?)?\}")  # of a path template: {video_key}, {chunk_index:03d}
MEND = "Download or convert the dataset again"


@dataclass(frozen=True)
class Place:
    """Where the video of one episode lies: file relative to the dataset, and its start on that file's clock."""

    file: str
    start_s: float


@dataclass(frozen=True)
class Entry:
    """One entry of the list of episodes.

    Attributes:
        length: number of rows.
        tasks: what the robot was told to do.
        data: parquet file, relative to the dataset.
        videos: feature → where its video lies.
    """

    length: int
    tasks: tuple[str, ...]
    data: str
    videos: Mapping[str, Place]


def read_episodes(path: Path, raw: Mapping[str, Any], version: str, cameras: list[str]) -> list[Entry]:
    """All episodes in order; `raw` is the parsed `info.json`, `cameras` the features that are kept as mp4.

    Raises:
        UserError: a list that is missing, damaged, or numbered otherwise than from 0 up.
    """
    episodes = _episodes_v3 if version == "v3.0" else _episodes_v2
    return list(episodes(path, raw, cameras))


def read_episode_rows(path: Path, with_stats: bool = True) -> list[dict[str, Any]]:
    """The rows of a v3.0 dataset's `meta/episodes`, in order; UserError when they cannot be read."""
    found = sorted((path / "meta" / "episodes").glob("*/*.parquet"))
    tables = [read_table(confined(path, file.relative_to(path).as_posix())) for file in found]
    if not with_stats:
        tables = [t.drop_columns([name for name in t.column_names if name.startswith("stats/")]) for t in tables]
    return sorted((row for t in tables for row in t.to_pylist()), key=lambda row: int(row.get("episode_index") or 0))


def read_stats(path: Path) -> dict[str, Stats]:
    """The statistics that came with a dataset: feature → name → values; empty if none did.

    Raises:
        UserError: a file of statistics that cannot be read.
    """
    if (path / "meta" / "stats.json").is_file():
        stats = files.read_json(confined(path, "meta/stats.json"))
        if not isinstance(stats, dict) or not all(isinstance(values, dict) for values in stats.values()):
            raise UserError(f"{path}: meta/stats.json is not statistics by feature", MEND)
        return stats
    entries = read_episode_stats(path)
    try:
        return {key: lerobot_stats.merged([entry[key] for entry in entries]) for key in entries[0]} if entries else {}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: statistics of the episodes cannot be merged ({error!r})", MEND) from None


def read_episode_stats(path: Path) -> list[dict[str, Stats]]:
    """The same of every episode: v2.1 keeps them in a file of their own, v3.0 in the list of episodes."""
    where = path / "meta" / "episodes_stats.jsonl"
    if not where.is_file():
        return [_stats_of_row(row) for row in read_episode_rows(path)]
    try:
        lines = confined(path, "meta/episodes_stats.jsonl").read_bytes().splitlines()
        return [dict(limits.parse_json(line)["stats"]) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{where} cannot be read ({error!r})", MEND) from None


def _stats_of_row(row: Mapping[str, Any]) -> dict[str, Stats]:
    found: dict[str, Stats] = {}
    for name, values in row.items():
        if name.startswith("stats/") and values is not None:
            _, key, statistic = name.split("/", 2)
            found.setdefault(key, {})[statistic] = values
    return found


def read_tasks(path: Path) -> list[str]:
    """What robots were told to do, in the order of `task_index`; UserError when the list cannot be read."""
    table, lines = path / "meta" / "tasks.parquet", path / "meta" / "tasks.jsonl"
    try:
        if table.is_file():
            columns = read_table(confined(path, "meta/tasks.parquet")).to_pydict()
            text = next(key for key in columns if key != "task_index")
            return [task for _, task in sorted(zip(columns["task_index"], columns[text], strict=True))]
        if lines.is_file():
            entries = [limits.parse_json(line) for line in confined(path, "meta/tasks.jsonl").read_bytes().splitlines()]
            return [str(entry["task"]) for entry in sorted(entries, key=lambda entry: int(entry["task_index"]))]
    except (ValueError, KeyError, TypeError, OverflowError, StopIteration) as error:
        raise UserError(f"{path}: meta/tasks cannot be read ({error!r})", MEND) from None
    return []


def confined(root: Path, relative: str) -> Path:
    """A path found in a dataset, resolved; UserError when it leaves the dataset, by `..` or by a link.

    A snapshot in the cache of the Hugging Face Hub is made of links into the `blobs/` of the same repository, which
    count as inside.
    """
    repository = root.absolute().parent.parent
    if root.absolute().parent.name == "snapshots" and (repository / "blobs").is_dir():
        return files.confine(repository, str((root.absolute() / relative).relative_to(repository)))
    return files.confine(root, relative)


def read_table(file: Path) -> pa.Table:
    """A whole parquet file; UserError when it is missing or damaged."""
    if not file.is_file():
        raise UserError(f"{file} does not exist", MEND)
    try:
        with pq.ParquetFile(file) as stored:  # `read_table` looks for a partitioned dataset first: three times as long
            described = stored.metadata  # no array is made from a count that nobody has looked at
            rows = sum(described.row_group(group).num_rows for group in range(described.num_row_groups))
            values = rows * sum(_values_per_row(field.type) for field in stored.schema_arrow)
            limits.refuse_over(f"the number of values in {file}", values, limits.TABLE_VALUES)
            return stored.read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as parquet ({error})", MEND) from None


def _values_per_row(kind: pa.DataType) -> int:
    """What a row of a column takes at least; lists of any length count once."""
    if isinstance(kind, pa.FixedSizeListType):
        return int(kind.list_size * _values_per_row(kind.value_type))
    return 1


def _episodes_v2(path: Path, raw: Mapping[str, Any], cameras: list[str]) -> Iterator[Entry]:
    where = confined(path, "meta/episodes.jsonl")
    if not where.is_file():
        raise UserError(f"{where} does not exist", MEND)
    chunks_size = raw.get("chunks_size", 1000)
    if not isinstance(chunks_size, int) or chunks_size < 1:
        raise UserError(f"meta/info.json: chunks_size is {chunks_size!r}", MEND)
    for number, line in enumerate(where.read_bytes().splitlines()):
        try:
            entry = limits.parse_json(line)
            index, length, tasks = int(entry["episode_index"]), int(entry["length"]), tuple(entry.get("tasks", ()))
        except (ValueError, KeyError, TypeError, OverflowError):
            raise UserError(f"{where}: line {number + 1} is not an episode", MEND) from None
        if index != number:
            raise UserError(f"{where}: line {number + 1} is episode {index}", MEND)
        place = {"episode_chunk": index // chunks_size, "episode_index": index}
        videos = {k: Place(_fill(raw, "video_path", video_key=k, **place), 0.0) for k in cameras}
        yield Entry(length, tasks, _fill(raw, "data_path", **place), videos)


def _episodes_v3(path: Path, raw: Mapping[str, Any], cameras: list[str]) -> Iterator[Entry]:
    for number, row in enumerate(read_episode_rows(path, with_stats=False)):
        try:
            if row["episode_index"] != number:
                raise UserError(f"{path}: meta/episodes lists {row['episode_index']} in place of {number}", MEND)
            videos = {
                k: Place(
                    _fill(raw, "video_path", video_key=k, **_place(row, f"videos/{k}/")),
                    float(row[f"videos/{k}/from_timestamp"]),
                )
                for k in cameras
            }
            data = _fill(raw, "data_path", **_place(row, "data/"))
            yield Entry(int(row["length"]), tuple(row.get("tasks") or ()), data, videos)
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: meta/episodes lacks {error} for episode {number}", MEND) from None
        except (ValueError, OverflowError) as error:
            raise UserError(f"{path}: meta/episodes holds no numbers for episode {number} ({error})", MEND) from None


def _place(row: Mapping[str, Any], prefix: str) -> dict[str, int]:
    return {name: int(row[prefix + name]) for name in ("chunk_index", "file_index")}


def _fill(raw: Mapping[str, Any], name: str, **place: Any) -> str:
    """A path template of `info.json`, filled in; where it leads is checked when the file is opened."""
    try:
        template = raw[name]
        if left := set("{}") & set(_SLOT.sub("", template)):  # anything else reaches into objects, or fills the memory
            raise ValueError(f"{min(left)} that is not around a name")
        return str(template.format(**place))
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"meta/info.json: {name} is {raw.get(name)!r} ({error})", MEND) from None
