"""demo: every stage at a small size, from video to a report about a robot under control."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from deploy.report import ReportInputs, write_report
from deploy.stages.calibrate import LiveCalibrateConfig, calibrate
from deploy.stages.evaluate import EvaluateConfig, evaluate
from deploy.stages.export import ExportConfig, export
from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.config import from_mapping
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import open_run, read_run
from robot_wm.stages.ingest import IngestConfig, ingest
from robot_wm.stages.pretrain import PretrainConfig, pretrain
from robot_wm.training.checkpoint import SHIPPED, model_run
from sims.stages.record import RecordConfig, record

REPORT = "report.html"
_PRETRAINING = ("record", "ingest", "pretrain")  # what a video of the user's own is worth


class Stage(NamedTuple):
    """A stage's config dataclass and function."""

    config: type[Any]
    run: Callable[[Any], Path | None]


class Step(NamedTuple):
    """One stage of the demo.

    Attributes:
        stage: what runs.
        title: its banner.
        inputs: fields of its config that take the run of an earlier step (or several), by that step's name.
    """

    stage: Stage
    title: str
    inputs: dict[str, str | tuple[str, ...]]


STEPS: dict[str, Step] = {
    "record": Step(Stage(RecordConfig, record), "film simulated arms, without their actions", {}),
    "ingest": Step(Stage(IngestConfig, ingest), "take in your video", {}),
    "pretrain": Step(
        Stage(PretrainConfig, pretrain), "labeler and world model from video without actions",
        {"data": ("record", "ingest")},
    ),
    "log": Step(Stage(RecordConfig, record), "a short log of a robot never seen before", {}),
    "calibrate": Step(
        Stage(LiveCalibrateConfig, calibrate), "fit the world model to this robot", {"model": "pretrain", "data": "log"}
    ),
    "scratch": Step(
        Stage(LiveCalibrateConfig, calibrate), "the same without pretraining, to compare",
        {"model": "pretrain", "data": "log"},
    ),
    "export": Step(Stage(ExportConfig, export), "controller as ONNX", {"calibration": "calibrate"}),
    "export_scratch": Step(
        Stage(ExportConfig, export), "controller without pretraining as ONNX", {"calibration": "scratch"}
    ),
    "evaluate": Step(
        Stage(EvaluateConfig, evaluate), "reach goals given as images",
        {"bundle": "export", "scratch_bundle": "export_scratch"},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class DemoConfig:
    """Configuration of `robot-wm demo`: the values of each stage, whose inputs the demo fills in.

    Attributes:
        embodiment: the body that is calibrated and controlled; pretraining never sees it.
        video: a video file, a folder of videos, or a LeRobot dataset to pretrain on as well.
        record, ingest, pretrain, log, calibrate, export, evaluate: as the stage's own config; `log` is the recording
            of the embodiment.
        scratch: where the reference without pretraining differs from `calibrate`.
    """

    embodiment: Embodiment
    record: dict[str, Any]
    ingest: dict[str, Any]
    pretrain: dict[str, Any]
    log: dict[str, Any]
    calibrate: dict[str, Any]
    scratch: dict[str, Any]
    export: dict[str, Any]
    evaluate: dict[str, Any]
    video: str | None = None
    name: str = "demo"
    out: str = "runs"
    seed: int = 0


def demo(config: DemoConfig) -> Path:
    """Run the stages one after the other and write `report.html`; returns the run folder.

    Every stage finds its own run again, so that an interrupted demo goes on where it stopped.

    Raises:
        UserError: a value that a stage refuses (found before the first one starts), or a stage that fails.
    """
    values = _values(config)
    for step, given in values.items():
        _settings(step, given, {name: Path("later") for name in STEPS})
    if config.video and not Path(config.video).expanduser().exists():
        raise UserError(f"video {config.video} does not exist", "Give a video file, a folder of them, or a dataset")
    started_s = time.monotonic()
    if not config.video:  # the world model that comes with the package has seen a hundred times as much
        values = {step: given for step, given in values.items() if step not in _PRETRAINING}
    runs = _run(values)
    with open_run(Path(config.out), "demo", config.name, config, runs) as run:
        if not run.complete:
            write_report(run.path / REPORT, _report_inputs(config, runs))
            walls = {f"{name}_s": read_run(runs[name]).wall_s for name in values}
            run.finish([REPORT], metrics=walls, embodiment_sha256=config.embodiment.digest())
    newest = Path(config.out) / "demo" / REPORT
    files.write_atomic(newest, (run.path / REPORT).read_bytes())
    _show({name: runs[name] for name in values}, time.monotonic() - started_s)
    console.say(f"report: {run.path / REPORT}\n        (also as {newest}; it opens in any browser, without a network)")
    return run.path


def _values(config: DemoConfig) -> dict[str, dict[str, Any]]:
    """The values of every step."""
    return {
        "record": config.record,
        "ingest": {**config.ingest, "data": str(Path(config.video or "").expanduser())},
        "pretrain": config.pretrain,
        "log": config.log,
        "calibrate": config.calibrate,
        "scratch": _merged(config.calibrate, config.scratch),
        "export": config.export,
        "export_scratch": config.export,
        "evaluate": config.evaluate,
    }


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `changes`, mappings inside merged as well."""
    merged = dict(values)
    for key, change in changes.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, change) if isinstance(inner, Mapping) and isinstance(change, Mapping) else change
    return merged


def _settings(step: str, values: Mapping[str, Any], runs: Mapping[str, Path]) -> Any:
    """The config of a step, its inputs filled in from the runs before it."""
    inputs: dict[str, Any] = {}
    for field, source in STEPS[step].inputs.items():
        inputs[field] = str(runs[source]) if isinstance(source, str) else [str(runs[s]) for s in source if s in runs]
    return from_mapping(STEPS[step].stage.config, {**values, **inputs}, step)


def _run(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Path]:
    runs = {} if "pretrain" in values else {"pretrain": model_run(SHIPPED)}
    for number, (step, given) in enumerate(values.items(), 1):
        console.say(f"\n[{number}/{len(values)}] {step}: {STEPS[step].title}")
        started_s = time.monotonic()
        done = STEPS[step].stage.run(_settings(step, given, runs))
        if done is None:
            raise UserError(
                f"{step} was a dry run", "Give calibrate.live.execute=true, or leave calibrate.source alone"
            )
        runs[step] = done
        console.say(f"      {step}: {time.monotonic() - started_s:.0f} s  {runs[step]}")
    return runs


def _report_inputs(config: DemoConfig, runs: Mapping[str, Path]) -> ReportInputs:
    return ReportInputs(
        record=runs.get("record"),
        ingest=runs.get("ingest"),
        pretrain=runs["pretrain"],
        calibration_log=runs["log"],
        calibrate=runs["calibrate"],
        calibrate_scratch=runs["scratch"],
        export=runs["export"],
        evaluate=runs["evaluate"],
        command=f"make demo VIDEO={config.video}" if config.video else "make demo",
    )


def _show(runs: Mapping[str, Path], total_s: float) -> None:
    rows = [(name, f"{read_run(path).wall_s:.0f} s") for name, path in runs.items()]
    console.table(f"demo: {total_s:.0f} s in this session", ("stage", "wall time"), rows)
