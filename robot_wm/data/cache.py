"""Folders of memory-mapped arrays: filled part by part, resumed where cut off, each part under a checksum."""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.errors import UserError

_INDEX, _DIGESTS = "index.json", "digests.npy"
_SAVE_S = 2.0
_ABSENT = np.zeros(32, np.uint8)  # no part has this digest


@dataclass(frozen=True)
class Plan:
    """What a folder shall hold.

    Attributes:
        layout: shape and dtype of every array; the first axis (rows) is common to all.
        starts: (P + 1,) first row of each part, and the number of rows.
        facts: what else a reader must know; JSON.
    """

    layout: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
    starts: NDArray[np.int64]
    facts: Mapping[str, Any]

    def index(self) -> dict[str, Any]:
        """Everything about the content that the arrays do not say themselves."""
        arrays = {name: [list(shape), dtype.str] for name, (shape, dtype) in self.layout.items()}
        return {"arrays": arrays, "starts": self.starts.tolist(), "facts": dict(self.facts)}


@dataclass(frozen=True)
class Stored:
    """An opened folder: read-only arrays and what was noted beside them."""

    arrays: dict[str, NDArray[Any]]
    starts: NDArray[np.int64]
    facts: dict[str, Any]


Fill = Callable[[dict[str, NDArray[Any]], list[int]], None]


def obtain(
    target: Path, plan: Plan, fill: Fill, workers: int, title: str, groups_P: NDArray[np.int64] | None = None
) -> Stored:
    """Open the arrays at `target`; build what is missing or damaged first.

    One process builds, others wait for it. The folder appears under its name when it is whole. A build that was
    interrupted, and a folder in which a part no longer matches its checksum, cost only the parts concerned.

    Args:
        target: the folder.
        plan: what it shall hold; must follow from the name of the folder alone.
        fill: writes consecutive parts into arrays of zeros (name → rows of these parts); runs in threads.
        workers: threads.
        title: shown beside the progress bar.
        groups_P: a number for each part; neighbours of the same number are filled in one call. None: each alone.
    """
    stored = _verified(target, plan)
    if stored is not None:
        return stored
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_suffix(".lock")):
        stored = _verified(target, plan)  # another process may just have built it
        if stored is not None:
            return stored
        unfinished = target.with_suffix(".partial")
        if target.is_dir():
            console.say(f"the cache {target} is damaged: what does not match its checksum is built again")
            shutil.rmtree(unfinished, ignore_errors=True)
            target.rename(unfinished)
        unfinished.mkdir(exist_ok=True)
        _build(unfinished, plan, fill, workers, title, groups_P)
        unfinished.rename(target)
    return _open(target, plan)


def _build(folder: Path, plan: Plan, fill: Fill, workers: int, title: str, groups_P: NDArray[np.int64] | None) -> None:
    (folder / _INDEX).unlink(missing_ok=True)
    arrays, kept = _allocate(folder, plan)
    digests_P32 = _read_digests(folder, plan) if kept else _no_digests(plan)
    found = np.flatnonzero(digests_P32.any(axis=1)).tolist()
    damaged = [part for part in found if not _matches(arrays, plan, digests_P32, part)]
    digests_P32[damaged] = _ABSENT
    rows_P = np.diff(plan.starts)
    missing = np.flatnonzero(~digests_P32.any(axis=1)).tolist()

    def work(parts: list[int]) -> list[bytes]:
        first, end = plan.starts[parts[0]], plan.starts[parts[-1] + 1]
        made = {name: np.zeros((end - first, *shape[1:]), dtype) for name, (shape, dtype) in plan.layout.items()}
        fill(made, parts)
        for name, path in _paths(folder, plan).items():
            _write(path, made[name], arrays[name].offset + int(first) * made[name][:1].nbytes)
        spans = [slice(plan.starts[part] - first, plan.starts[part + 1] - first) for part in parts]
        return [_digest({name: rows[span] for name, rows in made.items()}) for span in spans]

    saved_s = time.monotonic()
    with (
        ThreadPoolExecutor(workers) as threads,
        console.progress(title, int(plan.starts[-1]), int(plan.starts[-1] - rows_P[missing].sum())) as bar,
    ):
        waiting = {threads.submit(work, parts): parts for parts in _runs(missing, groups_P)}
        try:
            for future in as_completed(waiting):
                parts = waiting[future]
                digests_P32[parts] = np.frombuffer(b"".join(future.result()), np.uint8).reshape(-1, 32)
                bar.advance(int(rows_P[parts].sum()))
                if time.monotonic() - saved_s > _SAVE_S:
                    _save_digests(folder, digests_P32)
                    saved_s = time.monotonic()
        finally:
            threads.shutdown(wait=True, cancel_futures=True)
            _save_digests(folder, digests_P32)
    for array in arrays.values():
        array.flush()
    index = plan.index() | {"digests_sha256": files.sha256(folder / _DIGESTS)}
    files.write_json(folder / _INDEX, index | {"sha256": _of_json(index)})


