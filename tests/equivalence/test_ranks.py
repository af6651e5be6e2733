"""Several processes at one training take the steps of one; one error of theirs is told once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from deploy.cli import main
from robot_wm.contracts.run import MANIFEST
from robot_wm.training.loop import PROGRESS
from tests.faults.test_killed_anywhere import SMALL_PRETRAIN
from tests.property.hostile import make_dataset

LONGEST_S = 120.0
SIZE = (
    *SMALL_PRETRAIN, "training.steps=20", "training.batch=8", "training.health_every=20", "training.accelerator=cpu",
)  # fmt: skip
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "deploy")
HERE = ("-m", "deploy")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Simulated clips, whose positions are known, and others without: the two processes then know unlike many."""
    folder = tmp_path_factory.mktemp("data")
    size = ("episodes=6", "frames_per_episode=8", "size=32", "workers=1")
    assert main(["record", *size, f"out={folder / 'runs'}"]) == 0
    [recorded] = (folder / "runs" / "record").iterdir()
    make_dataset(folder / "log", 12)
    return f"data=[{recorded},{folder / 'log'}]"


@pytest.fixture(scope="module")
def two(data: str, tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The run of two processes that the command itself has started."""
    folder = tmp_path_factory.mktemp("two")
    code, said = python(repository, folder, *HERE, "pretrain", data, *SIZE, "training.devices=2", "out=runs")
    assert code == 0, said
    return only_run(folder)


def python(repository: Path, folder: Path, *words: str, until: Callable[[], bool] = lambda: False) -> tuple[int, str]:
    """Exit code and what was said; whatever it started is ended with it: at last, after LONGEST_S, or at `until`."""
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, *words], cwd=folder, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
        deadline_s = time.monotonic() + LONGEST_S
        try:
            while process.poll() is None and not until() and time.monotonic() < deadline_s:
                time.sleep(0.005)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)
            kill_all_in(folder)
    return process.returncode, (folder / "said.txt").read_text()


def kill_all_in(folder: Path) -> None:
    """torchrun gives each worker a session of its own: it outlives its launcher and holds the run's lock."""
    while left := [int(cwd.parent.name) for cwd in Path("/proc").glob("[0-9]*/cwd") if works_in(cwd, folder)]:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def works_in(cwd: Path, folder: Path) -> bool:
    try:
        return cwd.readlink() == folder
    except OSError:  # it has ended, or is another user's
        return False


def only_run(folder: Path) -> Path:
    [run] = (folder / "runs" / "pretrain").iterdir()
    return run


def curve(run: Path) -> dict[str, float]:
    """Every term that was logged."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {f"{line['step']} {k}": v for line in lines if "total" in line for k, v in line.items()}


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(data: str, two: Path, tmp_path: Path) -> None:
    assert main(["pretrain", data, *SIZE, f"out={tmp_path / 'runs'}", f"cache={tmp_path}"]) == 0
    alone = curve(only_run(tmp_path))
    assert len(alone) == 2 * 11  # twice the step, nine terms and their sum
    assert curve(two) == pytest.approx(alone, abs=1e-4)


@pytest.mark.slow
def test_under_torchrun_a_killed_training_ends_in_the_same_weights(
    data: str, two: Path, tmp_path: Path, repository: Path
) -> None:
    words = (*TORCHRUN, "pretrain", data, *SIZE, "training.devices=2", "out=runs")
    python(repository, tmp_path, *words, until=lambda: any(tmp_path.glob(f"runs/*/*/{PROGRESS}")))
    assert not (only_run(tmp_path) / MANIFEST).exists()
    code, said = python(repository, tmp_path, *words)
    assert code == 0, said
    assert "progress" not in {path.stem for path in only_run(tmp_path).iterdir()}
    expected = load_file(two / "model.safetensors")
    for name, value in load_file(only_run(tmp_path) / "model.safetensors").items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.slow
def test_an_error_ends_all_and_is_told_once(data: str, two: Path, tmp_path: Path, repository: Path) -> None:
    words = ("pretrain", data, *SIZE, "training.devices=2", "out=runs", f"cache={two.parents[2] / '.cache'}")
    code, said = python(repository, tmp_path, *HERE, *words, "training.learning_rate=1e12", "training.warmup=1")
    assert code == 2
    assert said.count("error:") == 1, said
    assert "Lower training.learning_rate" in said
    assert "Traceback" not in said


def test_a_batch_that_cannot_be_shared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", "data=[nowhere]", "training.batch=32", "training.devices=3"]) == 2
    said = capsys.readouterr().err
    assert "training.batch is 32, which 3 processes cannot share evenly. Give training.batch=30" in said
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    for name, value in (("LOCAL_WORLD_SIZE", "2"), ("WORLD_SIZE", "4"), ("RANK", "0")):
        monkeypatch.setenv(name, value)
    assert main(["pretrain", "data=[nowhere]"]) == 2
    assert "torchrun started 2 processes on this machine" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
