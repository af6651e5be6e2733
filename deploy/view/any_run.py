"""Any other run: what its manifest says, its curves, and the pictures that it left."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deploy.report import sections
from deploy.report.media import Picture, picture
from deploy.view import page
from robot_wm.contracts import files
from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.run import read_run

_PICTURES = 12
_ADVICE = {
    "evaluate": "Its report, with films of the attempts, is written by robot-wm demo.",
    "demo": "Open report.html in this folder: it is the page of the whole path.",
    "inspect": "Open dataset.html in this folder: it is the page of the dataset.",
    "calibrate": "Open report.html in this folder: it is the page of the calibration.",
    "verify": "Open verification.html in this folder: it is the page of what was found.",
    "identify": "How far the joints of the simulation, driven by the log's commands alone, stray from the real ones "
    "[rad or m]: before with the MJCF as it was, after as identified; held_out on a part that was not fitted.",
    "camera": "How far the board's corners are off in the pictures [px], and how surely the camera's place is known "
    "(95 %) [m]. The overlay shows the picture in red and the render in cyan: gray where they agree.",
}


def write(path: Path, run: Path) -> Path:
    """Write the page about a finished run; returns `path`.

    Raises:
        UserError: not a finished run.
    """
    manifest = read_run(run)
    inputs = [(name, item.path, item.sha256[:12]) for name, item in manifest.inputs.items()]
    outputs = [(name, item.sha256[:12]) for name, item in manifest.outputs.items()]
    beside = [f"Written by {manifest.command} on {manifest.machine}."]
    article = "An" if manifest.stage[0] in "aeiou" else "A"
    beside += [_ADVICE[manifest.stage]] if manifest.stage in _ADVICE else []
    return page.write(
        path, "any_run.html", kind=f"{article} {manifest.stage} run", title=run.resolve().name, beside=beside,
        manifest=manifest, gates=_flat(manifest.gates), metrics=_flat(manifest.metrics), inputs=inputs,
        outputs=outputs, curves=sections.curves(run), pictures=_pictures(run, list(manifest.outputs)),
        config=_flat(manifest.config), controller=[],
    )  # fmt: skip


def write_controller(path: Path, folder: Path, spec: ControllerSpec) -> Path:
    """Write the page about an exported controller; returns `path`."""
    space = spec.command
    facts = [
        ("body", spec.embodiment),
        ("camera", f"{spec.camera}, {spec.width} × {spec.height} pixels"),
        ("proprio", ", ".join(spec.proprio)),
        ("plans", f"{spec.horizon} steps of {space.frame_skip / space.control_rate_hz:g} s ahead"),
        ("search", f"{spec.candidates} candidates, {spec.iterations} iterations"),
        ("commands", f"{space.dim} at {space.control_rate_hz:g} Hz [{space.unit}]"),
        *((name, f"{low:.4g} to {high:.4g}, at most {step:.4g} per tick") for name, low, high, step in
          zip(space.names, space.low, space.high, space.max_step, strict=True)),
        *((f"parity of {name}", f"{value:.1e}") for name, value in spec.parity.items()),
    ]  # fmt: skip
    return page.write(
        path, "any_run.html", kind="A controller", title=folder.resolve().name,
        beside=[f"{len(spec.files)} ONNX graphs and what a runtime must know of them. A flight shows them at work.",
                "Parity: how far each output of the graphs is from PyTorch's own, at most; 0 is the same."],
        manifest=None, gates=[], metrics=[], curves=[], pictures=[], config=[], controller=facts,
        inputs=[(name, "", sha256[:12]) for name, sha256 in spec.lineage.items()],
        outputs=[(name, sha256[:12]) for name, sha256 in spec.files.items()],
    )  # fmt: skip


def _flat(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as `outer.inner` and text."""
    if isinstance(values, dict):
        return [row for key, value in values.items() for row in _flat(value, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(values, float):
        text = f"{values:.6g}"
    elif isinstance(values, list) and values and all(isinstance(v, str | int | float) for v in values):
        text = ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)
    else:
        text = values if isinstance(values, str) else json.dumps(values)
    return [(prefix, text if len(text) <= 400 else text[:400] + " …")]


def _pictures(run: Path, outputs: list[str]) -> list[Picture]:
    found = []
    for name in [n for n in outputs if n.endswith((".png", ".jpg"))][:_PICTURES]:
        image = cv2.imread(str(files.confine(run, name)))
        if image is not None:
            found.append(picture(np.ascontiguousarray(image[..., ::-1]).astype(np.uint8), name))
    return found
