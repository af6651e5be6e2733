"""The pretraining loop, in one process or several: health in view, exact resumption."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from robot_wm import console
from robot_wm.contracts.errors import UserError
from robot_wm.data.loader import Batch, ClipSet
from robot_wm.models.encoder import Encoder
from robot_wm.models.world_model import WorldModel
from robot_wm.training import ranks
from robot_wm.training.checkpoint import load_progress, save_progress
from robot_wm.training.launch import same, start
from robot_wm.training.losses import LossConfig, health, pretraining_terms

PROGRESS = "progress.safetensors"
_EXPLODED = 1e4  # a loss so many times the lowest one (or 1) does not come back
_ALARMS = (
    # sign, threshold, what it means, what to do
    ("nats", 1.0, "the latent action carries under 1 nat: it is dying", "raise loss.flow or lower loss.bottleneck"),
    ("moving_share", 0.01, "latents encode the scene, not the motion", "raise loss.flow, or lower loss.regularize"),
    ("shuffled_ratio", 1.02, "predictions ignore the latent action", "raise loss.moments or loss.state"),
)


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast.

    Attributes:
        steps: optimizer steps.
        batch, clip_frames: clips per step, of all processes together; frames per clip.
        learning_rate, weight_decay, warmup: of AdamW; `warmup` is in steps, a cosine to zero follows.
        health_every, checkpoint_every: in steps.
        accelerator, precision: as Lightning Fabric names them; precision is that of the encoder.
        devices: processes on this machine, one per GPU, that share every batch.
        compile: compile the encoder, which takes half a minute and pays from some thousand steps on.
    """

    steps: int = 700
    batch: int = 32
    clip_frames: int = 6
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 50
    health_every: int = 100
    checkpoint_every: int = 100
    accelerator: str = "auto"
    devices: int = 1
    precision: str = "32-true"
    compile: bool = False

    def __post_init__(self) -> None:
        sizes = self.steps, self.batch, self.clip_frames - 2, self.health_every, self.checkpoint_every, self.devices
        if min(sizes) < 1:
            raise UserError("training sizes below 1 (clip_frames below 3)", "Give positive steps, batch and intervals")


def train(
    model: WorldModel,
    clips: ClipSet,
    validation: ClipSet,
    config: TrainingConfig,
    loss: LossConfig,
    folder: Path,
    seed: int,
    log: Callable[..., None],
    fabric: Fabric | None = None,
) -> dict[str, float]:
    """Train `model` in place and leave it on the accelerator.

    Starts where `folder` says that an interrupted run had come; returns the last health. Where several processes of
    `fabric` do so together (None: there is but this one), the first of them alone logs, judges health and saves.

    Raises:
        UserError: loss or gradient is not finite, or the loss explodes; the last checkpoint stays.
    """
    fabric = fabric or start(config.accelerator, config.precision, 1, config.batch)
    fabric.seed_everything(seed, verbose=False)
    generator = torch.Generator().manual_seed(seed)
    fabric.to_device(model)
    optimizer: Any = fabric.setup_optimizers(
        torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    )
    if fabric.device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32: a little less exact, several times as fast
    if config.compile:
        model.encoder.compile()
    first = 0
    if (folder / PROGRESS).is_file():  # only now: the optimizer's state follows the weights to their device
        first, states = load_progress(folder / PROGRESS, model, optimizer)
        _restore_random(states, generator, fabric.device)
    ranks.agree(model.state_dict().values())
    vitals: dict[str, float] = {}
    lowest = math.inf
    share = fabric.global_rank, fabric.world_size
    with ranks.shared_statistics(model.encoder.normalize), console.progress("pretrain", config.steps, first) as bar:
        for step in range(first, config.steps):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * _schedule(step, config)
            terms, trouble = _descend(fabric, model, optimizer, clips.batch(config.batch, generator, share=share), loss)
            lowest = min(lowest, terms["total"])
            if terms["total"] > _EXPLODED * max(lowest, 1.0):
                trouble = f"loss is {terms['total']:.3g}", f", after {lowest:.3g}"
            if trouble:
                raise same(_gone_wrong(f" at step {step}".join(trouble), config, folder), fabric.global_rank)
            bar.advance(note=f"loss {terms['total']:.3f}")
            if fabric.global_rank > 0:
                continue
            done = step + 1
            if done % 10 == 0:
                log(step=done, **{k: round(v, 6) for k, v in terms.items()})
            if done % config.health_every == 0 or done == config.steps:
                vitals = check_health(model, validation, seed)
                log(step=done, **vitals)
                _warn(done, vitals)
            if done % config.checkpoint_every == 0 and done < config.steps:
                save_progress(folder / PROGRESS, done, model, optimizer, _random_states(generator, fabric.device))
    return vitals or check_health(model, validation, seed)


