"""Recording on a cluster, one machine standing in for it: what the launchers' jobs write is what one process writes."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli import main
from robot_wm.data.lerobot import LeRobotDataset

REASON = "{} is not installed: pip install 'robot-wm[cluster]'"
SIZE = ["episodes=9", "frames_per_episode=3", "size=32", "workers=1"]


def files_of(out: Path) -> dict[str, bytes]:
    [run] = (out / "record").iterdir()
    return {str(f.relative_to(run)): f.read_bytes() for f in sorted((run / "dataset").rglob("*")) if f.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole")
    assert main(["record", *SIZE, f"out={out}"]) == 0
    return files_of(out)


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(
            name, marks=pytest.mark.skipif(not importlib.util.find_spec(package), reason=REASON.format(package))
        )
        for name, package in (("submitit_local", "submitit"), ("ray", "ray"))
    ],
)
def test_parts_recorded_by_a_launcher_are_gathered(
    tmp_path: Path, repository: Path, whole: dict[str, bytes], launcher: str
) -> None:
    words = ["record", "--multirun", "shard=0,1", "shards=2", *SIZE, f"out={tmp_path}", f"hydra/launcher={launcher}"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    subprocess.run([sys.executable, "-m", "deploy", *words], check=True, env=environment, cwd=tmp_path, timeout=200)
    [run] = (tmp_path / "record").iterdir()
    assert not (run / "manifest.json").exists()  # parts alone make no run
    assert main(["record", *SIZE, f"out={tmp_path}"]) == 0
    assert files_of(tmp_path) == whole
    assert LeRobotDataset(run / "dataset").num_episodes == 9
