"""Fitting adapter, proprio head and dynamics to one body's transitions, over the pretrained encoder."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from calibration.low_rank import low_rank
from calibration.practice import practice_loss
from calibration.threads import one_thread
from calibration.transitions import Transitions
from robot_wm import console
from robot_wm.contracts.errors import UserError
from robot_wm.models.body import Body
from robot_wm.models.command_head import CommandHead
from robot_wm.models.world_model import WorldModel
from robot_wm.training.loop import settle_normalization
from robot_wm.training.losses import sigreg

_JUDGED = 10  # times in a fit that the data kept out are looked at


@dataclass(frozen=True)
class FitConfig:
    """How the fit is run.

    Attributes:
        steps, batch: optimizer steps, windows per step.
        rollout_steps: model steps predicted from predictions.
        learning_rate: of adapter and proprio head.
        dynamics_learning_rate: of the dynamics; 0 keeps them as pretrained.
        dynamics_rank: rank of the change of the dynamics' matrices; 0 lets them change in full.
        encoder_learning_rate: of the encoder, in a first phase of `encoder_steps` steps of `encoder_batch` windows.
        encoder_steps: 0 leaves the encoder as pretrained.
        weight_decay: of AdamW.
        noise: standard deviation added to latents.
        label: weight of agreement with the labeler in the first quarter of the steps (0.05 of it later).
        proprio: weight of proprio read from predicted latents.
    """

    steps: int = 500
    batch: int = 32
    rollout_steps: int = 4
    learning_rate: float = 3e-3
    dynamics_learning_rate: float = 1e-3
    dynamics_rank: int = 0
    encoder_learning_rate: float = 2e-4
    encoder_steps: int = 0
    encoder_batch: int = 24
    weight_decay: float = 0.05
    noise: float = 0.05
    label: float = 0.2
    proprio: float = 1.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "rollout_steps", "encoder_batch"):
            if getattr(self, name) < 1:
                raise UserError(f"fit.{name} is {getattr(self, name)}", "Give 1 or more")
        if self.dynamics_rank < 0:
            raise UserError(f"fit.dynamics_rank is {self.dynamics_rank}", "Give 0 (in full), or a rank such as 8")


class Calibrated(nn.Module):
    """A world model, the body whose dynamics are that model's, and a command head once one is trained."""

    head: CommandHead | None

    def __init__(self, model: WorldModel, body: Body):
        super().__init__()
        self.model, self.body, self.head = model, body, None

    def rollout(
        self, z_BLD: Tensor, proprio_BP: Tensor, reference_BU: Tensor, chunks_BHV: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (B, H, D) predicted from the start of `z_BLD` (history first), standardised proprio (B, H, P), and
        the log of each latent's expected squared error (B, H).

        `proprio_BP` and the command in force `reference_BU` are those of the last latent of the history.
        """
        now = self.body.observe(z_BLD[:, : self.model.config.history], proprio_BP)
        latents, states, log_errors = [], [], []
        for chunk_BV in chunks_BHV.unbind(dim=1):
            now, log_error_B = self.body.imagine(now, chunk_BV, reference_BU)
            reference_BU = self.body.command_map.after(chunk_BV, reference_BU)
            latents.append(now.history_BTD[:, -1])
            states.append(now.proprio_BP)
            log_errors.append(log_error_B)
        return torch.stack(latents, dim=1), torch.stack(states, dim=1), torch.stack(log_errors, dim=1)


@dataclass(frozen=True)
class Windows:
    """Tensors that windows are gathered from, and the rows of each window (W, history + rollout_steps).

    `reference` is the command in force at each row, in its own unit; chunks are in plan units.
    """

    frames: Tensor
    proprio: Tensor
    chunks: Tensor
    reference: Tensor
    rows: Tensor


def make_windows(transitions: Transitions, length: int, episodes: NDArray[np.integer]) -> Windows:
    """Windows of the given episodes; raises UserError when there is none."""
    rows = transitions.windows(length, episodes)
    if len(rows) == 0:
        raise UserError(
            f"{len(episodes)} episodes of the log hold no stretch of {length} model steps", "Record longer episodes"
        )
    return Windows(
        torch.from_numpy(transitions.frames_FYXC),
        torch.from_numpy(transitions.proprio_FP),
        torch.from_numpy(transitions.chunks_FKU).flatten(1),
        torch.from_numpy(transitions.reference_FU),
        torch.from_numpy(rows),
    )


@torch.no_grad()
def encode_all(model: WorldModel, frames: Tensor, batch: int = 256) -> Tensor:
    """Latents (F, D) of all frames of a log."""
    model.eval()
    return torch.cat([model.encoder(part) for part in console.track(frames.split(batch), "calibrate (encode)")])


def fit(
    calibrated: Calibrated,
    windows: Windows,
    config: FitConfig,
    pretrained: bool,
    seed: int,
    log: Callable[..., None],
    latents: Tensor | None = None,
    judge: Callable[[Tensor], float] | None = None,
    stills: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, float | None]:
    """Fit in place: first (optionally) with the encoder, then on its frozen latents (F, D).

    Returns those latents, and the error that `judge` found for the weights kept.

    Args:
        calibrated: changed in place.
        windows, config, seed: what is fitted, and how.
        pretrained: whether the labeler's labels mean something.
        log: of the losses.
        latents: those of an encoder that stays as it is, computed before.
        judge: error on data kept out, given the latents; the weights with the least are kept, so that few transitions
            are not learned by heart and many are used to the end.
        stills: latents (N, D) and positions (N, Q) of practice pictures, which the proprio head learns to read as well.

    Raises:
        UserError: the loss is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    if config.encoder_steps > 0:
        fit_encoder(calibrated, windows, config, pretrained, generator, log)
    if latents is None or config.encoder_steps > 0:
        latents = encode_all(calibrated.model, windows.frames)
    with one_thread(), low_rank(calibrated.model.dynamics, config.dynamics_rank):
        error = _run(calibrated, windows, latents, config, pretrained, generator, log, judge, stills)
    return latents, error


def fit_encoder(
    calibrated: Calibrated,
    windows: Windows,
    config: FitConfig,
    pretrained: bool,
    generator: torch.Generator,
    log: Callable[..., None],
) -> None:
    """The first phase of `fit` alone, in place: adapter, dynamics and encoder together."""
    with low_rank(calibrated.model.dynamics, config.dynamics_rank):
        _run(calibrated, windows, None, config, pretrained, generator, log)
    settle_normalization(calibrated.model.encoder, console.track(windows.frames.split(256), "calibrate (settle)"))


def _run(
    calibrated: Calibrated,
    windows: Windows,
    latents: Tensor | None,
    config: FitConfig,
    pretrained: bool,
    generator: torch.Generator,
    log: Callable[..., None],
    judge: Callable[[Tensor], float] | None = None,
    stills: tuple[Tensor, Tensor] | None = None,
) -> float | None:
    """One phase: with the encoder in the loop (`latents` None), or on latents known before; returns the least error."""
    joint = latents is None
    steps, batch = (config.encoder_steps, config.encoder_batch) if joint else (config.steps, config.batch)
    optimizer = _optimizer(calibrated, config, joint)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 0.5 * (1 + math.cos(math.pi * s / steps)))
    phase = "encoder" if joint else "adapter"
    calibrated.zero_grad(set_to_none=True)  # the encoder keeps gradients of its own phase: they would count in clipping
    calibrated.train()
    calibrated.model.encoder.train(joint)
    best: tuple[float, dict[str, Tensor]] | None = None
    labels = infer_labels(calibrated.model, latents, windows) if latents is not None and pretrained else None
    with console.progress(f"calibrate ({phase})", steps) as bar:
        for step in range(steps):
            drawn = torch.randint(len(windows.rows), (batch,), generator=generator)
            rows = windows.rows[drawn]
            z_BLD = calibrated.model.encode(windows.frames[rows]) if latents is None else latents[rows]
            label = (config.label if step < steps / 4 else 0.05 * config.label) if pretrained else 0.0
            known = labels[drawn] if labels is not None else infer(calibrated.model, z_BLD)
            terms = fit_terms(calibrated, z_BLD, windows, rows, known, config, label)
            if stills is not None:
                terms["practice"] = practice_loss(
                    calibrated.body, stills, batch * z_BLD.shape[1], config.noise, generator
                )
                terms["total"] = terms["total"] + config.proprio * terms["practice"]
            if joint:
                directions = F.normalize(torch.randn(z_BLD.shape[-1], 256), dim=0)
                terms["total"] = terms["total"] + 0.1 * sigreg(z_BLD.flatten(0, 1), directions)
            if not torch.isfinite(terms["total"]):
                raise UserError(f"calibration loss is not finite at step {step}", "Lower fit.learning_rate")
            optimizer.zero_grad()
            terms["total"].backward()
            torch.nn.utils.clip_grad_norm_(calibrated.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            bar.advance(note=f"loss {float(terms['total'].detach()):.3f}")
            if (step + 1) % 10 == 0:
                log(step=step + 1, phase=phase, **{k: round(float(v.detach()), 6) for k, v in terms.items()})
            if judge is not None and latents is not None and (step + 1) % max(1, steps // _JUDGED) == 0:
                calibrated.eval()
                error = judge(latents)
                log(step=step + 1, phase="held out", error=round(error, 6))
                if best is None or error < best[0]:
                    best = error, {k: v.detach().clone() for k, v in calibrated.body.state_dict().items()}
                calibrated.train()
                calibrated.model.encoder.eval()
    if best is not None:
        calibrated.body.load_state_dict(best[1])
    calibrated.eval()
    return None if best is None else best[0]


def _optimizer(calibrated: Calibrated, config: FitConfig, joint: bool) -> torch.optim.Optimizer:
    """Over adapter, proprio head and dynamics, and over the encoder where all are fitted together."""
    body, model = calibrated.body, calibrated.model
    groups = [
        {"params": [*body.adapter.parameters(), *body.proprio_head.parameters()], "lr": config.learning_rate},
        {"params": list(model.dynamics.parameters()), "lr": config.dynamics_learning_rate},
    ]
    if joint:
        groups.append({"params": list(model.encoder.parameters()), "lr": config.encoder_learning_rate})
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)


@torch.no_grad()
def infer(model: WorldModel, z_BLD: Tensor) -> Tensor:
    """The labeler's latent actions (B, L - history, A) of the steps of windows that are predicted."""
    return torch.tanh(model.infer(z_BLD)[0][:, model.config.history - 1 :])


def infer_labels(model: WorldModel, latents: Tensor, windows: Windows, batch: int = 1024) -> Tensor:
    """Those of all windows: they stay as they are while the encoder does."""
    return torch.cat([infer(model, latents[rows]) for rows in windows.rows.split(batch)])


def fit_terms(
    calibrated: Calibrated,
    z_BLD: Tensor,
    windows: Windows,
    rows_BL: Tensor,
    labels_BHA: Tensor,
    config: FitConfig,
    label: float,
) -> dict[str, Tensor]:
    """Losses of one batch of windows, `history` latents first; unweighted terms and under `total` their sum."""
    model, body, history = calibrated.model, calibrated.body, calibrated.model.config.history
    proprio, chunks_BLV = body.standardize(windows.proprio[rows_BL]), windows.chunks[rows_BL]
    noisy = z_BLD + config.noise * torch.randn_like(z_BLD)
    histories = noisy.unfold(1, history, 1).transpose(2, 3)  # (B, L - history + 1, history, D), one per known end
    now, came = slice(history - 1, -1), z_BLD[:, history:]
    chunks_BHV, shape = chunks_BLV[:, now], came.shape[:2]
    reference = windows.reference[rows_BL[:, history - 1]]
    rolled, states, log_errors = calibrated.rollout(noisy, proprio[:, history - 1], reference, chunks_BHV)
    actions_BHA = body.adapter(
        chunks_BHV.flatten(0, 1), proprio[:, now].flatten(0, 1), noisy[:, now].flatten(0, 1)
    ).unflatten(0, shape)
    # The first step of a rollout is a prediction like the others, and is not made twice.
    later, log_later = model.predict(histories[:, 1:-1].flatten(0, 1), actions_BHA[:, 1:].flatten(0, 1))
    predicted = torch.cat([rolled[:, :1], later.unflatten(0, (shape[0], -1))], dim=1)
    log_error = torch.cat([log_errors[:, :1], log_later.unflatten(0, (shape[0], -1))], dim=1)
    error_BH = (predicted - came).square().mean(-1)
    terms = {
        "predict": error_BH.mean(),
        "rollout": (rolled - came).square().mean(),
        "label": (actions_BHA - labels_BHA).square().mean(),
        "read": (body.read(histories.flatten(0, 1)) - proprio[:, history - 1 :].flatten(0, 1)).square().mean(),
        "proprio": (states - proprio[:, history:]).square().mean(),
        "calibration": (error_BH.detach() / log_error.exp() + log_error).mean(),
    }
    terms["total"] = (
        terms["predict"]
        + terms["rollout"]
        + label * terms["label"]
        + config.proprio * (terms["read"] + terms["proprio"])
        + 0.1 * terms["calibration"]
    )
    return terms
