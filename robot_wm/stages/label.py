"""Write a dataset again with what the labeler saw happen from every frame to the one a model step later."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, radians, tan
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from robot_wm import console
from robot_wm.contracts.dataset import (
    END_EFFECTOR_MOTION,
    FOCAL,
    HAND,
    LATENT_ACTION,
    LATENT_ACTION_STD,
    LATENT_ACTION_VALID,
    Feature,
    position_key,
)
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import artifact, dataset_folder, open_run, read_run
from robot_wm.data.grid import Grid
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.lerobot_extend import extend
from robot_wm.data.scales import STANDARD_M
from robot_wm.models.world_model import WorldModel
from robot_wm.training.checkpoint import ModelFile, load_world_model, model_run

_BATCH = 256  # frames encoded at a time
_GROUNDED = "hand_r2"  # what pretraining measured on held-out simulated clips


@dataclass(frozen=True)
class LabelConfig:
    """Configuration of `robot-wm label`.

    Attributes:
        data: the dataset, or a run that wrote one.
        model: pretrain run.
        camera: whose video is labelled; the first one if empty.
        hand_distance_m: how far the hand is from that camera on average; recordings of simulated arms know it.
        fov_deg: vertical field of view of that camera; likewise.
    """

    data: str
    model: str
    camera: str = ""
    hand_distance_m: float | None = None
    fov_deg: float | None = None
    name: str = "label"
    out: str = "runs"
    seed: int = 0


def label(config: LabelConfig) -> Path:
    """Write `dataset/`: the original, its videos copied as they are, with more columns; returns the run folder.

    For every row, at the dataset's own rate: `latent_action` (A,) leads from its frame to the one a model step later,
    `latent_action_std` (A,) is its standard deviation before the bound, and `latent_action_valid` says whether there is
    such a frame; where there is none, at an episode's end, the others are zero. If the labeler was grounded in
    simulated hands, `end_effector_motion_m` (3,) is how far the hand moved meanwhile [m], in the camera's frame. One
    camera cannot tell small and near from large and far, so that metres need `hand_distance_m` and `fov_deg`.

    Raises:
        UserError: no such camera, a field of view or distance that cannot be, or a dataset that has such columns.
    """
    pretrained = model_run(config.model)
    sources = {"data": Path(config.data), "model": pretrained}
    with open_run(Path(config.out), "label", config.name, config, sources) as run:
        if run.complete:
            console.say(f"label: already done with the same inputs: {run.path}")
            return run.path
        artifact(pretrained, "model.safetensors", "pretrain")
        model, described = load_world_model(pretrained)
        hand_r2 = _hand_r2(pretrained)
        dataset = LeRobotDataset(dataset_folder(Path(config.data)))
        view = _View(dataset, config)
        if hand_r2 is None:
            console.say("no end-effector motion: the model was not grounded in hands whose motion was known")
        elif not view.known:
            console.say("no end-effector motion: metres need hand_distance_m and fov_deg of the camera")
        labels = _Labels(model, described, dataset, view, grounded=hand_r2 is not None and view.known)
        extend(dataset, run.path / "dataset", labels.features(), labels.of)
        found = {"episodes": dataset.num_episodes, "frames": dataset.info.total_frames, "hand_r2": hand_r2}
        run.finish(["dataset"], metrics=found)
        console.say(f"dataset: {run.path / 'dataset'}")
        return run.path


def _hand_r2(model: Path) -> float | None:
    """How well pretraining found the hand's motion in the latent action, None where it did not or never saw a hand."""
    measured = read_run(model, "pretrain").metrics.get(_GROUNDED)
    return float(measured) if isinstance(measured, float) and isfinite(measured) and measured > 0 else None


