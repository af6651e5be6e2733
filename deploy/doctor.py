"""What this machine can do and what it lacks, each with what to do about it. Needs nothing but the bare package."""

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deploy.refusals import missing_package
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import machine

State = Literal["ok", "note", "wrong"]
_MARKS: dict[State, str] = {"ok": "ok  ", "note": "note", "wrong": "WRONG"}
_LITTLE_GB, _LEAST_GB = 20, 2
_NEEDED_BY = {"train": "pretrain, calibrate, export", "sim": "record, identify, evaluate", "view": "view live=true"}
# y = x + x, as ONNX (opset 17): small enough to stand here, so that a robot needs no exporter to try its providers.
_DOUBLE = bytes.fromhex(
    "08083a350a0e0a01780a017812017922034164641201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112040a020801"
    "42040a001011"
)


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        state: ok; note (works, with something to know); wrong (something will fail).
        found: what is there.
        advice: what to do; empty when there is nothing to do.
    """

    name: str
    state: State
    found: str
    advice: str = ""


def show(as_json: bool = False) -> int:
    """Print every check; returns 0, or 1 when something is wrong."""
    checks = examine()
    if as_json:
        print(json.dumps({"machine": machine(), "checks": [dataclasses.asdict(c) for c in checks]}, indent=2))
    else:
        print(machine())
        width = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{_MARKS[check.state]:<5}  {check.name:<{width}}  {check.found}")
            if check.advice:
                print(" " * (width + 9) + f"→ {check.advice}")
    return int(any(check.state == "wrong" for check in checks))


def examine() -> list[Check]:
    """All checks, in order; one that fails in a way nobody foresaw is itself what is wrong."""
    return [check for look in _LOOKS for check in _safely(look)]


def _safely(look: Callable[[], list[Check]]) -> list[Check]:
    name = look.__name__.strip("_").replace("_", " ")
    try:
        return look()
    except UserError as error:
        return [Check(name, "wrong", error.problem, error.remedy)]
    except ImportError as error:
        try:
            known = missing_package(error)
        except ImportError:
            return [Check(name, "wrong", f"{type(error).__name__}: {error}", "Install robot-wm again")]
        return [Check(name, "wrong", known.problem, known.remedy)]
    except Exception as error:
        return [Check(name, "wrong", f"{type(error).__name__}: {error}", "Please report this with the line above")]


def _python() -> list[Check]:
    found = f"Python {platform.python_version()} at {sys.prefix}"
    if (3, 11) <= sys.version_info < (3, 14):
        return [Check("python", "ok", found)]
    return [Check("python", "wrong", found, "Make an environment with Python 3.11, 3.12 or 3.13")]


def _packages() -> list[Check]:
    """Every installed package that a requirement names must be of a version that it allows."""
    from packaging.requirements import Requirement  # comes with every pip environment that we know of

    wrong: list[Check] = []
    missing: dict[str, list[str]] = {}
    for text in importlib.metadata.requires("robot-wm") or []:
        needed = Requirement(text)
        extras = [e for e in ("", "train", "sim", "stage", "hub", "view") if _asked(needed, e)]
        if not extras or needed.name == "robot-wm":
            continue
        try:
            version = importlib.metadata.version(needed.name)
        except importlib.metadata.PackageNotFoundError:
            missing.setdefault(extras[0] or "the bare install", []).append(needed.name)
            continue
        if not needed.specifier.contains(version, prereleases=True):
            wrong.append(Check(needed.name, "wrong", version, f"pip install '{needed.name}{needed.specifier}'"))
    checks = wrong or [Check("versions", "ok", "every installed package is of a version that was tested")]
    for extra, names in missing.items():
        bare = extra == "the bare install"
        remedy = "pip install robot-wm" if bare else f"pip install 'robot-wm[{extra}]'"
        use = f" (for {_NEEDED_BY[extra]})" if extra in _NEEDED_BY else ""
        checks.append(Check(f"[{extra}]", "wrong" if bare else "note", f"{', '.join(names)} missing{use}", remedy))
    return checks


def _asked(needed: Any, extra: str) -> bool:
    if needed.marker is None:
        return extra == ""
    return bool(needed.marker.evaluate({"extra": extra})) and (extra == "" or not needed.marker.evaluate({"extra": ""}))


def _rendering() -> list[Check]:
    if importlib.util.find_spec("mujoco") is None:
        return [Check("rendering", "note", "no MuJoCo here, so nothing is simulated or drawn")]
    from sims import gl

    backend = gl.choose_backend()
    gl.new_context().free()
    found = f"MuJoCo {importlib.metadata.version('mujoco')} draws through {backend}"
    return [Check("rendering", "ok", found)]


def _codecs() -> list[Check]:
    """A short film written and read back, through both libraries that read video."""
    if importlib.util.find_spec("av") is None or importlib.util.find_spec("cv2") is None:
        return [
            Check("video", "note", "PyAV or OpenCV is not here, so no video is read", "pip install 'robot-wm[train]'")
        ]
    import cv2

    from robot_wm.data import video

    checks = []
    film = np.stack([np.full((64, 64, 3), 20 * i, np.uint8) for i in range(8)])
    codecs: tuple[tuple[video.Codec, str], ...] = (("libx264", "H.264"), ("libsvtav1", "AV1"))
    for codec, name in codecs:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "film.mp4"
            video.encode(path, film, 10.0, codec=codec)
            frames, capture = len(video.decode(path)), cv2.VideoCapture(str(path))
            try:
                by_opencv = sum(capture.read()[0] for _ in range(8))
            finally:
                capture.release()
        if frames != 8:
            checks.append(Check(name, "wrong", f"PyAV read {frames} of 8 frames", "pip install --force-reinstall av"))
        elif by_opencv != 8:
            advice = "pip install 'opencv-python>=4.13,<5': 5.0 reads no AV1"
            checks.append(Check(name, "wrong", f"OpenCV read {by_opencv} of 8 frames", advice))
        else:
            checks.append(Check(name, "ok", "written, and read back by PyAV and OpenCV"))
    return checks


def _onnx_runtime() -> list[Check]:
    """Each provider computes something; one that is listed may still fail to start."""
    import onnxruntime

    checks = []
    has_gpu = _gpu_names() is not None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for provider in onnxruntime.get_available_providers():
        name = provider.removesuffix("ExecutionProvider")
        if name in ("CUDA", "Tensorrt") and not has_gpu:
            continue
        session = onnxruntime.InferenceSession(_DOUBLE, options, providers=[provider])
        started = session.get_providers()[0] == provider
        answer = session.run(None, {"x": np.ones(1, np.float32)})[0]
        if started and answer[0] == 2:
            checks.append(Check(f"ONNX Runtime {name}", "ok", f"{onnxruntime.__version__} computes"))
        else:
            advice = "pip install 'onnxruntime-gpu[cuda,cudnn]', or use the CPU: nothing else is lost"
            if name == "Tensorrt":
                advice = "pip install tensorrt, or leave it: CUDA and the CPU do without"
            checks.append(Check(f"ONNX Runtime {name}", "note", "is listed, and does not start", advice))
    return checks


def _gpu() -> list[Check]:
    names = _gpu_names()
    if names is None:
        return [Check("GPU", "note", "none; every stage runs on the CPU", "")]
    if importlib.util.find_spec("torch") is None:
        return [Check("GPU", "ok", names)]
    import torch

    if torch.cuda.is_available():
        return [Check("GPU", "ok", f"{names}; PyTorch {torch.__version__} uses it")]
    return [
        Check(
            "GPU", "note", f"{names}, but PyTorch {torch.__version__} does not use it",
            "pip install torch from the CUDA index that pytorch.org names for your driver",
        )
    ]  # fmt: skip


def _gpu_names() -> str | None:
    """The NVIDIA GPUs as the driver names them; None where there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return "; ".join(line.strip() for line in done.stdout.splitlines() if line.strip()) or None


def _disk() -> list[Check]:
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    found = f"{free_gb:.0f} GB free in {Path.cwd()}"
    advice = "runs/ and .cache/ grow with the data; free some space, or name other places: out=FOLDER cache=FOLDER"
    state: State = "wrong" if free_gb < _LEAST_GB else "note" if free_gb < _LITTLE_GB else "ok"
    checks = [Check("disk", state, found, "" if state == "ok" else advice)]
    if not os.access(Path.cwd(), os.W_OK):
        checks.append(Check("folder", "wrong", f"{Path.cwd()} may not be written", "Go elsewhere, or give out=FOLDER"))
    return checks


_LOOKS: tuple[Callable[[], list[Check]], ...] = (_python, _packages, _rendering, _codecs, _onnx_runtime, _gpu, _disk)
