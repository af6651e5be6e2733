"""The flight log: one row per control tick, on disk when `append` returns, readable after a kill.

One file per episode: a line of JSON that names the columns, then rows of fixed size, each ending in its CRC-32. A
reader stops at the first row that is torn. Files are written through to the operating system row by row (a killed
process loses nothing) and to the disk at the end of an episode (a power cut may lose the episode under way).
"""

import io
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.controller import Plan
from deploy.runtime.safety import INTERVENTIONS
from robot_wm.contracts import files, limits
from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation

_FORMAT = "robot-wm flight log 3"
_BEFORE = {"robot-wm flight log 1": 1, "robot-wm flight log 2": 2}  # rows without _SIGNS; without `imagined`
_SIZES = ("height", "width", "proprio", "command", "horizon", "latent")  # the last two from format 3 on
_SIGNS = ("surprise", "miss", "imagination_error")
_PATTERN = "episode_[0-9]*.flight"
_GOAL = ".goal.npy"  # beside an episode's file
_CRC = "crc32"
_HEADER_BYTES = 4096


@dataclass(frozen=True)
class FlightEpisode:
    """One episode read back.

    Attributes:
        rows_L: structured array, one row per control tick: `time_s`, `frame` (Y, X, 3), `state` (P,), `command` (U,)
            asked of the robot, `action` (U,) really sent, `cost` and `uncertainty` (NaN between plans), `latency_s`
            (NaN between plans), `held` (index into INTERVENTIONS, -1 for none). Since format 2 also what the guards
            and the plan knew (NaN where they did not): `surprise` of the image and `miss` of the last model step,
            both 1 at the calibration log's extremes, and `imagination_error`, what the plan before expected of it.
            Since format 3, where the bundle tells, `imagined` (H, D): the latents that a plan expects after each of
            its model steps, in half precision (NaN between plans).
        outcome: what `end` was given; None if the episode was cut short.
    """

    path: Path
    rows_L: NDArray[np.void]
    outcome: dict[str, Any] | None


class FlightLog:
    """Writes episodes to a folder."""

    def __init__(self, folder: Path, spec: ControllerSpec):
        """`folder` is made with the first episode; episodes already in it are kept."""
        self._folder = folder
        imagined = (spec.horizon, spec.latent_dim) if spec.tells_imagined else (0, 0)
        sizes = (spec.height, spec.width, len(spec.proprio), spec.command.dim, *imagined)
        self._header = {"format": _FORMAT, **dict(zip(_SIZES, sizes, strict=True))}
        self._row = np.zeros((), _row_type(3, *sizes))
        self._file: int | None = None
        self._path: Path | None = None

    def begin(self) -> Path:
        """Start the next episode; returns its file."""
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        taken = [int(path.stem.partition("_")[2]) for path in self._folder.glob(_PATTERN)]
        self._path = self._folder / f"episode_{max(taken, default=-1) + 1:06d}.flight"
        self._file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o644)
        self._write(json.dumps(self._header).encode() + b"\n")
        return self._path

    def append(
        self,
        observation: Observation,
        command_U: NDArray[np.float64],
        sent_U: NDArray[np.float64],
        plan: Plan | None = None,
        latency_s: float = float("nan"),
        held: str | None = None,
        surprise: float = float("nan"),
        miss: float = float("nan"),
    ) -> None:
        """Add one row; it is safe from a killed process when this returns.

        Raises:
            UserError: the disk is full or gone.
        """
        row = self._row
        row["time_s"] = observation.time_s
        row["frame"] = observation.frame_YXC
        row["state"] = observation.proprio_P
        row["command"], row["action"] = command_U, sent_U
        row["cost"] = plan.cost if plan else np.nan
        row["uncertainty"] = plan.uncertainty if plan else np.nan
        row["latency_s"] = latency_s
        row["imagination_error"] = plan.imagination_error if plan else np.nan
        row["surprise"], row["miss"] = surprise, miss
        row["imagined"] = plan.imagined_HD if plan and plan.imagined_HD is not None else np.nan
        row["held"] = INTERVENTIONS.index(held) if held else -1
        row[_CRC] = zlib.crc32(row.tobytes()[: -row.dtype[_CRC].itemsize])
        self._write(row.tobytes())

    def end(self, outcome: dict[str, Any]) -> None:
        """Finish the episode with what came of it (JSON values)."""
        assert self._path is not None
        self.close()
        files.write_json(self._path.with_suffix(".json"), outcome)

    def close(self) -> None:
        """Flush to the disk; an episode without `end` counts as cut short."""
        if self._file is not None:
            os.fsync(self._file)
            os.close(self._file)
            self._file = None

    def _write(self, data: bytes) -> None:
        if self._file is None:
            raise RuntimeError("FlightLog.begin was not called")
        try:
            written = os.write(self._file, data)
            if written < len(data):
                raise OSError(f"{written} of {len(data)} bytes written")
        except OSError as error:
            raise UserError(f"{self._path} cannot be written ({error})", "Free some space, then run again") from error


