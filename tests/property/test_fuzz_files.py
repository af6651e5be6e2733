"""No file from a stranger brings a reader down: each is read or refused in one line, in bounded time and memory."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.property.hostile import LIMIT_S, READERS

INPUTS = int(os.environ.get("ROBOT_WM_FUZZ", 25))  # per reader
SEED = int(os.environ.get("ROBOT_WM_FUZZ_SEED", 0))
FAST = ("controller.json", "socket message", "flight", "manifest.json", "model.xml")
SLOW = tuple(name for name in READERS if name not in FAST)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Callable[[tuple[str, ...]], dict[str, Any]]:
    """What became of the readers that share a process, by name; one that died of its input has no figures."""
    done: dict[tuple[str, ...], dict[str, Any]] = {}

    def attack(names: tuple[str, ...]) -> dict[str, Any]:
        if names not in done:
            done[names] = _attack(names, tmp_path_factory.mktemp("hostile"), repository)
        return done[names]

    return attack


def _attack(names: tuple[str, ...], folder: Path, repository: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    left = list(names)
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    while left:
        out, errors = folder / "out", folder / f"errors {left[0]}"
        with out.open("wb") as stdout, errors.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.property.hostile", str(folder), str(INPUTS), str(SEED), *left],
                cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(60 + len(left) * (INPUTS + 2 * LIMIT_S))
            except subprocess.TimeoutExpired:
                code = -signal.SIGALRM
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait(10)
        printed = out.read_text(errors="replace").splitlines()  # ONNX Runtime says things there too
        lines = [json.loads(line) for line in printed if line.startswith("{")]
        begun = [line["begun"] for line in lines if "begun" in line]
        for line in lines:
            if "reader" in line:
                found[line["reader"]] = line
        if code:  # the last one begun is the culprit; the others have their turn
            culprit = begun[-1] if begun else left[0]
            found[culprit] = {"code": code, "error": errors.read_text(errors="replace")[-3000:]}
        left = [name for name in left if name not in found]
    return found


def check(found: dict[str, Any], record_property: Callable[[str, object], None]) -> None:
    assert "error" not in found, f"exit status {found['code']}\n{found['error']}"
    assert found["inputs"] >= max(5, INPUTS // READERS[found["reader"]].cost)
    record_property("inputs", found["inputs"])


@pytest.mark.parametrize("reader", FAST)
def test_hostile_files(reader: str, attacked, record_property) -> None:  # type: ignore[no-untyped-def]
    check(attacked(FAST)[reader], record_property)


@pytest.mark.slow
@pytest.mark.timeout(60 + len(SLOW) * (INPUTS + 2 * LIMIT_S))
@pytest.mark.parametrize("reader", SLOW)
def test_more_hostile_files(reader: str, attacked, record_property) -> None:  # type: ignore[no-untyped-def]
    check(attacked(SLOW)[reader], record_property)
