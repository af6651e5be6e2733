"""The wheel in an environment of its own, with numpy and ONNX Runtime and nothing else: it steps a bundle."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.handmade_bundle import write_bundle

BUILD_LIMIT_S, INSTALL_LIMIT_S, RUN_LIMIT_S = 120, 200, 60
STEP = """
import importlib.util, json, sys
from pathlib import Path
import numpy as np
from deploy.runtime.controller import Controller

controller = Controller(Path(sys.argv[1]), ["CPUExecutionProvider"], 1)
spec = controller.spec
pending = np.zeros((spec.ahead, spec.command.frame_skip, spec.command.dim)) if spec.ahead else None
controller.set_goal(np.full((spec.height, spec.width, 3), 255, np.uint8))
for _ in range(3):
    plan = controller.step(np.zeros((spec.height, spec.width, 3), np.uint8), np.zeros(len(spec.proprio)), pending)
    assert plan.is_finite
others = ("torch", "mujoco", "hydra", "cv2", "rich", "scipy", "onnx", "pyarrow")
print(json.dumps({
    "command": plan.command_KU.tolist(),
    "from": str(Path(sys.modules["deploy"].__file__).parent.parent),
    "others": [name for name in others if importlib.util.find_spec(name)],
}))
"""


def run(command: list[str], folder: Path, limit_s: float) -> subprocess.CompletedProcess[str]:
    """A child that cannot outlive its limit, inherits nothing of the test's, and sees no checkout."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit_s,
        env={**environment, "CI": "true", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )  # fmt: skip


def prepare(what: str, command: list[str], folder: Path, limit_s: float) -> None:
    """Run a step that needs a package index; skip where there is none."""
    try:
        done = run(command, folder, limit_s)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{what} did not end in {limit_s} s")
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        if any(word in done.stderr for word in ("No matching distribution", "Connection", "Temporary failure", "HTTP")):
            pytest.skip(f"{what}: {reason[0]}")
        pytest.fail(f"{what}: {done.stderr[-2000:]}")


@pytest.mark.slow
def test_the_wheel_alone_steps_a_bundle(tmp_path: Path, repository: Path) -> None:
    """The one named by ROBOT_WM_TEST_BUNDLE, such as the demo's, or one made by hand."""
    named = os.environ.get("ROBOT_WM_TEST_BUNDLE")
    bundle = Path(named).resolve() if named else write_bundle(tmp_path / "bundle")
    python = str(tmp_path / "env" / "bin" / "python")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path / "wheels"), str(repository)]
    prepare("building the wheel", build, tmp_path, BUILD_LIMIT_S)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    prepare("a new environment", [sys.executable, "-m", "venv", "env"], tmp_path, BUILD_LIMIT_S)
    # The plain build of ONNX Runtime stands in for the GPU's, which is ten times as large and has the same interface.
    prepare("installing numpy and onnxruntime", [python, "-m", "pip", "install", "-q", "--only-binary=:all:",
            "numpy>=2.0,<3", "onnxruntime>=1.22"], tmp_path, INSTALL_LIMIT_S)  # fmt: skip
    prepare("installing the wheel", [python, "-m", "pip", "install", "-q", "--no-deps", str(wheel)], tmp_path, 60)
    done = run([python, "-c", STEP, str(bundle)], tmp_path, RUN_LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert f'"from": "{tmp_path / "env"}' in done.stdout, "the code ran from the wheel"
    assert '"others": []' in done.stdout
    assert '"command": [[' in done.stdout
