"""A calibration as files, and back as what an exporter needs: an encoder and a planner."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robot_wm.contracts import config, files
from robot_wm.contracts.embodiment import CommandSpace, Embodiment
from robot_wm.contracts.run import artifact, read_run
from robot_wm.models.adapter import AdapterConfig, ProprioHead, make_adapter
from robot_wm.models.body import Body
from robot_wm.models.command_head import CommandHead, CommandHeadConfig
from robot_wm.models.encoder import Encoder
from robot_wm.models.kinematics import Kinematics
from robot_wm.models.posterior import Posterior
from robot_wm.models.world_model import WorldModel
from robot_wm.planning.objectives import Objective
from robot_wm.planning.planner import OneShot, Planner, PlannerConfig
from robot_wm.training.checkpoint import (
    ModelFile,
    load_into,
    load_weights,
    load_world_model,
    save_weights,
    save_world_model,
)

ADAPTER = "adapter.safetensors"
CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class CalibrationFile:
    """Content of `calibration.json`: the body that the adapter belongs to, its kinematics and its command head.

    Either of the last two may be missing.
    """

    embodiment: Embodiment
    command: CommandSpace
    proprio_names: tuple[str, ...]
    adapter: AdapterConfig
    kinematics: Kinematics | None = None
    head: CommandHeadConfig | None = None

    @property
    def position_P(self) -> NDArray[np.bool_]:
        """Which entries of proprio measure a position, the part that a goal image determines."""
        return np.array([not name.endswith("velocity") for name in self.proprio_names])


class CalibratedParts(Protocol):
    """What a fitted calibration offers to be saved."""

    model: WorldModel
    body: Body
    head: CommandHead | None


@dataclass(frozen=True)
class Controllable:
    """A calibrated body, ready to be exported or run in torch.

    Attributes:
        encoder: frames (B, height, width, 3) uint8 of the embodiment's camera to latents (B, D).
        planner: see Planner.forward.
        one_shot: the command head alone; None where calibration trained none.
        lineage: SHA-256 of the calibrate run, and of what went into it by the name of that input.
    """

    encoder: nn.Module
    planner: Planner
    one_shot: OneShot | None
    embodiment: Embodiment
    command: CommandSpace
    proprio_names: tuple[str, ...]
    lineage: dict[str, str]


def save_calibration(folder: Path, parts: CalibratedParts, body: CalibrationFile, described: ModelFile) -> list[str]:
    """Write the model and everything that belongs to the body; returns the names of the files."""
    outputs = save_world_model(folder, parts.model, described.scales, described.step_s)
    tensors = {f"adapter.{k}": v for k, v in parts.body.adapter.state_dict().items()}
    tensors |= {f"proprio_head.{k}": v for k, v in parts.body.proprio_head.state_dict().items()}
    tensors |= {f"response.{k}": v for k, v in parts.body.response.state_dict().items()}
    if parts.body.posterior is not None:
        tensors |= {f"posterior.{k}": v for k, v in parts.body.posterior.state_dict().items()}
    if parts.head is not None:
        tensors |= {f"head.{k}": v for k, v in parts.head.state_dict().items()}
    tensors |= {"proprio_mean_P": parts.body.proprio_mean_P, "proprio_std_P": parts.body.proprio_std_P}
    save_weights(folder / ADAPTER, tensors)
    files.write_json(folder / CALIBRATION, config.to_mapping(body))
    return [*outputs, ADAPTER, CALIBRATION]


def load_controllable(calibrate_run: Path, planner: PlannerConfig, ahead: int | None = None) -> Controllable:
    """Load a finished calibration, every file checked against the run's manifest.

    Args:
        calibrate_run: its run folder.
        planner: size and kind of the search.
        ahead: model steps between a frame and the first command of a plan made from it; None: as many as the
            embodiment's delay takes.

    Raises:
        UserError: not a calibrate run, or a file that is missing, truncated or altered.
    """
    manifest = read_run(calibrate_run, "calibrate")
    for name in manifest.outputs:
        artifact(calibrate_run, name, "calibrate")
    model, _ = load_world_model(calibrate_run)
    where = calibrate_run / CALIBRATION
    body = config.from_mapping(CalibrationFile, files.read_json(where), str(where))
    tensors = load_weights(calibrate_run / ADAPTER)
    known, head = _parts(model, body, tensors, calibrate_run / ADAPTER)
    if ahead is None:
        ahead = math.ceil(body.embodiment.delay_s / body.embodiment.step_s)
    objective = Objective(planner.objective, known, body.proprio_names, model.goal)
    search = Planner(planner, known, ahead, head, objective).eval()
    one_shot = OneShot(search, head).eval() if head is not None else None
    camera = body.embodiment.camera
    encoder: Encoder = model.encoder
    encoder.resize_from(camera.height, camera.width)
    lineage = {name: item.sha256 for name, item in manifest.inputs.items()}
    lineage["calibrate"] = files.fingerprint(calibrate_run)
    return Controllable(encoder.eval(), search, one_shot, body.embodiment, body.command, body.proprio_names, lineage)


def _parts(
    model: WorldModel, described: CalibrationFile, tensors: dict[str, Tensor], where: Path
) -> tuple[Body, CommandHead | None]:
    """Body and command head with their weights."""
    sizes, proprio_dim = model.config, len(described.proprio_names)
    latent_dim, chunk_dim = sizes.encoder.latent_dim, described.command.frame_skip * described.command.dim
    body = Body(
        model.dynamics,
        make_adapter(described.adapter, described.kinematics, chunk_dim, proprio_dim, latent_dim, sizes.action_dim),
        ProprioHead(latent_dim, proprio_dim),
        described.command,
        tensors["proprio_mean_P"],
        tensors["proprio_std_P"],
        torch.tensor(described.position_P, dtype=torch.float32),
    )
    modules: dict[str, nn.Module] = {
        "adapter.": body.adapter,
        "proprio_head.": body.proprio_head,
        "response.": body.response,
    }
    if any(name.startswith("posterior.") for name in tensors):  # none in calibrations of earlier versions
        body.posterior = modules["posterior."] = Posterior(model.dynamics.outputs.in_features)
    head = None
    if described.head is not None:
        head = CommandHead(described.head, latent_dim, body.history, proprio_dim, body.command_map)
        modules["head."] = head
    for prefix, module in modules.items():
        part = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        load_into(module, part, where)
    return body, head