def _verified(folder: Path, plan: Plan) -> Stored | None:
    """The folder's content if it is there, and as planned and as its checksums say."""
    try:
        index = files.read_json(folder / _INDEX)
        whole = index.pop("sha256") == _of_json(index) and index.pop("digests_sha256") == files.sha256(
            folder / _DIGESTS
        )
        if not whole or index != json.loads(json.dumps(plan.index())):
            return None
        stored, digests_P32 = _open(folder, plan), _read_digests(folder, plan)
        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
            parts = range(len(plan.starts) - 1)
            if all(threads.map(lambda part: _matches(stored.arrays, plan, digests_P32, part), parts)):
                return stored
    except (UserError, OSError, ValueError, EOFError, KeyError, TypeError, AttributeError):
        pass
    return None


def _open(folder: Path, plan: Plan) -> Stored:
    arrays = {name: np.load(path, mmap_mode="r", allow_pickle=False) for name, path in _paths(folder, plan).items()}
    if any((a.shape, a.dtype) != plan.layout[name] for name, a in arrays.items()):
        raise ValueError(f"arrays in {folder} are not of the planned shapes")
    return Stored(arrays, plan.starts, dict(plan.facts))


def _paths(folder: Path, plan: Plan) -> dict[str, Path]:
    return {name: folder / f"{number:03d}.npy" for number, name in enumerate(plan.layout)}


def _allocate(folder: Path, plan: Plan) -> tuple[dict[str, np.memmap], bool]:
    """The arrays that an interrupted build left (True), if all are there and in shape; else new ones, all zero."""
    paths = _paths(folder, plan)
    with contextlib.suppress(OSError, ValueError, EOFError):
        found = {name: np.load(path, mmap_mode="r+", allow_pickle=False) for name, path in paths.items()}
        if all((a.shape, a.dtype) == plan.layout[name] for name, a in found.items()):
            return found, True
    arrays = {
        name: open_memmap(paths[name], mode="w+", dtype=dtype, shape=shape)
        for name, (shape, dtype) in plan.layout.items()
    }
    for path in paths.values():
        _reserve(path)
    return arrays, False


def _write(path: Path, rows: NDArray[Any], offset: int) -> None:
    """Into the middle of a file: mapped memory would be fetched page by page before it is written over."""
    left = np.ascontiguousarray(rows).data.cast("B") if rows.nbytes else memoryview(b"")
    with path.open("r+b", buffering=0) as file:
        file.seek(offset)
        while left:
            left = left[file.write(left) :]


def _reserve(path: Path) -> None:
    """Take the disk space of a sparse file now, as an OSError: writing to mapped memory on a full disk kills us."""
    if hasattr(os, "posix_fallocate"):  # Linux
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _runs(missing: list[int], groups_P: NDArray[np.int64] | None) -> list[list[int]]:
    """Consecutive parts of one group that are to be filled in one call."""
    runs: list[list[int]] = []
    for part in missing:
        joins = groups_P is not None and runs and runs[-1][-1] == part - 1 and groups_P[part - 1] == groups_P[part]
        if joins:
            runs[-1].append(part)
        else:
            runs.append([part])
    return runs


def _slices(arrays: Mapping[str, NDArray[Any]], plan: Plan, first: int, last: int) -> dict[str, NDArray[Any]]:
    return {name: array[plan.starts[first] : plan.starts[last + 1]] for name, array in arrays.items()}


def _digest(place: Mapping[str, NDArray[Any]]) -> bytes:
    digest = hashlib.sha256()
    for rows in place.values():
        digest.update(np.ascontiguousarray(rows).data)
    return digest.digest()


def _matches(arrays: Mapping[str, NDArray[Any]], plan: Plan, digests_P32: NDArray[np.uint8], part: int) -> bool:
    return _digest(_slices(arrays, plan, part, part)) == digests_P32[part].tobytes()


def _no_digests(plan: Plan) -> NDArray[np.uint8]:
    return np.zeros((len(plan.starts) - 1, 32), np.uint8)


def _read_digests(folder: Path, plan: Plan) -> NDArray[np.uint8]:
    """One checksum per part, zero where there is none."""
    digests_P32 = _no_digests(plan)
    with contextlib.suppress(OSError, ValueError, EOFError):
        found = np.load(folder / _DIGESTS, allow_pickle=False)
        if (found.shape, found.dtype) == (digests_P32.shape, digests_P32.dtype):
            return np.asarray(found)
    return digests_P32


def _save_digests(folder: Path, digests_P32: NDArray[np.uint8]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, digests_P32, allow_pickle=False)
    files.write_atomic(folder / _DIGESTS, buffer.getvalue())


def _of_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file; waits while another process builds the same folder."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.say(f"waiting for another process that builds {path.stem}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
