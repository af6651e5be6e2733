"""LeRobot v3.0 datasets, written so that an acknowledged episode survives whatever comes after."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts import files
from robot_wm.contracts.dataset import Feature
from robot_wm.contracts.errors import UserError
from robot_wm.data import journal, lerobot_files
from robot_wm.data.lerobot import read_episode_rows
from robot_wm.data.lerobot_files import INFO, Episode, Format, Row

_JOURNAL = "meta/journal.jsonl"


class LeRobotWriter:
    """Writes a dataset episode by episode, as they come: one parquet file, and one mp4 per camera, each.

    An episode counts once its row stands in `meta/journal.jsonl`, after its files are on disk. `close` turns the
    journal into the format's own metadata. A writer opened again on the same folder, interrupted or closed, continues
    after the last acknowledged episode. For many processes at a time see `LeRobotShards`.

    Args:
        path: the dataset's folder; made if absent.
        fps: rows (and frames) per second [Hz].
        features: name → Feature, without timestamp and indices, which the writer adds.
        robot_type: the robot's name in LeRobot's tools.

    Raises:
        UserError: the folder holds a dataset of other features, another rate or an older version.
    """

    def __init__(self, path: Path, fps: float, features: dict[str, Feature], robot_type: str = "unknown"):
        self.path = Path(path)
        self._format = Format(float(fps), features, robot_type)
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
        start = (self.num_episodes, self._rows[-1]["dataset_to_index"] if self._rows else 0)
        tasks = {**self._tasks, task: self._tasks.get(task, len(self._tasks))}
        episode = Episode(columns, videos, task)
        [row] = lerobot_files.write_file(self.path, self._format, self.num_episodes, [episode], start, tasks)
        header = [] if self._journal.is_file() else [self._format.header()]
        journal.append(self._journal, *header, row)
        self._rows.append(row)
        self._tasks = tasks

    def close(self) -> None:
        """Write the format's metadata, `info.json` last.

        Raises:
            UserError: no episode was ever added.
        """
        if not self._rows:
            raise UserError(f"{self.path} holds no episode", "Record at least one")
        lerobot_files.write_metadata(self.path, self._format, self._rows, list(self._tasks))
        self._journal.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def _recover(self) -> list[Row]:
        """Rows of all acknowledged episodes: those of the last `close`, then those of the journal."""
        rows: list[Row] = []
        if (self.path / INFO).is_file():
            self._format.check(self.path, files.read_json(self.path / INFO))
            rows = read_episode_rows(self.path)
        lines = journal.read(self._journal)
        if lines:
            self._format.check(self.path, lines[0])
        return rows + [row for row in lines[1:] if row["episode_index"] >= len(rows)]
