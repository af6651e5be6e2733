"""One way to calibrate a body: a kind of adapter, fitted to some episodes of the log and judged on others."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration import kinematic_start
from calibration.adapter_fit import Calibrated, FitConfig, Windows, encode_all, fit, fit_encoder, make_windows
from calibration.practice import Stills
from calibration.prediction import predict_held_out
from calibration.transitions import Transitions
from robot_wm.models.adapter import KinematicAdapter, ProprioHead, make_adapter
from robot_wm.models.body import Body
from robot_wm.models.world_model import WorldModel
from robot_wm.planning.controllable import CalibrationFile
from robot_wm.training.checkpoint import ModelFile

Kind = Literal["learned", "kinematic"]


@dataclass(frozen=True)
class Ground:
    """What every fit of a body starts from.

    Attributes:
        model, described: the pretrained world model; a fit works on a copy.
        pretrained: false: its weights are random.
        transitions: the log.
        body: commands, proprio and kinematics.
        focal: of the camera, in half heights of the picture.
        fit: how the fit is run.
        seed: of weights and batches.
        practice: pictures beside the log's that the body is read from.
    """

    model: WorldModel
    described: ModelFile
    pretrained: bool
    transitions: Transitions
    body: CalibrationFile
    focal: float
    fit: FitConfig
    seed: int
    practice: Stills | None = None

    @cached_property
    def latents(self) -> Tensor:
        """Of all frames of the log, (F, D), by the encoder as pretrained."""
        return encode_all(self.model, self.frames)

    @cached_property
    def stills(self) -> tuple[Tensor, Tensor] | None:
        """Latents (N, D) and positions (N, Q) of the practice pictures."""
        practice = self.practice
        return None if practice is None else (encode_all(self.model, practice.frames), practice.positions)

    @property
    def frames(self) -> Tensor:
        """Of the log, (F, Y, X, 3) uint8."""
        return torch.from_numpy(self.transitions.frames_FYXC)

    @property
    def window(self) -> int:
        """Frames of one window."""
        return self.model.config.history + self.fit.rollout_steps


@dataclass(frozen=True)
class Candidate:
    """A calibrated copy of the model, and the latents (F, D) of the log as its encoder has them.

    `error` is the mean over the steps ahead on episodes that were held out, where some were when it was fitted.
    """

    kind: Kind
    calibrated: Calibrated
    latents: Tensor
    error: float | None = None


def fit_candidate(
    ground: Ground,
    kind: Kind,
    episodes: NDArray[np.integer],
    log: Callable[..., None],
    steps: int | None = None,
    unseen: Windows | None = None,
) -> Candidate:
    """Fit to the given episodes alone; in `steps` steps where that is given; up to where `unseen` is predicted best."""
    calibrated = assemble(ground, kind, episodes)
    windows = make_windows(ground.transitions, ground.window, episodes)
    config = replace(ground.fit, steps=steps or ground.fit.steps)

    def judge(latents: Tensor) -> float:
        assert unseen is not None
        return float(predict_held_out(calibrated, unseen, 1, latents).error_K.mean())

    known = ground.latents if ground.fit.encoder_steps == 0 else None
    watched = judge if unseen is not None else None
    stills = ground.stills if ground.fit.encoder_steps == 0 else None
    latents, error = fit(calibrated, windows, config, ground.pretrained, ground.seed, log, known, watched, stills)
    return Candidate(kind, calibrated, latents, error)


def with_fitted_encoder(ground: Ground, episodes: NDArray[np.integer], log: Callable[..., None]) -> Ground:
    """The ground with its encoder and dynamics fitted to the episodes, for several fits to share.

    They are fitted together with an adapter that is learned, which suits every body, and which is then forgotten.
    """
    calibrated = assemble(ground, "learned", episodes)
    windows = make_windows(ground.transitions, ground.window, episodes)
    generator = torch.Generator().manual_seed(ground.seed)
    fit_encoder(calibrated, windows, ground.fit, ground.pretrained, generator, log)
    return replace(ground, model=calibrated.model, fit=replace(ground.fit, encoder_steps=0))


def assemble(ground: Ground, kind: Kind, episodes: NDArray[np.integer]) -> Calibrated:
    """The parts before the fit; what a kinematic adapter can know in closed form it knows already."""
    torch.manual_seed(ground.seed)
    transitions, body = ground.transitions, ground.body
    used = np.isin(transitions.episode_F, episodes)
    proprio = torch.from_numpy(transitions.proprio_FP[used])
    sizes = ground.model.config
    latent_dim, proprio_dim = sizes.encoder.latent_dim, proprio.shape[1]
    chunk_dim = int(np.prod(transitions.chunks_FKU.shape[1:]))
    model = copy.deepcopy(ground.model)
    config = replace(body.adapter, kind=kind)
    known = Body(
        model.dynamics,
        make_adapter(config, body.kinematics, chunk_dim, proprio_dim, latent_dim, sizes.action_dim),
        ProprioHead(latent_dim, proprio_dim),
        body.command,
        proprio.mean(0),
        proprio.std(0) + 1e-3 * proprio.std() + 1e-8,
        torch.from_numpy(body.position_P).float(),
    )
    calibrated = Calibrated(model, known)
    if isinstance(known.adapter, KinematicAdapter):
        _know(ground, calibrated, known.adapter, episodes)
    return calibrated


def _know(ground: Ground, calibrated: Calibrated, adapter: KinematicAdapter, episodes: NDArray[np.integer]) -> None:
    body, transitions = calibrated.body, ground.transitions
    adapter.proprio_mean_P.copy_(body.proprio_mean_P)
    adapter.proprio_std_P.copy_(body.proprio_std_P)
    windows = make_windows(transitions, 3, episodes)
    before, now, after = windows.rows.unbind(1)
    proprio, chunks = body.standardize(windows.proprio[now]), windows.chunks[now]
    kinematic_start.set_scales(adapter, windows.proprio[now], ground.described.scales, ground.focal)
    kinematic_start.fit_response(adapter, chunks, proprio, windows.proprio[after])
    labels: Tensor | None = None
    if ground.pretrained:
        latents = ground.latents
        with torch.no_grad():
            labels, _ = calibrated.model.labeler(latents[before], latents[now], latents[after])
    kinematic_start.fit_map(adapter, calibrated.model, chunks, proprio, labels)
