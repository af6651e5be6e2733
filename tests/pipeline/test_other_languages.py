"""The same commands from Node.js and from C++, where those tools can be had."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from deploy.runtime.controller import Controller
from tests.handmade_bundle import write_bundle

INSTALL_LIMIT_S, RUN_LIMIT_S, STEPS = 200, 60, 6


@dataclass(frozen=True)
class Recording:
    """Inputs of a closed loop, and the commands that the Python runtime gives on them, (S, K, U)."""

    bundle: Path
    inputs: Path
    commands: np.ndarray


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Frames, proprio and noise, recorded; the loop is closed over the command in force."""
    folder = tmp_path_factory.mktemp("recording")
    bundle, rng = write_bundle(folder / "bundle"), np.random.default_rng(0)
    controller, noise = Controller(bundle, ["CPUExecutionProvider"], 1, seed=3), np.random.default_rng(3)
    spec = controller.spec
    frames = rng.integers(0, 256, (STEPS + 1, spec.height, spec.width, 3), dtype=np.uint8)
    shape = (spec.iterations, spec.candidates, spec.horizon, spec.command.dim)
    controller.set_goal(frames[-1])
    controller.reset(np.array([0.25, -0.125]))
    commands, steps, reference = [], [], [0.25, -0.125]
    for frame in frames[:-1]:
        proprio = rng.normal(size=len(spec.proprio)).astype(np.float32)
        draws = noise.standard_normal(shape, dtype=np.float32)
        steps.append(
            {
                "frame": frame.ravel().tolist(), "proprio": proprio.tolist(), "reference": reference,
                "noise": draws.ravel().tolist(),
            }
        )  # fmt: skip
        commands.append(controller.step(frame, proprio).command_KU)
        controller.sent(commands[-1][-1])
    (folder / "inputs.json").write_text(json.dumps({"goal": frames[-1].ravel().tolist(), "steps": steps}))
    return Recording(bundle, folder / "inputs.json", np.array(commands))


def run(command: list[str], folder: Path, limit_s: float) -> subprocess.CompletedProcess[str]:
    """A child that cannot outlive its limit, and that inherits nothing of the test's."""
    return subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit_s,
        env={**os.environ, "CI": "true"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Path]:
    """A folder with the example and onnxruntime-node installed beside it."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no node and npm here")
    folder = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", ".", "onnxruntime-node"]
    try:
        done = run(command, folder, INSTALL_LIMIT_S)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm install onnxruntime-node did not end in {INSTALL_LIMIT_S} s")
    if done.returncode:
        pytest.skip(f"npm install onnxruntime-node: {done.stderr.strip().splitlines()[-1:]}")
    for file in (repository / "examples" / "node").glob("*.mjs"):
        shutil.copy(file, folder)
    yield folder
    shutil.rmtree(folder / "node_modules", ignore_errors=True)  # 300 MB


@pytest.mark.slow
def test_node_steps_the_bundle_to_the_same_commands(node: Path, recording: Recording) -> None:
    done = run(["node", "replay.mjs", str(recording.bundle), str(recording.inputs)], node, RUN_LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert np.abs(np.array(json.loads(done.stdout)) - recording.commands).max() <= 1e-4