def keep_goal(episode: Path, frame_YXC: NDArray[np.uint8]) -> None:
    """Put an episode's goal image beside its file, for those who look at the flight later."""
    data = io.BytesIO()
    np.save(data, frame_YXC, allow_pickle=False)
    files.write_atomic(episode.with_suffix(_GOAL), data.getvalue())


def read_goal(episode: Path) -> NDArray[np.uint8] | None:
    """The goal image of an episode's file; None where none was kept, or where it is damaged."""
    try:
        frame_YXC: NDArray[np.uint8] = np.load(episode.with_suffix(_GOAL), "r", allow_pickle=False)
    except Exception:  # numpy parses the header as Python does, and fails in as many ways
        return None
    return frame_YXC if frame_YXC.ndim == 3 and frame_YXC.dtype == np.uint8 else None


def read_episodes(folder: Path) -> list[FlightEpisode]:
    """All episodes of a flight log, each up to its last whole row; one killed before its first row is left out.

    Raises:
        UserError: a file is not a flight log.
    """
    episodes = [read_episode(path) for path in sorted(folder.glob(_PATTERN)) if _has_header(path)]
    return [episode for episode in episodes if len(episode.rows_L)]


def read_episode(path: Path) -> FlightEpisode:
    """One episode up to its last whole row (rows stay on disk until they are used).

    Raises:
        UserError: the file is not a flight log.
    """
    with path.open("rb") as file:
        first = file.readline(_HEADER_BYTES)
    row_type = _read_header(path, first)
    count = (path.stat().st_size - len(first)) // row_type.itemsize
    rows_L = np.memmap(path, row_type, "r", len(first), (count,)) if count > 0 else np.zeros(0, row_type)
    whole = next((i for i, row in enumerate(rows_L) if not _is_whole(row)), len(rows_L))
    outcome_file = path.with_suffix(".json")
    outcome = files.read_json(outcome_file) if outcome_file.is_file() else None
    return FlightEpisode(path, rows_L[:whole], outcome)


def _has_header(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline(_HEADER_BYTES).endswith(b"\n")


def _read_header(path: Path, line: bytes) -> np.dtype[Any]:
    try:
        header = limits.parse_json(line)
        number = _BEFORE.get(header["format"], 3)
        if number == 3 and header["format"] != _FORMAT:
            raise ValueError(header["format"])
        sizes = [int(header[key]) for key in _SIZES[: 4 if number < 3 else None]]
        row_type = _row_type(number, *sizes) if min(sizes) >= 0 else None
        if row_type is None or row_type.itemsize > limits.ROW_BYTES:
            raise ValueError(sizes)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(f"{path} is not a flight log ({error})", f"Give a file that starts with {_FORMAT!r}") from error
    return row_type


def _row_type(
    number: int, height: int, width: int, proprio: int, command: int, horizon: int = 0, latent: int = 0
) -> np.dtype[Any]:
    """A row of format `number`."""
    return np.dtype(
        [
            ("time_s", "<f8"),
            ("frame", "u1", (height, width, 3)),
            ("state", "<f4", (proprio,)),
            ("command", "<f8", (command,)),
            ("action", "<f8", (command,)),
            ("cost", "<f4"),
            ("uncertainty", "<f4"),
            ("latency_s", "<f8"),
            ("held", "i1"),
            *((name, "<f4") for name in _SIGNS if number > 1),
            *([("imagined", "<f2", (horizon, latent))] if number > 2 else []),
            (_CRC, "<u4"),
        ]
    )


def _is_whole(row: np.void) -> bool:
    data = row.tobytes()
    size = row.dtype[_CRC].itemsize
    return zlib.crc32(data[:-size]) == int.from_bytes(data[-size:], "little")
