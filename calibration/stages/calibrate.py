"""Calibrate a pretrained world model to one body from a short log of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from calibration import fitted, log_timing
from calibration.adapter_fit import FitConfig, Windows, make_windows
from calibration.body_model import BodyModel, BodyModelConfig, geometry, measure_body
from calibration.candidate import Candidate, Ground
from calibration.choice import steps_to_choose
from calibration.head_fit import HeadFitConfig, fit_head
from calibration.learning_curve import FITS, learn
from calibration.live import TwinConfig, record_twin
from calibration.log_faults import Examined, examine_log, say_faults
from calibration.log_timing import LogTiming
from calibration.posterior_fit import fit_posterior
from calibration.practice import practise
from calibration.prediction import ARRAYS, Prediction, predict_held_out, save_arrays, show
from calibration.reading_fit import ReadingConfig
from calibration.report import write_refusal, write_report
from calibration.response_fit import settle
from calibration.signals import Fault, refuse
from calibration.summary import SUMMARY, Summary
from calibration.time_left import TimeLeft
from calibration.transitions import Transitions, blind_episodes, blind_faults, load_transitions
from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.config import to_mapping
from robot_wm.contracts.embodiment import CommandSpace, Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import Run, artifact, dataset_folder, open_run
from robot_wm.data.windows import split
from robot_wm.models.adapter import AdapterConfig
from robot_wm.models.world_model import WorldModel
from robot_wm.page.plot import quantity_of
from robot_wm.planning.controllable import CalibrationFile, save_calibration
from robot_wm.training.checkpoint import load_world_model, model_run
from sims.robots import load, model_inputs

_BETTER = 0.98  # of the error of holding still; a fit that learned nothing reaches .99 of it by chance
PATCH = "embodiment_patch.yaml"  # what the log says otherwise than the embodiment's yaml


@dataclass(frozen=True)
class CalibrateConfig:
    """Configuration of `robot-wm calibrate`.

    Attributes:
        embodiment: the body.
        model: pretrain run, or `shipped`: the world model that comes with the package.
        data: a log of the body at its control rate: a LeRobot dataset, or the run that recorded it.
        source: `data`: that log; `twin`: one recorded live from the twin, a run of its own; `robot`: one of a real
            robot, which the command line records before it calls this.
        twin: which twin that is.
        transitions: labelled transitions (model steps) used, from the beginning of the log.
        pretrained: false starts from random weights instead: the reference that shows what pretraining is worth.
        reading: how the encoder is taught to read this body, before anything is predicted.
        head: how the command head is trained.
        body: what is measured of the body beside its pictures: its MuJoCo model and its camera.
        timing: measure the delay from command to frame, and take it out where the log tells it reliably; else the
            embodiment's `delay_s` is believed.
        curve_steps: optimizer steps of each of the three fits behind the learning curve; 0 leaves it out.
        validation: share of the episodes kept out of the fit; they also say when to stop it.
    """

    embodiment: Embodiment
    model: str
    data: str | None = None
    source: Literal["data", "twin", "robot"] = "data"
    twin: TwinConfig = field(default_factory=TwinConfig)
    transitions: int = 500
    pretrained: bool = True
    adapter: AdapterConfig = field(default_factory=lambda: AdapterConfig(kind="auto"))
    fit: FitConfig = field(default_factory=FitConfig)
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    head: HeadFitConfig = field(default_factory=HeadFitConfig)
    body: BodyModelConfig = field(default_factory=BodyModelConfig)
    timing: bool = True
    curve_steps: int = 100
    validation: float = 0.1
    cache: str = ".cache"
    name: str = "calibrate"
    out: str = "runs"
    seed: int = 0


def calibrate(config: CalibrateConfig) -> Path:
    """Fit adapter, proprio head and dynamics; returns the run folder.

    Raises:
        UserError: a log that does not fit the body, or a model that predicts no better than holding still.
    """
    if not config.pretrained and config.fit.encoder_steps == 0:
        raise UserError(
            "pretrained=false with fit.encoder_steps=0 keeps a random encoder", "Give fit.encoder_steps=300"
        )
    if not 0 < config.validation < 1:
        raise UserError(f"validation is {config.validation}", "Give a share above 0 and below 1")
    if config.source == "twin":
        data = record_twin(Path(config.out), config.embodiment, config.twin, config.transitions, config.seed)
    elif config.data is None:
        raise UserError(
            "calibrate: 'data' is missing",
            "Give data=LOG of the robot, source=robot to record it (robot-wm calibrate), or source=twin",
        )
    else:
        data = Path(config.data)
    pretrained, board = model_run(config.model), config.body.board_data
    inputs = {"model": pretrained, "data": data} | model_inputs(config.embodiment)
    inputs |= {"board": Path(board)} if board is not None else {}
    with open_run(Path(config.out), "calibrate", config.name, config, inputs) as run:
        if run.complete:
            console.say(f"calibrate: already done with the same inputs: {run.path}")
            return run.path
        artifact(pretrained, "model.safetensors", "pretrain")
        model, described = load_world_model(pretrained)
        if not config.pretrained:
            torch.manual_seed(config.seed)
            model = WorldModel(model.config)
        if abs(described.step_s - config.embodiment.step_s) > 0.25 * described.step_s:
            console.say(
                f"warning: {config.embodiment.name} steps {config.embodiment.step_s:g} s, "
                f"the world model {described.step_s:g} s; change frame_skip"
            )
        known = _read(config, data, model.config.encoder.size)
        measured = measure_body(config.embodiment, data, known.examined, config.body, Path(config.out), config.seed)
        for name, path in measured.runs.items():
            run.add_input(name, path)
        table, lens = geometry(measured, config.adapter.kind)
        head = config.head.size if config.head.steps else None
        body = CalibrationFile(known.embodiment, known.command, known.names, config.adapter, table, head)
        ground = Ground(model, described, config.pretrained, known.transitions, body, lens, config.fit, config.seed)
        return _fit_and_save(run, config, ground, known, measured)


@dataclass(frozen=True)
class _Known:
    """What the log says before anything is fitted.

    Attributes:
        embodiment: the body, with the delay that the log tells.
        command, names, units: of its commands, of proprio, and of the positions in it.
        examined: the log as arrays.
        transitions: the log as transitions, the delay taken out.
        faults: all that is wrong with it.
        clocks: None where they were not measured.
    """

    embodiment: Embodiment
    command: CommandSpace
    names: tuple[str, ...]
    units: tuple[str, ...]
    examined: Examined
    transitions: Transitions
    faults: tuple[Fault, ...]
    clocks: LogTiming | None


def _read(config: CalibrateConfig, data: Path, size: int) -> _Known:
    """Examine the log, measure its clocks, cut it into transitions; what cannot be calibrated from is refused."""
    dataset, embodiment, clocks = dataset_folder(data), config.embodiment, None
    with load(embodiment) as simulation:
        command, names, units = simulation.command, simulation.proprio_names, simulation.position_units
    read = partial(
        load_transitions, dataset, command=command, proprio_names=names, size=size, limit=config.transitions,
        cache=Path(config.cache),
    )  # fmt: skip
    examined = examine_log(dataset, embodiment)
    faults = _told(config, examined.faults)
    asis = read(replace(embodiment, delay_s=0.0))
    faults += _told(config, blind_faults(asis, embodiment.camera.name), faults)
    if config.timing:
        clocks = log_timing.measure(dataset, command, asis.frames_FYXC)
        embodiment = log_timing.apply(clocks, embodiment)
    transitions = asis if embodiment.delay_s == 0 else read(embodiment)
    return _Known(embodiment, command, names, units, examined, transitions, faults, clocks)


def _told(config: CalibrateConfig, found: Sequence[Fault], before: tuple[Fault, ...] = ()) -> tuple[Fault, ...]:
    """The faults of a log, named on the terminal; where one makes every fit meaningless, on a page, and refused."""
    say_faults(found)
    if any(fault.fatal for fault in found):
        page = write_refusal(Path(config.out), config.embodiment.name, (*before, *found))
        refuse(found, f" (all that is wrong with the log: {page})")
    return tuple(found)


def _fit_and_save(run: Run, config: CalibrateConfig, ground: Ground, known: _Known, measured: BodyModel) -> Path:
    transitions, units = ground.transitions, known.units
    episodes = np.setdiff1d(transitions.episodes(ground.window), blind_episodes(transitions))
    if len(episodes) < 2:
        raise UserError(
            f"{len(episodes)} episodes of the log hold {ground.window} model steps in a row within "
            f"transitions={config.transitions}",
            "Record two or more: the fit is judged on episodes that it has not seen",
        )
    used, held_out = (episodes[part] for part in split(len(episodes), config.validation, config.seed))
    taught, left = partial(practise, measured, seed=config.seed), _work(config, ground)
    ground, chosen, errors, reading = fitted.fit_or_find(
        run, ground, config.adapter.kind, config.reading, taught, used, held_out, left
    )
    seen, unseen = (make_windows(transitions, ground.window, part) for part in (used, held_out))
    prediction = predict_held_out(chosen.calibrated, unseen, 4, chosen.latents)
    gate = {"better_than_hold": bool(prediction.error_K[-1] < _BETTER * prediction.copy_K[-1])}
    quantity = quantity_of(units, config.embodiment.interface == "end_effector_velocity")
    if not gate["better_than_hold"] and config.pretrained:
        raise UserError(
            f"the calibrated model predicts no better than holding still ({quantity.shown(prediction.error_K[-1])} "
            f"against {quantity.shown(prediction.copy_K[-1])}, {config.fit.rollout_steps} steps ahead)",
            "Record more transitions, check that the log's commands and frames belong together",
        )
    fitted.keep(run.path, chosen, errors, reading)
    told, used_prediction = _respond(ground, chosen, seen, unseen)
    show(used_prediction, prediction, quantity)
    if config.head.steps:
        calibrated = chosen.calibrated
        with left.spending("head", config.head.steps):
            calibrated.head = fit_head(calibrated.body, chosen.latents, seen, config.head, config.seed, run.log)
    certainty = fit_posterior(chosen.calibrated, seen, unseen, chosen.latents)
    curve = learn(ground, chosen.kind, used, held_out, config.curve_steps, run.log) if config.curve_steps else None
    if curve is not None:
        console.say(curve.advice)
    outputs = save_calibration(run.path, chosen.calibrated, _described(ground.body, chosen), ground.described)
    save_arrays(run.path / ARRAYS, used_prediction, prediction)
    summary = Summary(
        transitions.count, len(used), len(held_out), units, told, chosen.kind, errors, known.clocks, curve, certainty,
        tuple(str(fault) for fault in known.faults), measured.model, measured.camera, measured.notes, reading,
    )  # fmt: skip
    files.write_json(run.path / SUMMARY, to_mapping(summary))
    names = tuple(np.array(ground.body.proprio_names)[ground.body.position_P].tolist())
    outputs += measured.copy_to(run.path)
    report = write_report(run.path, ground.body.embodiment, names, used_prediction, prediction, summary)
    outputs += [ARRAYS, SUMMARY, report]
    delay_s = ground.body.embodiment.delay_s
    outputs += _patch(run.path, config.embodiment, delay_s)
    metrics = {
        "transitions": transitions.count,
        "adapter": chosen.kind,
        "delay_s": delay_s,
        "read_error": prediction.read_error,
        "practice": reading.practice if reading is not None and reading.kept else 0,
        "error_by_step": prediction.error_K.tolist(),
        "copy_error_by_step": prediction.copy_K.tolist(),
        "told_by_commands": list(told),
        "error_by_step_with_commands": used_prediction.error_K.tolist(),
    }
    fitted.drop(run.path)
    run.finish(outputs, metrics=metrics, gates=gate, embodiment_sha256=config.embodiment.digest())
    return run.path


def _patch(folder: Path, believed: Embodiment, delay_s: float) -> list[str]:
    """Write what the log says otherwise than the yaml, if it does; returns the names of the files."""
    if delay_s == believed.delay_s:
        return []
    line = f"delay_s: {delay_s:g}  # from a command to the first frame that shows its effect, measured\n"
    files.write_atomic(folder / PATCH, line.encode())
    return [PATCH]


def _work(config: CalibrateConfig, ground: Ground) -> TimeLeft:
    """What there is to do, before anything of it is done."""
    again = FITS if config.curve_steps else 0
    return TimeLeft(
        encoder=config.fit.encoder_steps * (1 + again),
        fit=steps_to_choose(ground, config.adapter.kind) + config.curve_steps * again,
        head=config.head.steps,
    )


def _respond(ground: Ground, chosen: Candidate, seen: Windows, unseen: Windows) -> tuple[tuple[str, ...], Prediction]:
    """What the robot measures of itself is told by its commands wherever that is closer than what latents show.

    Returns the entries of which that is so, and the prediction with them: the one that the controller uses.
    """
    told = settle(chosen.calibrated, ground.body.proprio_names, chosen.latents, seen, unseen)
    console.say(f"{len(told)} of {len(ground.body.proprio_names)} entries of proprio are told by their commands")
    return tuple(told), predict_held_out(chosen.calibrated, unseen, 4, chosen.latents)


def _described(body: CalibrationFile, chosen: Candidate) -> CalibrationFile:
    table = body.kinematics if chosen.kind == "kinematic" else None
    return replace(body, adapter=replace(body.adapter, kind=chosen.kind), kinematics=table)
