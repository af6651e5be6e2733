"""What the page shows, read from the run folders; whatever a chain of runs lacks is left out."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy.report import figures, words
from deploy.report.media import Clip, Picture, clip, picture
from robot_wm.contracts import files
from robot_wm.contracts.run import MANIFEST, Manifest, read_run
from robot_wm.evaluation.results import ControllerResult, Evaluation, Share
from robot_wm.page.plot import Figure, Quantity, prediction_error

MAX_CURVES = 8


@dataclass(frozen=True)
class Stage:
    """One finished run: its folder, manifest, and the manifest's own SHA-256."""

    path: Path
    manifest: Manifest
    sha256: str


@dataclass(frozen=True)
class Row:
    """One controller in the table of results, in plain words."""

    key: str
    name: str
    meaning: str
    success: Share
    success_any: Share
    median_cm: float
    q1_cm: float
    q3_cm: float


@dataclass(frozen=True)
class Headline:
    """The result in one sentence, and what it means beside the references."""

    sentence: str
    beside: str
    verdicts: tuple[str, ...]


@dataclass(frozen=True)
class Speed:
    """Decision times of one controller [ms], with what they leave of the deadline."""

    name: str
    decisions: int
    rows: tuple[tuple[str, float, float, float], ...]
    deadline_ms: float


@dataclass(frozen=True)
class Strip:
    """What came, and what the model predicted, frame by frame."""

    truth: tuple[Picture, ...]
    predicted: tuple[Picture, ...]
    ahead_s: tuple[float, ...]


@dataclass(frozen=True)
class Attempt:
    """One recorded attempt."""

    clip: Clip
    success: bool
    caption: str


def stage(path: Path, name: str) -> Stage:
    """Read a finished run of the stage `name`; raises UserError when it is none."""
    return Stage(path, read_run(path, name), files.sha256(path / MANIFEST))


def headline(evaluation: Evaluation) -> Headline | None:
    """What the learned controller reached, beside the references; None when none was evaluated."""
    model = evaluation.controller("model")
    if model is None:
        return None
    share = model.success_last
    others = [c for c in evaluation.controllers if c.name != "model" and c.name in words.CONTROLLERS]
    others.sort(key=lambda c: c.kind == "model")  # what is known to everyone comes first
    parts: list[str] = []
    for controller in others:
        verb = "" if parts else "reached "
        parts.append(f"{words.CONTROLLERS[controller.name].phrase} {verb}{controller.success_last.successes}")
    listed = " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
    beside = f"On the same {share.trials} goals, {listed}." if parts else ""
    sentence = f"The learned controller reached {share.successes} of {share.trials} goals"
    return Headline(sentence, beside, tuple(_verdicts(evaluation)))


def _verdicts(evaluation: Evaluation) -> list[str]:
    """What the intervals allow to be said, and what they do not."""
    said = []
    by_other = {item.b: item.interval for item in evaluation.differences if item.a == "model"}
    for name in ("random", "hold", "scratch"):
        if name not in by_other:
            continue
        interval, other = by_other[name], words.CONTROLLERS[name].phrase
        value, low, high = (_signed(100 * share) for share in (interval.value, interval.low, interval.high))
        points, bounds = f"{value} percentage points", f"95\u00a0% interval {low} to {high}"
        if interval.low > 0:
            said.append(f"Better than {other}: {points}, {bounds}.")
        elif interval.high < 0:
            said.append(f"Worse than {other}: {points}, {bounds}.")
        else:
            said.append(f"With so few attempts not distinguishable from {other}: {points}, {bounds}.")
    return said


def _signed(points: float) -> str:
    rounded = round(points)
    return "0" if rounded == 0 else f"{rounded:+d}".replace("-", "\u2212")


def rows(evaluation: Evaluation) -> list[Row]:
    """One row for each controller, in the order of the file."""
    return [_row(c) for c in evaluation.controllers]


def _row(controller: ControllerResult) -> Row:
    named = words.CONTROLLERS.get(controller.name, words.Named(controller.name, controller.name, ""))
    spread = controller.final_distance_m
    return Row(
        controller.name,
        named.name,
        named.meaning,
        controller.success_last,
        controller.success_any,
        100 * spread.median,
        100 * spread.q1,
        100 * spread.q3,
    )