def _descend(
    fabric: Fabric, model: WorldModel, optimizer: torch.optim.Optimizer, batch: Batch, loss: LossConfig
) -> tuple[dict[str, float], tuple[str, str] | None]:
    """One step; returns the terms over the batch of all ranks, and what is not finite, in which case there was none.

    What it returns, and so what follows from it, is the same on every rank.
    """
    model.train()
    with fabric.autocast():  # the convolutions are what half precision makes faster
        z_BTD = model.encode(batch.frames_BTYXC)
    terms = pretraining_terms(model, z_BTD.float(), batch, loss)
    over_all = ranks.mean(torch.stack([value.detach() for value in terms.values()])).tolist()
    values = dict(zip(terms, over_all, strict=True))
    if not math.isfinite(values["total"]):
        return values, ("loss is not finite", f" ({', '.join(k for k, v in values.items() if not math.isfinite(v))})")
    optimizer.zero_grad()
    fabric.backward(terms["total"])
    ranks.average_gradients(model.parameters())
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if not torch.isfinite(norm):
        return values, ("the gradient is not finite", "")
    optimizer.step()
    return values, None


def _gone_wrong(found: str, config: TrainingConfig, folder: Path) -> UserError:
    return UserError(
        found, f"Lower training.learning_rate ({config.learning_rate}); {folder} keeps the last good checkpoint"
    )


def check_health(model: WorldModel, validation: ClipSet, seed: int, size: int = 64) -> dict[str, float]:
    """Health on clips held out from training; leaves the training's random state as it found it."""
    model.eval()
    state = torch.get_rng_state()
    vitals = health(model, validation.batch(size, torch.Generator().manual_seed(seed), augment=False))
    torch.set_rng_state(state)
    return {k: round(v, 4) for k, v in vitals.items() if math.isfinite(v)}


@torch.no_grad()
def settle_normalization(encoder: Encoder, batches: Iterable[Tensor]) -> None:
    """Recompute BatchNorm's running statistics with the final weights: they lag behind during training.

    Args:
        encoder: left in evaluation mode.
        batches: frames (B, Y, X, 3), uint8; every batch counts alike.
    """
    normalize = encoder.normalize
    normalize.reset_running_stats()
    momentum, normalize.momentum = normalize.momentum, None  # None: the plain average over all batches
    encoder.train()
    for frames_BYXC in batches:
        encoder(frames_BYXC)
    normalize.momentum = momentum
    encoder.eval()


def _random_states(generator: torch.Generator, place: torch.device) -> list[torch.Tensor]:
    """Of the batches, of the CPU, and of the GPU that is trained on."""
    on_gpu = [torch.cuda.get_rng_state(place)] if place.type == "cuda" else []
    return [generator.get_state(), torch.get_rng_state(), *on_gpu]


def _restore_random(states: list[torch.Tensor], generator: torch.Generator, place: torch.device) -> None:
    generator.set_state(states[0])
    torch.set_rng_state(states[1])
    if place.type == "cuda" and len(states) > 2:  # the interrupted run may have been on a CPU
        torch.cuda.set_rng_state(states[2], place)


def _schedule(step: int, config: TrainingConfig) -> float:
    if step < config.warmup:
        return (step + 1) / config.warmup
    return 0.5 * (1 + math.cos(math.pi * (step - config.warmup) / max(1, config.steps - config.warmup)))


def _warn(step: int, vitals: dict[str, float]) -> None:
    if step < 300:
        return
    for sign, threshold, meaning, remedy in _ALARMS:
        if vitals.get(sign, math.inf) < threshold:
            console.say(f"warning at step {step}: {meaning} ({sign} {vitals[sign]:.3f}); {remedy}")
