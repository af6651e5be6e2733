"""A calibration as files, and back as what an exporter needs: an encoder and a planner."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from robot_wm.contracts import config, files
from robot_wm.contracts.embodiment import CommandSpace, Embodiment
from robot_wm.contracts.run import artifact, read_run
from robot_wm.models.adapter import AdapterConfig, ProprioHead, make_adapter
from robot_wm.models.body import Body
from robot_wm.models.encoder import Encoder
from robot_wm.models.kinematics import Kinematics
from robot_wm.models.world_model import WorldModel
from robot_wm.planning.planner import Planner, PlannerConfig
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
    """Content of `calibration.json`: the body that the adapter belongs to, and the kinematics that it may know."""

    embodiment: Embodiment
    command: CommandSpace
    proprio_names: tuple[str, ...]
    adapter: AdapterConfig
    kinematics: Kinematics | None = None

    @property
    def position_P(self) -> NDArray[np.bool_]:
        """Which entries of proprio measure a position, the part that a goal image determines."""
        return np.array([not name.endswith("velocity") for name in self.proprio_names])


class CalibratedParts(Protocol):
    """What a fitted calibration offers to be saved."""

    model: WorldModel
    body: Body


@dataclass(frozen=True)
class Controllable:
    """A calibrated body, ready to be exported or run in torch.

    Attributes:
        encoder: frames (B, height, width, 3) uint8 of the embodiment's camera to latents (B, D).
        planner: see Planner.forward.
        lineage: SHA-256 of the calibrate run, and of what went into it by the name of that input.
    """

    encoder: nn.Module
    planner: Planner
    embodiment: Embodiment
    command: CommandSpace
    proprio_names: tuple[str, ...]
    lineage: dict[str, str]


def save_calibration(folder: Path, parts: CalibratedParts, body: CalibrationFile, described: ModelFile) -> list[str]:
    """Write the model and everything that belongs to the body; returns the names of the files."""
    outputs = save_world_model(folder, parts.model, described.scales, described.step_s)
    tensors = {f"adapter.{k}": v for k, v in parts.body.adapter.state_dict().items()}
    tensors |= {f"proprio_head.{k}": v for k, v in parts.body.proprio_head.state_dict().items()}
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
    sizes = model.config
    latent_dim, proprio_dim = sizes.encoder.latent_dim, len(body.proprio_names)
    chunk_dim = body.command.frame_skip * body.command.dim
    adapter = make_adapter(body.adapter, body.kinematics, chunk_dim, proprio_dim, latent_dim, sizes.action_dim)
    head = ProprioHead(latent_dim, proprio_dim)
    for prefix, module in (("adapter.", adapter), ("proprio_head.", head)):
        part = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        load_into(module, part, calibrate_run / ADAPTER)
    known = Body(
        model.dynamics,
        adapter,
        head,
        body.command,
        tensors["proprio_mean_P"],
        tensors["proprio_std_P"],
        torch.tensor(body.position_P, dtype=torch.float32),
    )
    if ahead is None:
        ahead = math.ceil(body.embodiment.delay_s / body.embodiment.step_s)
    search = Planner(planner, known, ahead)
    camera = body.embodiment.camera
    encoder: Encoder = model.encoder
    encoder.resize_from(camera.height, camera.width)
    lineage = {name: item.sha256 for name, item in manifest.inputs.items()}
    lineage["calibrate"] = files.fingerprint(calibrate_run)
    return Controllable(encoder.eval(), search.eval(), body.embodiment, body.command, body.proprio_names, lineage)
