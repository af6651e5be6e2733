"""Learning to read one body: encoder and proprio head on stills, before anything is predicted."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calibration.candidate import Ground
from calibration.practice import Stills, other_light
from robot_wm import console
from robot_wm.contracts.errors import UserError
from robot_wm.models.adapter import ProprioHead
from robot_wm.models.encoder import Encoder
from robot_wm.training.loop import settle_normalization

_HEAD_RATE, _HEAD_STEPS, _WARM = 3e-3, 300, 20
_NOISE = 0.03  # added to latents
_MOST_JUDGED = 600  # held-out pictures looked at


@dataclass(frozen=True)
class ReadingConfig:
    """How the encoder is taught to read the body.

    Attributes:
        steps: optimizer steps of the encoder on stills of the log and practice pictures; 0 leaves it as pretrained.
        batch: pictures per step, half of them practice pictures where there are any.
        learning_rate: of the encoder.
        practice: pictures drawn from the body's own MuJoCo model, in poses that need no label; 0: the log alone.
    """

    steps: int = 200
    batch: int = 48
    learning_rate: float = 5e-4
    practice: int = 2000

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("batch", 2), ("practice", 0)):
            if getattr(self, name) < least:
                raise UserError(f"reading.{name} is {getattr(self, name)}", f"Give {least} or more")


@dataclass(frozen=True)
class Reading:
    """What learning to read brought: error on pictures of held-out episodes, root of the mean squared distance.

    Attributes:
        practice: practice pictures used.
        before: [m or rad] with the encoder as pretrained.
        after: with the one that learned.
        kept: whether that one is used.
    """

    practice: int
    before: float
    after: float
    kept: bool


def learn_to_read(
    ground: Ground,
    practice: Stills | None,
    config: ReadingConfig,
    used: NDArray[np.int64],
    held_out: NDArray[np.int64],
    log: Callable[..., None],
) -> tuple[Ground, Reading]:
    """The ground with an encoder that reads this body, where it reads pictures of held-out episodes better.

    Both the pretrained and the fitted encoder are read by a head that was trained on their latents.
    """
    seen, unseen = (_stills(ground, part) for part in (used, held_out))
    if not ground.pretrained:  # nothing is known yet of how its latents are spread
        settle_normalization(ground.model.encoder, seen.frames.split(256))
    scale_2Q = torch.stack([seen.positions.mean(0), seen.positions.std(0) + 1e-6])
    before = _read_frozen(ground.model.encoder, seen, unseen, scale_2Q, ground.seed)
    encoder, head = copy.deepcopy(ground.model.encoder), _head(ground, seen)
    _fit(encoder, head, seen, practice, scale_2Q, config, ground.seed, log)
    after = _error(encoder, head, unseen, scale_2Q)
    reading = Reading(0 if practice is None else len(practice.frames), before, after, after < before)
    kept = "is kept" if reading.kept else "is not kept"
    console.say(
        f"reading: the encoder that learned this body {kept} (held-out error {after:.4g}, before {before:.4g}; "
        f"{reading.practice} practice pictures)"
    )
    return (replace(with_encoder(ground, encoder), practice=practice) if reading.kept else ground), reading


def with_encoder(ground: Ground, encoder: Encoder) -> Ground:
    """The same ground with another encoder."""
    model = copy.deepcopy(ground.model)
    model.encoder.load_state_dict(encoder.state_dict())
    return replace(ground, model=model)


def _stills(ground: Ground, episodes: NDArray[np.int64]) -> Stills:
    transitions = ground.transitions
    rows = np.isin(transitions.episode_F, episodes)
    positions = transitions.proprio_FP[rows][:, ground.body.position_P]
    return Stills(torch.from_numpy(transitions.frames_FYXC[rows]), torch.from_numpy(positions))


def _head(ground: Ground, seen: Stills) -> ProprioHead:
    torch.manual_seed(ground.seed)
    return ProprioHead(ground.model.config.encoder.latent_dim, seen.positions.shape[1])


def _read(head: ProprioHead, z_BD: Tensor) -> Tensor:
    return head(z_BD[:, None], torch.ones(head.linear.out_features))


def _fit(
    encoder: Encoder,
    head: ProprioHead,
    seen: Stills,
    practice: Stills | None,
    scale_2Q: Tensor,
    config: ReadingConfig,
    seed: int,
    log: Callable[..., None],
) -> None:
    """Both in place. The latents' normalisation stays as it is: what the dynamics know of them stays true longer."""
    generator = torch.Generator().manual_seed(seed)
    groups = [
        {"params": list(encoder.parameters()), "lr": config.learning_rate},
        {"params": list(head.parameters()), "lr": _HEAD_RATE},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: _rate(s, config.steps))
    encoder.train()
    encoder.normalize.eval()
    with console.progress("calibrate (reading)", config.steps) as bar:
        for step in range(config.steps):
            frames, positions = _batch(seen, practice, config.batch, generator)
            z_BD = encoder(other_light(frames, generator))
            z_BD = z_BD + _NOISE * torch.randn(z_BD.shape, generator=generator)
            loss = nn.functional.smooth_l1_loss(_read(head, z_BD), (positions - scale_2Q[0]) / scale_2Q[1], beta=0.3)
            if not torch.isfinite(loss):
                raise UserError(f"reading loss is not finite at step {step}", "Lower reading.learning_rate")
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*encoder.parameters(), *head.parameters()], 1.0)
            optimizer.step()
            schedule.step()
            bar.advance(note=f"loss {float(loss.detach()):.3f}")
            if (step + 1) % 10 == 0:
                log(step=step + 1, phase="reading", read=round(float(loss.detach()), 6))
    encoder.eval()


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / _WARM) * 0.5 * (1 + math.cos(math.pi * step / steps))