def speeds(evaluation: Evaluation, deadline_s: float) -> list[Speed]:
    """Decision times of each learned controller."""
    found = []
    for controller in evaluation.controllers:
        if (latency := controller.latency) is None:
            continue
        percentiles = (("half of all", latency.p50_ms), ("95 %", latency.p95_ms), ("99 %", latency.p99_ms))
        lines = tuple((label, i.value, i.low, i.high) for label, i in percentiles)
        name = words.CONTROLLERS[controller.name].name if controller.name in words.CONTROLLERS else controller.name
        found.append(Speed(name, latency.decisions, lines, 1000 * deadline_s))
    return found


def attempts(path: Path, evaluation: Evaluation) -> list[Attempt]:
    """The filmed attempts of the learned controller; a missing file is passed over."""
    model = evaluation.controller("model")
    episodes = {e.pair_seed: e for e in model.episodes} if model is not None else {}
    found = []
    for video in evaluation.videos:
        episode = episodes.get(video.pair_seed)
        file = files.confine(path, video.path)
        if video.controller != "model" or episode is None or not file.is_file():
            continue
        start_cm, end_cm = 100 * episode.distances_m[0], 100 * episode.distances_m[-1]
        outcome = "Reached" if video.success else "Missed"
        caption = f"{outcome}: from {start_cm:.1f} to {end_cm:.1f} cm"
        if not video.success and episode.success_any:
            caption += ", after passing through the goal"
        alt = f"Video of one attempt, camera on the left and goal image on the right. {caption}."
        found.append(Attempt(clip(file, alt), video.success, caption))
    return found


def strips(path: Path, step_s: float, quantity: Quantity, most: int = 2) -> tuple[list[Strip], Figure | None]:
    """Filmstrips and error plot from a calibrate run's `prediction.npz`; empty where there is none."""
    file = path / "prediction.npz"
    if not file.is_file():
        return [], None
    with np.load(file, allow_pickle=False) as data:
        arrays = {key: data[key] for key in data.files}
    found = []
    if {"truth_frames", "nearest_frames"} <= set(arrays):
        for truth_kYXC, nearest_kYXC in list(zip(arrays["truth_frames"], arrays["nearest_frames"], strict=True))[:most]:
            ahead_s = tuple(step_s * (k + 1) for k in range(len(truth_kYXC)))
            found.append(
                Strip(
                    tuple(picture(f, f"What came after {s:.1f} s.") for f, s in zip(truth_kYXC, ahead_s, strict=True)),
                    tuple(picture(f, f"Predicted for {s:.1f} s.") for f, s in zip(nearest_kYXC, ahead_s, strict=True)),
                    ahead_s,
                )
            )
    if not {"error_by_step", "copy_error_by_step", "pictures_error_by_step"} <= set(arrays):
        return found, None
    model_k, copy_k, seen_k = arrays["error_by_step"], arrays["copy_error_by_step"], arrays["pictures_error_by_step"]
    return found, prediction_error(model_k, copy_k, step_s, quantity, seen_k)


def curves(path: Path) -> list[Figure]:
    """Training curves from `metrics.jsonl`, of the last phase where there are several: those that have words, in order.

    A stage that logs nothing the page has words for gets its first few columns under their own names.
    """
    lines = [line for line in metrics(path) if _is_number(line.get("step"))]
    phase = lines[-1].get("phase") if lines else None
    columns: dict[str, dict[float, float]] = {}  # by step: a resumed run logs some steps twice, the last one counts
    for line in lines:
        for key, value in line.items():
            if key != "step" and _is_number(value) and line.get("phase", phase) == phase:
                columns.setdefault(key, {})[line["step"]] = value
    drawable = [key for key, points in columns.items() if len(points) > 1]
    drawn = []
    for key in ([k for k in words.CURVES if k in drawable] or drawable)[:MAX_CURVES]:
        title, explanation = words.CURVES.get(key, (key.replace("_", " "), ""))
        steps, values = zip(*sorted(columns[key].items()), strict=True)
        safe = "".join(c for c in key if c.isalnum())  # becomes part of ids in the page
        drawn.append(figures.curve(f"{path.parent.name}-{safe}", title, steps, values, explanation))
    return drawn


def metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`; a torn line is passed over."""
    file = path / "metrics.jsonl"
    if not file.is_file():
        return []
    found = []
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict):
            found.append(line)
    return found


def lineage(stages: Sequence[Stage]) -> list[tuple[Stage, list[tuple[str, str, str]]]]:
    """Each run with its inputs: (name, SHA-256, stage that wrote it or an empty string)."""
    writers = {s.sha256: s.manifest.stage for s in stages}
    return [(s, [(key, a.sha256, writers.get(a.sha256, "")) for key, a in s.manifest.inputs.items()]) for s in stages]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
