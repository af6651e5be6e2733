"""LeRobot v3.0 datasets whose parts many processes write at the same time."""

import itertools
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from robot_wm.contracts import files, limits
from robot_wm.contracts.errors import UserError
from robot_wm.data import lerobot_files
from robot_wm.data.lerobot import BOOKKEEPING, read_episode_rows
from robot_wm.data.lerobot_files import INFO, Episode, Format, Row

_SHARDS = "meta/shards"
_MOST_ROWS = 4096  # of a shard: what a kill costs each process at most
_LEAST_SHARDS = 64  # where there are as many episodes: so many parts share out evenly


class LeRobotShards:
    """A dataset of known length, cut into shards: runs of episodes that share one parquet file and one mp4 per camera.

    Which process writes a shard makes no difference to it, and none waits for another. A shard counts once
    `meta/shards/<number>.parquet` stands there, after its files are on disk; what a killed process leaves of one is
    overwritten. `close` gathers the shards into the format's own metadata, by reading a row per episode: no video is
    touched.

    Args:
        path: the dataset's folder; made if absent. Several machines may share it.
        form: what all episodes share.
        lengths: rows of every episode.
        tasks: all that occur; an episode's task is one of them.

    Raises:
        UserError: the folder holds a dataset of other features, another rate or an older version.
    """

    def __init__(self, path: Path, form: Format, lengths: Sequence[int], tasks: Sequence[str]):
        self.path, self._format = Path(path), form
        self.lengths, self._tasks = list(lengths), {task: i for i, task in enumerate(tasks)}
        self._starts = [0, *itertools.accumulate(self.lengths)]  # first row of every episode
        self.shards = _cut(self.lengths, _most_rows(form))
        if (self.path / INFO).is_file():
            form.check(self.path, files.read_json(self.path / INFO))

    def missing(self) -> list[int]:
        """Numbers of the shards that do not count yet."""
        if (self.path / INFO).is_file():
            return []
        return [number for number in range(len(self.shards)) if not self._row_file(number).is_file()]

    def write(self, number: int, record: Callable[[int], Episode]) -> None:
        """Write one shard; when this returns it is on disk for good.

        Args:
            number: of the shard.
            record: episode index → the episode.

        Raises:
            UserError, ValueError: as `lerobot_files.write_file`; or an episode of another length than promised.
        """
        shard = self.shards[number]
        start = (shard.start, self._starts[shard.start])
        episodes = (self._checked(index, record(index)) for index in shard)
        rows = lerobot_files.write_file(self.path, self._format, number, episodes, start, self._tasks)
        lerobot_files.write_table(self._row_file(number), pa.Table.from_pylist(rows))

    def close(self) -> list[Row]:
        """Write the format's metadata, `info.json` last; returns the rows of all episodes.

        Raises:
            UserError: a shard is missing.
        """
        if not (self.path / INFO).is_file():
            if missing := self.missing():
                raise UserError(
                    f"{self.path} lacks {len(missing)} of {len(self.shards)} shards, the first is {missing[0]}",
                    "Record those first",
                )
            rows = [
                row for number in range(len(self.shards)) for row in pq.read_table(self._row_file(number)).to_pylist()
            ]
            lerobot_files.write_metadata(self.path, self._format, rows, list(self._tasks))
        shutil.rmtree(self.path / _SHARDS, ignore_errors=True)
        for file in self.path.rglob(".*"):  # half-written, by a process that was killed
            file.unlink(missing_ok=True)
        return read_episode_rows(self.path)

    def _checked(self, index: int, episode: Episode) -> Episode:
        length = len(next(iter({**episode.columns, **episode.videos}.values())))
        if length != self.lengths[index]:
            raise ValueError(f"episode {index} has {length} rows, not {self.lengths[index]}")
        return episode

    def _row_file(self, number: int) -> Path:
        return self.path / _SHARDS / f"{number:06d}.parquet"


def _most_rows(form: Format) -> int:
    """Of a shard: fewer where rows carry depth, because no larger parquet file would be read again."""
    values = sum(math.prod(f.shape) for f in {**form.features, **BOOKKEEPING}.values() if not f.is_video)
    return min(_MOST_ROWS, limits.TABLE_VALUES // values)


def _cut(lengths: Sequence[int], most_rows: int) -> list[range]:
    """Consecutive episodes to shards of about equal rows; a matter of lengths and features alone."""
    most = min(most_rows, sum(lengths) / _LEAST_SHARDS)
    shards: list[range] = []
    start = rows = 0
    for index, length in enumerate(lengths):
        if index > start and rows + length > most:
            shards.append(range(start, index))
            start, rows = index, 0
        rows += length
    return [*shards, range(start, len(lengths))]
