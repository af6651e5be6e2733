"""doctor: every check that can fail is made to fail, names what is wrong, and says what to do."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy import doctor
from robot_wm.data import video

needs_cv2 = pytest.mark.skipif(doctor.importlib.util.find_spec("cv2") is None, reason="no OpenCV here")


def found(look: object, state: str) -> doctor.Check:
    """The one check of a look that is in that state."""
    [check] = [c for c in doctor._safely(look) if c.state == state]
    return check


def test_another_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "sys", SimpleNamespace(version_info=(3, 14, 0), prefix="/usr"))
    assert "Python 3.11, 3.12 or 3.13" in found(doctor._python, "wrong").advice


@pytest.mark.parametrize(
    ("requirement", "name", "advice"),
    [
        ("numpy<1", "numpy", "pip install 'numpy<1'"),
        ("absent-thing>=2", "[the bare install]", "pip install robot-wm"),
    ],
)
def test_a_package_of_another_version_or_none(
    monkeypatch: pytest.MonkeyPatch, requirement: str, name: str, advice: str
) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: [requirement])
    check = found(doctor._packages, "wrong")
    assert (check.name, check.advice) == (name, advice)


def test_an_extra_that_is_not_installed_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ['absent-thing; extra == "sim"'])
    check = found(doctor._packages, "note")
    assert check.advice == "pip install 'robot-wm[sim]'" and "record" in check.found


def test_a_machine_that_draws_nothing() -> None:
    """In a process of its own: a backend is chosen once."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy", "doctor", "--json"], env={**os.environ, "MUJOCO_GL": "disable"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1
    assert checks["rendering"]["state"] == "wrong" and "MUJOCO_GL" in checks["rendering"]["advice"]


@needs_cv2
@pytest.mark.parametrize(("reader", "advice"), [("PyAV", "force-reinstall av"), ("OpenCV", "opencv-python>=4.13,<5")])
def test_a_library_that_reads_no_video(monkeypatch: pytest.MonkeyPatch, reader: str, advice: str) -> None:
    if reader == "PyAV":
        monkeypatch.setattr(video, "decode", lambda _: [])
    else:
        blind = SimpleNamespace(read=lambda: (False, None), release=lambda: None)
        monkeypatch.setattr("cv2.VideoCapture", lambda _: blind)
    checks = doctor._safely(doctor._codecs)
    assert [(c.name, c.state) for c in checks] == [("H.264", "wrong"), ("AV1", "wrong")]
    assert all(reader in c.found and advice in c.advice for c in checks)


@pytest.fixture
def a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that names a GPU, which nothing here can use."""
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho 'NVIDIA Test, 555.1'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def test_a_gpu_that_pytorch_does_not_use(a_gpu: None) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("PyTorch uses the GPU of this machine")
    check = found(doctor._gpu, "note")
    assert "NVIDIA Test" in check.found and "pytorch.org" in check.advice


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize(("provider", "advice"), [("CUDA", "onnxruntime-gpu"), ("Tensorrt", "tensorrt")])
def test_a_provider_that_is_listed_and_does_not_start(
    a_gpu: None, monkeypatch: pytest.MonkeyPatch, provider: str, advice: str
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    name = f"{provider}ExecutionProvider"
    if pytest.importorskip("torch").cuda.is_available():
        pytest.skip("it may start here")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [name])
    check = found(doctor._onnx_runtime, "note")
    assert check.name == f"ONNX Runtime {provider}" and advice in check.advice


@pytest.mark.parametrize(("free_gb", "state"), [(1, "wrong"), (10, "note")])
def test_a_disk_that_is_nearly_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_gb: int, state: str) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free_gb * 10**9))
    assert "free some space" in found(doctor._disk, state).advice


def test_a_folder_that_may_not_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # the superuser may write anywhere
    assert found(doctor._disk, "wrong").name == "folder"


def test_what_nobody_foresaw_is_a_finding_and_no_traceback() -> None:
    def _fan() -> list[doctor.Check]:
        raise RuntimeError("it burns")

    check = found(_fan, "wrong")
    assert check.name == "fan" and "it burns" in check.found and check.advice