@torch.no_grad()
def _read_frozen(encoder: Encoder, seen: Stills, unseen: Stills, scale_2Q: Tensor, seed: int) -> float:
    """Error of a head alone, fitted on the latents of an encoder that stays as it is."""
    torch.manual_seed(seed)
    head = ProprioHead(encoder.config.latent_dim, seen.positions.shape[1])
    z_FD, target_FQ = _encode(encoder, seen.frames), (seen.positions - scale_2Q[0]) / scale_2Q[1]
    optimizer = torch.optim.AdamW(head.parameters(), lr=_HEAD_RATE, weight_decay=0.05)
    with torch.enable_grad():
        for _ in range(_HEAD_STEPS):
            rows = torch.randint(len(z_FD), (64,))
            z_BD = z_FD[rows] + _NOISE * torch.randn(64, z_FD.shape[1])
            optimizer.zero_grad()
            nn.functional.smooth_l1_loss(_read(head, z_BD), target_FQ[rows], beta=0.3).backward()
            optimizer.step()
    return _error(encoder, head, unseen, scale_2Q)


@torch.no_grad()
def _error(encoder: Encoder, head: ProprioHead, unseen: Stills, scale_2Q: Tensor) -> float:
    every = max(1, len(unseen.frames) // _MOST_JUDGED)
    read_NQ = _read(head, _encode(encoder, unseen.frames[::every])) * scale_2Q[1] + scale_2Q[0]
    return float((read_NQ - unseen.positions[::every]).square().sum(-1).mean().sqrt())


def _encode(encoder: Encoder, frames: Tensor) -> Tensor:
    return torch.cat([encoder(part) for part in frames.split(256)])


def _batch(seen: Stills, practice: Stills | None, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    frames, positions = [], []
    parts = [(seen, batch)] if practice is None else [(seen, batch // 2), (practice, batch - batch // 2)]
    for stills, count in parts:
        rows = torch.randint(len(stills.frames), (count,), generator=generator)
        frames.append(stills.frames[rows])
        positions.append(stills.positions[rows])
    return torch.cat(frames), torch.cat(positions)
