"""What training stable-worldmodel's models has in common: its reader, its preprocessing, and a budget of wall time."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as its scripts normalise
_WARM_UP = 0.01  # of the budget, as its schedule has it
_WORKERS = 4  # of its loader, where there is a GPU to feed


@dataclass(frozen=True)
class Scale:
    """Sizes that depend on the machine: those of its scripts, or what a CPU trains within minutes.

    Attributes:
        image: side of the picture that the transformer sees [px].
        patch: side of its patches [px].
        batch: windows per step.
        samples, iterations, elites: of the search.
    """

    image: int
    patch: int
    batch: int
    samples: int
    iterations: int
    elites: int

    @property
    def remark(self) -> str:
        """What was changed of its settings, in words."""
        if self == OFFICIAL:
            return "its own settings"
        return f"{self.image} px, batch {self.batch}, search {self.samples} × {self.iterations}: what a CPU can do"


OFFICIAL = Scale(image=224, patch=14, batch=128, samples=300, iterations=30, elites=30)
SMALL = Scale(image=96, patch=12, batch=32, samples=128, iterations=3, elites=12)


def scale() -> Scale:
    """Its own on a GPU."""
    return OFFICIAL if torch.cuda.is_available() else SMALL


def device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Pictures(nn.Module):
    """Frames (B, Y, X, 3) uint8 to what its encoders take, flattened to (B, 3 · S · S)."""

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, side: int):
        super().__init__()
        self.side = side
        self.register_buffer("mean_C11", torch.tensor(_MEAN)[:, None, None])
        self.register_buffer("std_C11", torch.tensor(_STD)[:, None, None])

    def forward(self, frames_BYXC: Tensor) -> Tensor:
        return self.scaled(frames_BYXC.permute(0, 3, 1, 2)).flatten(1)

    def scaled(self, image_BCYX: Tensor) -> Tensor:
        """(B, 3, Y, X) uint8 to (B, 3, S, S) normalised."""
        image = image_BCYX.float() / 255
        if image.shape[-1] != self.side:
            image = nn.functional.interpolate(image, (self.side, self.side), mode="bilinear", antialias=True)
        return (image - self.mean_C11) / self.std_C11

    def unflatten(self, flat: Tensor) -> Tensor:
        """(…, 3 · S · S) back to (…, 3, S, S)."""
        return flat.unflatten(-1, (3, self.side, self.side))


class Actions(nn.Module):
    """Plan units to z-scores of the data, and back; NaN, where an episode ends, becomes the mean."""

    mean_U: Tensor
    std_U: Tensor

    def __init__(self, action_FU: Tensor):
        super().__init__()
        known = action_FU[~torch.isnan(action_FU).any(dim=1)]
        self.register_buffer("mean_U", known.mean(0))
        self.register_buffer("std_U", known.std(0) + 1e-6)

    def forward(self, chunk_BTV: Tensor) -> Tensor:
        """(B, T, K · U), NaN included."""
        ticks = chunk_BTV.unflatten(-1, (-1, len(self.mean_U)))
        return torch.nan_to_num((ticks - self.mean_U) / self.std_U).flatten(-2)

    def back(self, chunk_BV: Tensor) -> Tensor:
        """(B, K · U) to (B, K, U) in plan units."""
        return chunk_BV.unflatten(-1, (-1, len(self.mean_U))) * self.std_U + self.mean_U


def batches(dataset: Any, size: int, seed: int) -> Iterator[dict[str, Tensor]]:
    """Windows of its dataset in random order, for ever, through torch's loader as its scripts have it."""
    workers = _WORKERS if torch.cuda.is_available() else 0
    loader = torch.utils.data.DataLoader(
        dataset, min(size, len(dataset)), shuffle=True, drop_last=True, num_workers=workers,
        persistent_workers=workers > 0, pin_memory=workers > 0, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    while True:
        yield from loader


def train(
    model: nn.Module, loss: Callable[[dict[str, Tensor]], Tensor], data: Iterator[dict[str, Tensor]],
    budget_s: float, learning_rate: float, weight_decay: float, clip: float = 1.0,
    groups: Sequence[tuple[Iterable[nn.Parameter], float]] = (),
) -> tuple[int, float]:  # fmt: skip
    """AdamW with warm-up and cosine over the budget; at least one step. Samples and seconds.

    Args:
        model: left in evaluation mode.
        loss: of a batch.
        data: batches, for ever.
        budget_s: of wall time.
        learning_rate: at its highest.
        weight_decay: of AdamW.
        clip: longest gradient.
        groups: parameters, and the share of the learning rate that they get; by default all get all of it.
    """
    shares = groups or [(model.parameters(), 1.0)]
    optimizer = torch.optim.AdamW([{"params": list(p)} for p, _ in shares], learning_rate, weight_decay=weight_decay)
    model.train()
    began_s, samples = time.perf_counter(), 0
    while (spent := (time.perf_counter() - began_s) / budget_s) < 1 or not samples:
        rate = min(1.0, (spent + 1e-3) / _WARM_UP) * (1 + math.cos(math.pi * min(spent, 1.0))) / 2
        for group, (_, share) in zip(optimizer.param_groups, shares, strict=True):
            group["lr"] = learning_rate * rate * share
        batch = {key: value.to(device(), non_blocking=True) for key, value in next(data).items()}
        with torch.autocast(device().type, torch.bfloat16, enabled=torch.cuda.is_available()):
            value = loss(batch)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        samples += len(batch["action"])
    model.eval()
    return samples, time.perf_counter() - began_s
