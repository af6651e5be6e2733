"""A recording that is killed, workers and all, goes on and becomes what it would have been."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from deploy.cli import main

SIZE = ["episodes=40", "frames_per_episode=4", "size=32", "workers=2"]


def dataset(out: Path) -> dict[str, bytes]:
    [run] = (out / "record").iterdir()
    return {str(f.relative_to(run)): f.read_bytes() for f in sorted((run / "dataset").rglob("*")) if f.is_file()}


@pytest.mark.slow
def test_killed_recording_goes_on_and_leaves_no_process(tmp_path: Path, repository: Path) -> None:
    out, random = tmp_path / "killed", np.random.default_rng(0)
    acknowledged: set[str] = set()
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy", "record", *SIZE, f"out={out}"],
            env={**os.environ, "PYTHONPATH": str(repository)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        before = len(acknowledged)
        until_s = time.monotonic() + 90
        while len(shards(out)) == before and process.poll() is None and time.monotonic() < until_s:
            time.sleep(0.02)
        time.sleep(float(random.uniform(0, 0.4)))
        process.send_signal(signal.SIGKILL)  # the parent alone
        process.wait(timeout=30)
        deadline_s = time.monotonic() + 30
        while alive(process.pid) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        assert not alive(process.pid)
        assert acknowledged <= shards(out)
        acknowledged = shards(out)
        assert acknowledged
    assert main(["record", *SIZE, f"out={out}"]) == 0
    assert main(["record", *SIZE, f"out={tmp_path / 'whole'}"]) == 0
    assert dataset(out) == dataset(tmp_path / "whole")


def shards(out: Path) -> set[str]:
    return {path.name for path in out.glob("record/*/dataset/meta/shards/*.parquet") if path.name[0] != "."}


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
