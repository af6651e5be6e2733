"""The cache of arrays: killed, damaged, or built by two at once, it ends whole and costs only what was lost."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from robot_wm.data.cache import Plan, Stored, obtain
from tests import children

ROWS, PARTS = 4, 40
PLAN = Plan(
    {"frames": ((ROWS * PARTS, 8, 3), np.dtype(np.uint8)), "flow": ((ROWS * PARTS, 2), np.dtype(np.float16))},
    np.arange(0, ROWS * PARTS + 1, ROWS),
    {},
)
BUILDER = """
import sys, time
from pathlib import Path
from robot_wm.data import cache
from tests.recovery.test_cache_recovery import PLAN, fill

cache._SAVE_S = 0.0

def slow(place, parts):
    fill(place, parts)
    time.sleep(0.04 * len(parts))
    with open(sys.argv[2], "a") as log:
        log.writelines(f"{part}\\n" for part in parts)

print("ready", flush=True)
cache.obtain(Path(sys.argv[1]), PLAN, slow, 2, "test")
"""


def fill(place: dict[str, np.ndarray], parts: list[int]) -> None:
    rows = np.repeat(parts, ROWS)
    place["frames"][:] = rows[:, None, None]
    place["flow"][:] = -rows[:, None]


def whole(stored: Stored) -> bool:
    expected = np.repeat(np.arange(PARTS), ROWS)
    return bool(
        (stored.arrays["frames"] == expected[:, None, None]).all()
        and (stored.arrays["flow"] == -expected[:, None]).all()
    )


def again(target: Path) -> tuple[bool, list[int]]:
    """Whether the content is right in the end, and which parts had to be filled for that."""
    filled: list[int] = []

    def count(place: dict[str, np.ndarray], parts: list[int]) -> None:
        fill(place, parts)
        filled.extend(parts)

    return whole(obtain(target, PLAN, count, 2, "test", np.arange(PARTS) // 3)), sorted(filled)


@contextmanager
def builder(folder: Path, repository: Path) -> Iterator[subprocess.Popen[str]]:
    with children.python(repository, "-c", BUILDER, str(folder / "cache"), str(folder / "log")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


def test_a_killed_build_goes_on_where_it_was(tmp_path: Path, repository: Path) -> None:
    digests, safe = tmp_path / "cache.partial" / "digests.npy", 0
    for _ in range(2):
        with builder(tmp_path, repository) as process:
            for _ in range(1000):  # until something more is safe
                time.sleep(0.01)
                if digests.exists() and np.load(digests).any(axis=1).sum() > safe:
                    break
            process.send_signal(signal.SIGKILL)
        done = np.load(digests).any(axis=1)
        assert done.sum() > safe
        safe = int(done.sum())
    assert not (tmp_path / "cache").exists()
    assert safe < PARTS
    assert again(tmp_path / "cache") == (True, np.flatnonzero(~done).tolist())
    assert again(tmp_path / "cache") == (True, [])


def test_two_builders_make_one_cache(tmp_path: Path, repository: Path) -> None:
    with builder(tmp_path, repository) as first, builder(tmp_path, repository) as second:
        assert (first.wait(30), second.wait(30)) == (0, 0)
    assert sorted(map(int, (tmp_path / "log").read_text().split())) == list(range(PARTS))  # each part once
    assert again(tmp_path / "cache") == (True, [])


@pytest.mark.parametrize("seed", range(12))
def test_any_flipped_byte_is_found_and_costs_one_part(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    target = tmp_path / "cache"
    assert again(target) == (True, list(range(PARTS)))
    path = sorted(target.iterdir())[seed % 4]  # two arrays, digests, index
    data = bytearray(path.read_bytes())
    place = int(random.integers(128 if path.suffix == ".npy" else 0, len(data)))  # behind the header of an array
    data[place] ^= 1 << int(random.integers(8))
    path.write_bytes(bytes(data))
    right, filled = again(target)
    assert right
    assert len(filled) <= 1
    assert again(target) == (True, [])


@pytest.mark.parametrize("damage", ["no index", "no digests", "no array", "short array", "header", "other plan"])
def test_a_cache_that_lacks_something_is_mended(tmp_path: Path, damage: str) -> None:
    target = tmp_path / "cache"
    again(target)
    array = target / "000.npy"
    if damage == "no index":
        (target / "index.json").unlink()
    elif damage == "no digests":
        (target / "digests.npy").unlink()
    elif damage == "no array":
        array.unlink()
    elif damage == "short array":
        array.write_bytes(array.read_bytes()[:-50])
    elif damage == "header":
        array.write_bytes(b"\x00" * 10 + array.read_bytes()[10:])
    else:
        (target / "index.json").write_text((target / "index.json").read_text().replace("frames", "framez"))
    assert again(target)[0]
    assert again(target) == (True, [])


def test_what_an_interrupted_build_left_damaged_is_filled_again(tmp_path: Path) -> None:
    def dies(place: dict[str, np.ndarray], parts: list[int]) -> None:
        if 20 in parts:
            raise KeyboardInterrupt
        fill(place, parts)

    with pytest.raises(KeyboardInterrupt):
        obtain(tmp_path / "cache", PLAN, dies, 1, "test")
    frames = np.load(tmp_path / "cache.partial" / "000.npy", mmap_mode="r+")
    frames[ROWS * 3] = 99  # part 3 was done
    frames.flush()
    right, filled = again(tmp_path / "cache")
    assert right
    assert 3 in filled
    assert not {0, 1, 2, 4, 5} & set(filled)