class _View:
    """The camera that is labelled, and how large its picture shows things.

    Attributes:
        camera: its name.
        known: whether metres can be told.
    """

    def __init__(self, dataset: LeRobotDataset, config: LabelConfig):
        cameras, info = dataset.info.cameras, dataset.info
        if not cameras or (config.camera and config.camera not in cameras):
            raise UserError(
                f"{dataset.path} has no camera {config.camera!r}", f"It has: {', '.join(cameras) or 'none'}"
            )
        given = (config.hand_distance_m, config.fov_deg)
        if None not in given and not (given[0] > 0 and 0 < given[1] < 180):  # type: ignore[operator]
            raise UserError(f"hand_distance_m is {given[0]}, fov_deg {given[1]}", "Give metres and degrees below 180")
        self.camera, self._dataset, self._given = config.camera or cameras[0], dataset, given
        self._keys = [position_key(name, self.camera, cameras) for name in (FOCAL, HAND)]
        self.known = None not in given or all(key in info.features for key in self._keys)

    def metres(self, episode: int) -> float:
        """How many metres one of the standard picture is, on which positions are learned."""
        distance_m, fov_deg = self._given
        if distance_m is not None and fov_deg is not None:
            return distance_m * tan(radians(fov_deg) / 2) / STANDARD_M
        columns = self._dataset.columns(episode, self._keys)
        focal, hand_m = (columns[key] for key in self._keys)
        return float(hand_m[:, 2].mean() / (STANDARD_M * focal.mean()))


class _Labels:
    """The columns that a model adds to the episodes of a dataset."""

    def __init__(self, model: WorldModel, described: ModelFile, dataset: LeRobotDataset, view: _View, grounded: bool):
        self._model, self._dataset, self._view, self._grounded = model, dataset, view, grounded
        self._stride = Grid.of(dataset.info.fps, described.step_s, dataset.path.name).stride
        scales = described.scales
        self._standard_3 = torch.tensor(scales.position_m) / scales.displacement_gain

    def features(self) -> dict[str, Feature]:
        """Of the columns."""
        size = self._model.config.action_dim
        names = tuple(f"a{i}" for i in range(size))
        found = {
            LATENT_ACTION: Feature("float32", (size,), names),
            LATENT_ACTION_STD: Feature("float32", (size,), names),
            LATENT_ACTION_VALID: Feature("bool", (1,)),
        }
        return found | ({END_EFFECTOR_MOTION: Feature("float32", (3,), ("x", "y", "z"))} if self._grounded else {})

    @torch.no_grad()
    def of(self, episode: int) -> Mapping[str, NDArray]:
        """Of one episode, (L, ...) each."""
        size = self._model.config.encoder.size
        frames_LYXC = self._dataset.frames(episode, self._view.camera, (size, size))
        z_LD = torch.cat([self._model.encode(part[None])[0] for part in torch.tensor(frames_LYXC).split(_BATCH)])
        rows = np.arange(len(z_LD))
        before, after = (np.rint(rows + sign * self._stride).astype(int) for sign in (-1, 1))
        before = np.where(before < 0, rows, before)  # as a robot at rest would: see WorldModel.infer
        valid = after < len(rows)
        now = rows[valid]
        z_N3D = torch.stack([z_LD[before[valid]], z_LD[now], z_LD[after[valid]]], dim=1)
        mean_N2A, log_std_N2A = self._model.infer(z_N3D)
        action_NA, std_NA = torch.tanh(mean_N2A[:, 1]), log_std_N2A[:, 1].exp()
        found = {LATENT_ACTION: action_NA, LATENT_ACTION_STD: std_NA}
        if self._grounded:
            metres = self._view.metres(episode)
            found[END_EFFECTOR_MOTION] = self._model.state.displacement(action_NA) * self._standard_3 * metres
        return {LATENT_ACTION_VALID: valid[:, None]} | {
            key: _spread(values.numpy(), now, len(rows)) for key, values in found.items()
        }


def _spread(values_NF: NDArray, rows: NDArray, length: int) -> NDArray[np.float32]:
    """Values at their rows of an episode, zero elsewhere."""
    spread_LF = np.zeros((length, values_NF.shape[1]), np.float32)
    spread_LF[rows] = values_NF
    return spread_LF
