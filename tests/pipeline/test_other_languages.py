"""The same commands from Node.js and from C++, where those tools can be had."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from deploy.runtime.controller import Controller
from robot_wm.contracts import files
from tests.handmade_bundle import IMAGINING_PLAN, make_spec, write_bundle

INSTALL_LIMIT_S, RUN_LIMIT_S, STEPS = 200, 60, 6
HEADER = "onnxruntime_cxx_api.h"
HEADER_PACKAGE = "@qvac/onnx@0.15.1"  # carries the headers of ONNX Runtime 1.24; nothing of it is run
HEADER_SHA256 = "ff52c079d281510e58d350d0cb5132012a9fcf455e29a181c452f9ce5f654b35"
HEADER_FOLDER = "package/prebuilds/include/onnxruntime"


@dataclass(frozen=True)
class Recording:
    """Inputs of a closed loop, and the commands that the Python runtime gives on them, (S, K, U)."""

    bundle: Path
    inputs: Path
    packed: Path
    commands: np.ndarray


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Frames, proprio and noise, recorded; the loop is closed over the command in force."""
    folder = tmp_path_factory.mktemp("recording")
    bundle = write_bundle(folder / "bundle", make_spec(schema=3), plan=IMAGINING_PLAN)
    rng = np.random.default_rng(0)
    controller, noise = Controller(bundle, ["CPUExecutionProvider"], 1, seed=3), np.random.default_rng(3)
    spec = controller.spec
    frames = rng.integers(0, 256, (STEPS + 1, spec.height, spec.width, 3), dtype=np.uint8)
    shape = (spec.iterations, spec.candidates, spec.horizon, spec.command.dim)
    controller.set_goal(frames[-1])
    controller.reset(np.array([0.25, -0.125]))
    commands, steps, reference = [], [], [0.25, -0.125]
    packed = [np.array(reference, np.float32).tobytes(), frames[-1].tobytes()]
    for frame in frames[:-1]:
        proprio = rng.normal(size=len(spec.proprio)).astype(np.float32)
        draws = noise.standard_normal(shape, dtype=np.float32)
        steps.append(
            {
                "frame": frame.ravel().tolist(), "proprio": proprio.tolist(), "reference": reference,
                "noise": draws.ravel().tolist(),
            }
        )  # fmt: skip
        packed += [frame.tobytes(), proprio.tobytes(), draws.tobytes()]
        commands.append(controller.step(frame, proprio).command_KU)
        controller.sent(commands[-1][-1])
    (folder / "inputs.json").write_text(json.dumps({"goal": frames[-1].ravel().tolist(), "steps": steps}))
    (folder / "inputs.bin").write_bytes(b"".join(packed))
    return Recording(bundle, folder / "inputs.json", folder / "inputs.bin", np.array(commands))


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


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX Runtime's C++ headers: named, installed, or out of a package that carries them."""
    named = os.environ.get("ONNXRUNTIME_INCLUDE")
    places = [Path(named)] if named else []
    places += [Path(root) / "include" / sub for root in ("/usr", "/usr/local") for sub in ("onnxruntime", ".")]
    found = next((place for place in places if (place / HEADER).is_file()), None)
    if found is not None:
        return found
    if shutil.which("npm") is None:
        pytest.skip("no headers of ONNX Runtime here (name their folder by ONNXRUNTIME_INCLUDE), and no npm")
    folder = tmp_path_factory.mktemp("headers")
    try:
        packed = run(["npm", "pack", "--json", HEADER_PACKAGE], folder, INSTALL_LIMIT_S)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm pack {HEADER_PACKAGE} did not end in {INSTALL_LIMIT_S} s")
    if packed.returncode:
        pytest.skip(f"npm pack {HEADER_PACKAGE}: {packed.stderr.strip().splitlines()[-1:]}")
    archive = folder / json.loads(packed.stdout)[0]["filename"]
    assert files.sha256(archive) == HEADER_SHA256
    unpacked = run(["tar", "-xzf", archive.name, HEADER_FOLDER], folder, RUN_LIMIT_S)
    archive.unlink()
    assert unpacked.returncode == 0, unpacked.stderr
    return folder / HEADER_FOLDER


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ONNX Runtime's shared library, which the Python package carries, under the names a linker needs."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    found = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"), None)
    if found is None:
        pytest.skip("the Python package of ONNX Runtime carries no shared library here")
    folder = tmp_path_factory.mktemp("library")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(found)
    return folder


@pytest.mark.slow
def test_cpp_steps_the_bundle_to_the_same_commands(
    headers: Path, library: Path, recording: Recording, tmp_path: Path, repository: Path
) -> None:
    source, program = repository / "examples" / "cpp" / "controller.cpp", tmp_path / "controller"
    command = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-isystem", str(headers), str(source)]
    linked = ["-L", str(library), "-lonnxruntime", f"-Wl,-rpath,{library}", "-o", str(program)]
    built = run([*command, *linked], tmp_path, RUN_LIMIT_S)
    assert built.returncode == 0, built.stderr
    done = run([str(program), str(recording.bundle), str(recording.packed)], tmp_path, RUN_LIMIT_S)
    assert done.returncode == 0, done.stderr
    found = np.array([line.split() for line in done.stdout.splitlines()], np.float64)
    assert np.abs(found.reshape(recording.commands.shape) - recording.commands).max() <= 1e-4
