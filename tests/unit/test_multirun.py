"""--multirun: every combination once, and parts of a recording that several processes write into one run folder."""

import importlib.util
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import compose
from deploy.bench import bench
from deploy.bench.result import Row
from deploy.cli import main
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import open_run


@pytest.fixture(autouse=True)
def handlers_stay_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra closes every handler of logging, and absl's takes with it the stream into which pytest captures."""
    monkeypatch.setattr(logging, "_handlerList", [])


def test_a_job_gets_its_own_overrides_as_text_and_can_compose(tmp_path: Path) -> None:
    jobs = []

    def job(overrides: list[str]) -> None:
        values = compose.compose("record", overrides)
        jobs.append((values["shard"], values["seed"], values["embodiment"]["name"]))

    compose.multirun(["shard=0,1", "seed=3,4", "embodiment=fetch"], job, tmp_path)
    assert jobs == [(0, 3, "fetch"), (0, 4, "fetch"), (1, 3, "fetch"), (1, 4, "fetch")]


FAILING = """
import sys
from pathlib import Path
from deploy import compose
from robot_wm.contracts.errors import UserError

def fails(_):
    raise UserError("no such arm", "Name one")

try:
    compose.multirun(["seed=0,1"], fails, Path.cwd())
except UserError as error:
    sys.exit(f"refused: {error}")
"""


def test_a_failed_job_and_an_unknown_launcher_are_reported(tmp_path: Path, repository: Path) -> None:
    """In processes of their own: Hydra's way of telling a failure does not go with pytest's capture."""

    def said(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(repository)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode in (1, 2), done.stderr
        return done.stderr

    failed = said("-c", FAILING)
    assert "no such arm" in failed and "refused: not every job" in failed
    sweep = ("-m", "deploy", "record", "--multirun", "seed=0,1", f"out={tmp_path}")
    assert "Available options in 'hydra/launcher'" in said(*sweep, "hydra/launcher=clouds")
    if importlib.util.find_spec("ray") is None:
        assert "robot-wm[cluster]" in said(*sweep, "hydra/launcher=ray")


def test_what_jobs_wrote_is_printed_one_a_line_or_as_one_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["calibrate", "board", "--multirun", "file=a.pdf,b.pdf"]) == 0
    assert capfd.readouterr().out.split() == ["a.pdf", "b.pdf"]
    assert main(["calibrate", "board", "--multirun", "--json", "file=a.pdf,b.pdf"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["command"] == "calibrate board"
    assert [(job["overrides"], job["path"]) for job in told["jobs"]] == [
        (["file=a.pdf"], "a.pdf"),
        (["file=b.pdf"], "b.pdf"),
    ]
    assert main(["calibrate", "board", "--multirun", "--json", "file=a.pdf", "board.rows=1,2"]) == 2
    assert "not every job" in json.loads(capfd.readouterr().out)["error"]["problem"]


def counted(config: bench.BenchConfig) -> list[Row]:
    return [Row("seed", config.seed)]


def test_what_benchmarks_measure_stands_in_the_same_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "toy_benchmark", sys.modules[__name__])
    monkeypatch.setitem(bench.BENCHMARKS, "toy", ("toy_benchmark", "counted"))
    assert main(["bench", "toy", "--multirun", "seed=1,2", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert [job["result"]["rows"][0]["value"] for job in told["jobs"]] == [1, 2]


def test_parts_share_a_run_folder_and_who_finishes_it_is_alone(tmp_path: Path) -> None:
    config = {"seed": 0}
    with open_run(tmp_path, "record", "a", config, shared=True) as first:
        with open_run(tmp_path, "record", "a", config, shared=True) as second:
            assert second.path == first.path
        with (
            pytest.raises(UserError, match="another process is writing"),
            open_run(tmp_path, "record", "a", config),
        ):
            pass
    with open_run(tmp_path, "record", "a", config) as last:
        assert last.path == first.path
