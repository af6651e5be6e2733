"""Calibrate a pretrained world model to one body from a short log of it."""

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from calibration.adapter_fit import Calibrated, FitConfig, fit, make_windows
from calibration.prediction import Prediction, predict_held_out
from calibration.transitions import Transitions, load_transitions
from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import Run, artifact, dataset_folder, open_run
from robot_wm.data.windows import split
from robot_wm.models.adapter import Adapter, AdapterConfig, ProprioHead
from robot_wm.models.body import Body
from robot_wm.models.world_model import WorldModel
from robot_wm.planning.controllable import CalibrationFile, save_calibration
from robot_wm.training.checkpoint import ModelFile, load_world_model, model_run
from sims.robots import load, model_inputs


@dataclass(frozen=True)
class CalibrateConfig:
    """Configuration of `robot-wm calibrate`.

    Attributes:
        embodiment: the body.
        model: pretrain run, or `shipped`: the world model that comes with the package.
        data: a log of the body at its control rate: a LeRobot dataset, or the run that recorded it.
        transitions: labelled transitions (model steps) used, from the beginning of the log.
        pretrained: false starts from random weights instead: the reference that shows what pretraining is worth.
        validation: share of the episodes kept out of the fit.
    """

    embodiment: Embodiment
    model: str
    data: str
    transitions: int = 500
    pretrained: bool = True
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    fit: FitConfig = field(default_factory=FitConfig)
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
    simulation = load(config.embodiment)
    command, names = simulation.command, simulation.proprio_names
    simulation.close()
    pretrained = model_run(config.model)
    inputs = {"model": pretrained, "data": Path(config.data)} | model_inputs(config.embodiment)
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
        size, dataset = model.config.encoder.size, dataset_folder(Path(config.data))
        transitions = load_transitions(
            dataset, config.embodiment, command, names, size, config.transitions, Path(config.cache)
        )
        body = CalibrationFile(config.embodiment, command, names, config.adapter)
        calibrated = _assemble(config, model, transitions, body)
        return _fit_and_save(run, config, calibrated, transitions, body, described)


def _assemble(
    config: CalibrateConfig, model: WorldModel, transitions: Transitions, body: CalibrationFile
) -> Calibrated:
    torch.manual_seed(config.seed)
    proprio = torch.from_numpy(transitions.proprio_FP)
    latent_dim, proprio_dim = model.config.encoder.latent_dim, proprio.shape[1]
    chunk_dim = int(np.prod(transitions.chunks_FKU.shape[1:]))
    known = Body(
        model.dynamics,
        Adapter(config.adapter, chunk_dim, proprio_dim, latent_dim, model.config.action_dim),
        ProprioHead(latent_dim, proprio_dim),
        body.command,
        proprio.mean(0),
        proprio.std(0) + 1e-3 * proprio.std() + 1e-8,
        torch.from_numpy(body.position_P).float(),
    )
    return Calibrated(model, known)


def _fit_and_save(
    run: Run,
    config: CalibrateConfig,
    calibrated: Calibrated,
    transitions: Transitions,
    body: CalibrationFile,
    described: ModelFile,
) -> Path:
    length = calibrated.model.config.history + config.fit.rollout_steps
    used, held_out = split(int(transitions.episode_F.max()) + 1, config.validation, config.seed)
    if not len(held_out):
        raise UserError(
            f"{config.data} holds a single episode within transitions={config.transitions}",
            "Record two or more: the fit is judged on episodes that it has not seen",
        )
    fit(
        calibrated,
        make_windows(transitions, length, used),
        config.fit,
        config.pretrained,
        config.seed,
        run.log,
    )
    prediction = predict_held_out(calibrated, make_windows(transitions, length, held_out), shown=4)
    metrics = {
        "transitions": transitions.count,
        "read_error": prediction.read_error,
        "error_by_step": prediction.error_K.tolist(),
        "copy_error_by_step": prediction.copy_K.tolist(),
    }
    gate = {"better_than_hold": bool(prediction.error_K[-1] < prediction.copy_K[-1])}
    _show(prediction, config.fit.rollout_steps)
    if not gate["better_than_hold"] and config.pretrained:
        raise UserError(
            f"the calibrated model predicts no better than holding still ({prediction.error_K[-1]:.4f} against "
            f"{prediction.copy_K[-1]:.4f}, {config.fit.rollout_steps} steps ahead)",
            "Record more transitions, check that the log's commands and frames belong together",
        )
    outputs = save_calibration(run.path, calibrated, body, described)
    _save_arrays(run.path / "prediction.npz", prediction)
    run.finish([*outputs, "prediction.npz"], metrics=metrics, gates=gate, embodiment_sha256=config.embodiment.digest())
    return run.path


def _save_arrays(path: Path, prediction: Prediction) -> None:
    arrays: dict[str, NDArray] = {
        "truth_frames": prediction.truth_nKYXC,
        "nearest_frames": prediction.nearest_nKYXC,
        "error_by_step": prediction.error_K,
        "copy_error_by_step": prediction.copy_K,
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    files.write_atomic(path, buffer.getvalue())


def _show(prediction: Prediction, steps: int) -> None:
    rows = [(k + 1, f"{prediction.error_K[k]:.4f}", f"{prediction.copy_K[k]:.4f}") for k in range(steps)]
    console.table("held-out prediction error of positions", ("steps ahead", "model", "hold still"), rows)
