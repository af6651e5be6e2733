"""From run folders to one HTML file that opens anywhere, without a network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.report import figures, sections, words
from deploy.report.cards import cards
from deploy.report.sections import Stage
from robot_wm.contracts import files
from robot_wm.contracts.errors import UserError
from robot_wm.evaluation.results import ControllerResult, Evaluation, read_evaluation
from robot_wm.page.page import write_page
from robot_wm.page.plot import Quantity, quantity_of
from robot_wm.training.checkpoint import SHIPPED, model_run

DEFAULT_TITLE = "From video to a robot under control"


@dataclass(frozen=True)
class ReportInputs:
    """The run folders that the page is about; each may be left out.

    Attributes:
        record: procedural video.
        ingest: video that a user gave.
        pretrain, calibrate, export, evaluate: the chain to the controller and its result.
        calibrate_scratch: the same calibration without pretraining.
        calibration_log: the record run that calibration read; counted in the times only.
        command: what made all of it, to be repeated by the reader.
        title: heading of the page.
    """

    record: Path | None = None
    ingest: Path | None = None
    pretrain: Path | None = None
    calibration_log: Path | None = None
    calibrate: Path | None = None
    calibrate_scratch: Path | None = None
    export: Path | None = None
    evaluate: Path | None = None
    command: str = ""
    title: str = DEFAULT_TITLE


_STAGE_OF = {  # field of ReportInputs → the stage that must have written it, in the order of the work
    "record": "record",
    "ingest": "ingest",
    "pretrain": "pretrain",
    "calibration_log": "record",
    "calibrate": "calibrate",
    "calibrate_scratch": "calibrate",
    "export": "export",
    "evaluate": "evaluate",
}
_CARDS = ("record", "ingest", "pretrain", "calibrate", "export", "evaluate")


def write_report(path: Path, inputs: ReportInputs) -> Path:
    """Write the page about `inputs` to `path`, atomically; returns `path`.

    Raises:
        UserError: no run was given, or a folder is not a finished run of its stage.
    """
    stages = {
        field: sections.stage(folder, stage)
        for field, stage in _STAGE_OF.items()
        if (folder := getattr(inputs, field)) is not None
    }
    if not stages:
        raise UserError("the report has no runs to tell of", "Give at least one run folder")
    return write_page(path, "deploy.report", "report.html", script="report.js", **_context(inputs, stages))


def _context(inputs: ReportInputs, stages: dict[str, Stage]) -> dict[str, Any]:
    watched = inputs.record or inputs.ingest
    evaluation = read_evaluation(stages["evaluate"].path) if "evaluate" in stages else None
    shipped = model_run(SHIPPED)  # its time was spent elsewhere
    times = [(_LABELS[f], s.manifest.wall_s) for f, s in stages.items() if s.path != shipped]
    context: dict[str, Any] = {
        "title": inputs.title,
        "command": inputs.command,
        "cards": cards([stages[f] for f in _CARDS if f in stages], watched),
        "times": times,
        "total_s": sum(wall_s for _, wall_s in times),
        "lineage": sections.lineage(list(stages.values())),
        "curves": sections.curves(stages["pretrain"].path) if "pretrain" in stages else [],
        "fit_curves": sections.curves(stages["calibrate"].path) if "calibrate" in stages else [],
        "provenance": next(reversed(stages.values())).manifest,
        "glossary": words.GLOSSARY,
        "anchored": "pretrain" in stages and _anchored(stages["pretrain"]),
        "evaluation": evaluation,
        "strips": [],
        "prediction": None,
    }
    step_s = _step_s(stages, evaluation)
    if "calibrate" in stages:
        quantity = _quantity(stages["calibrate"])
        context["strips"], context["prediction"] = sections.strips(stages["calibrate"].path, step_s, quantity)
    if evaluation is not None:
        context |= _results(stages["evaluate"].path, evaluation, step_s)
    return context


def _results(path: Path, evaluation: Evaluation, step_s: float) -> dict[str, Any]:
    model = evaluation.controller("model")
    names = {key: named.name for key, named in words.CONTROLLERS.items()}
    timed = model is not None and model.latency is not None
    return {
        "headline": sections.headline(evaluation),
        "rows": sections.rows(evaluation),
        "speeds": sections.speeds(evaluation, step_s),
        "attempts": sections.attempts(path, evaluation),
        "distances": figures.distances(evaluation, names),
        "latencies": figures.latencies(model, step_s) if timed and model is not None else None,
        "guards": _guards(model) if model is not None else [],
        "ticks_total": evaluation.ticks * len(model.episodes) if model is not None else 0,
        "duration_s": evaluation.ticks * evaluation.step_s,
    }


def _quantity(calibrate: Stage) -> Quantity:
    """What the body's proprio is: the place of its hand, or of its joints."""
    body, summary = calibrate.manifest.config.get("embodiment"), calibrate.path / "summary.json"
    units = files.read_json(summary).get("position_units", ()) if summary.is_file() else ()
    return quantity_of(units, isinstance(body, dict) and body.get("interface") == "end_effector_velocity")


def _guards(model: ControllerResult) -> list[tuple[str, int]]:
    return [(words.GUARDS.get(name, name), count) for name, count in sorted(model.guards.items()) if count]


def _step_s(stages: dict[str, Stage], evaluation: Evaluation | None) -> float:
    """Duration of one model step, from the embodiment in a stage's config; one control tick where none has it."""
    for field in ("calibrate", "evaluate"):
        body = stages[field].manifest.config.get("embodiment") if field in stages else None
        if isinstance(body, dict) and body.get("control_rate_hz") and body.get("frame_skip"):
            return float(body["frame_skip"]) / float(body["control_rate_hz"])
    return evaluation.step_s if evaluation is not None else 1.0


def _anchored(pretrain: Stage) -> bool:
    """Whether pretraining also read the simulator's own positions of hand and object."""
    weights = pretrain.manifest.config.get("loss")
    return isinstance(weights, dict) and bool(weights.get("state"))


_LABELS = {
    "record": "Watch: simulate and film arms",
    "ingest": "Watch: cut the given video",
    "pretrain": "Learn how things move",
    "calibration_log": "Meet the robot: film it",
    "calibrate": "Meet the robot: fit the model",
    "calibrate_scratch": "The same without the video, to compare",
    "export": "Pack for the robot",
    "evaluate": "Act: all attempts of all controllers",
}
