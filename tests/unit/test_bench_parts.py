"""Benchmarks in parts: what is kept is not measured again, and whatever ends the work ends every process of it."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.bench import parts as in_parts
from deploy.bench.bench import BenchConfig
from robot_wm.contracts import files
from tests.children import python

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Toy:
    name: str
    minutes: float = 6.0


@dataclass(frozen=True)
class Told:
    words: tuple[str, ...]


TOYS = [Toy("one"), Toy("two"), Toy("three")]
# A benchmark whose parts go on for a minute in a child of their own; each says which processes it has.
ENDLESS = """
import os, subprocess, sys, time
from pathlib import Path
child = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
Path(sys.argv[1], "parts", sys.argv[2] + ".new").write_text(f"{os.getpid()} {child.pid}")
Path(sys.argv[1], "parts", sys.argv[2] + ".new").rename(Path(sys.argv[1], "parts", sys.argv[2] + ".pids"))
time.sleep(60)
"""
WORKING = """
import os, sys
os.environ["PYTHONPATH"] += os.pathsep + sys.argv[1]
from deploy.bench import parts
from deploy.bench.bench import BenchConfig
from tests.unit.test_bench_parts import TOYS
parts.work_off("endless", TOYS, BenchConfig("toy", out=sys.argv[1]))
"""


def pids_of(folder: Path, seconds: float) -> list[int]:
    """The processes of the first two parts, once both are under way."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        told = sorted((folder / "bench" / "toy-quick-0" / "parts").glob("*.pids"))
        if len(told) == 2:
            return [int(word) for file in told for word in file.read_text().split()]
        time.sleep(0.02)
    raise AssertionError("the parts did not begin")


def gone(pid: int, seconds: float = 10) -> bool:
    """Whether a process ends (one that nobody has waited for yet counts as ended)."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "endless.py").write_text(ENDLESS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), str(REPOSITORY))))
    return tmp_path


def test_parts_under_way_are_ended_when_the_minutes_are_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, nothing = [], subprocess.DEVNULL

    def never_ends(module: str, folder: Path, part: Toy, config: BenchConfig) -> "subprocess.Popen[bytes]":
        begun.append(
            subprocess.Popen(["sleep", "60"], stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
        )
        return begun[-1]

    monkeypatch.setattr(in_parts, "_begin", never_ends)
    in_parts.work_off("toy", TOYS, BenchConfig("toy", out=str(tmp_path), minutes=0.01), at_once=2)
    assert [process.returncode for process in begun] == [-signal.SIGKILL] * 2, "two at a time"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks /proc what became of processes")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_parts_under_way(endless: Path, number: int) -> None:
    with python(REPOSITORY, "-c", WORKING, str(endless)) as working:
        pids = pids_of(endless, 40)
        try:
            working.send_signal(number)
            assert working.wait(30) != 0
            assert all(gone(pid) for pid in pids)
        finally:
            for pid in pids:
                if not gone(pid, 0.05):
                    os.kill(pid, signal.SIGKILL)


def test_what_is_kept_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def begin(module: str, folder: Path, part: Toy, config: BenchConfig) -> "subprocess.Popen[bytes]":
        begun.append(part.name)
        in_parts._log(folder, part).write_bytes(b"")
        in_parts.measure_one([str(folder), part.name, config.size, "4"], lambda *_: TOYS, measure)
        nothing = subprocess.DEVNULL
        return subprocess.Popen([sys.executable, "-c", ""], stdin=nothing, stdout=nothing, stderr=nothing)

    def measure(folder: Path, part: Toy, size: str, seed: int) -> Told:
        return Told((part.name, size, str(seed)))

    monkeypatch.setattr(in_parts, "_begin", begin)
    config = BenchConfig("toy", out=str(tmp_path), seed=4)
    before = in_parts.kept(in_parts.folder_of(config), TOYS[1])
    before.parent.mkdir(parents=True)
    files.write_json(before, {"words": ["before"]})
    folder = in_parts.work_off("toy", TOYS, config)
    assert begun == ["one", "three"]
    found = in_parts.read(folder, TOYS, Told)
    assert [found[toy].words for toy in TOYS] == [("one", "quick", "4"), ("before",), ("three", "quick", "4")]


def test_what_is_left_is_said_with_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(module: str, folder: Path, part: Toy, config: BenchConfig) -> "subprocess.Popen[bytes]":
        in_parts._log(folder, part).write_text("…\nno such robot\n", encoding="utf-8")
        nothing = subprocess.DEVNULL
        return subprocess.Popen(
            [sys.executable, "-c", "raise SystemExit(1)"], stdin=nothing, stdout=nothing, stderr=nothing
        )

    monkeypatch.setattr(in_parts, "_begin", fails)
    in_parts.work_off("toy", TOYS, BenchConfig("toy", out=str(tmp_path)))
    said = " ".join(capsys.readouterr().err.split())
    assert "three failed: no such robot" in said
    assert "0 of 3 parts measured; the rest takes about 9 minutes on 2 cores" in said
