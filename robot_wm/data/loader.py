"""Packed clips as training batches: the whole set on the device, windows drawn at random, recoloured and mirrored."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot_wm.contracts.dataset import HAND, OBJECT
from robot_wm.contracts.errors import UserError
from robot_wm.data.pack import Pack
from robot_wm.data.windows import split, windows

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Batch:
    """Clips of T frames; what is unknown (no simulator state, no transition) is NaN. All targets are standardised.

    Attributes:
        frames_BTYXC: uint8.
        flow_BTF: pooled optical flow to the next frame (B, T - 1, cells · cells · 2).
        moments_BT4: its moments (B, T - 1, 4).
        hand_BT3, object_BT3: positions in the camera's frame.
        displacement_gain: brings a difference of standardised hand positions to unit variance.
    """

    frames_BTYXC: Tensor
    flow_BTF: Tensor
    moments_BT4: Tensor
    hand_BT3: Tensor
    object_BT3: Tensor
    displacement_gain: float


@dataclass(frozen=True)
class Scales:
    """What the standardised targets are multiplied by to be physical again."""

    flow_px: float
    moments: tuple[float, float, float, float]
    position_mean_m: Triple
    position_m: Triple
    displacement_gain: float


class ClipSet:
    """Windows of several packs, held on one device."""

    def __init__(self, packs: Sequence[Pack], length: int, device: torch.device | str, measured_on: NDArray[np.bool_]):
        """`measured_on` (F,) marks the frames that the scales of the targets come from: the training frames."""
        offsets = np.cumsum([0] + [len(p.frames_FYXC) for p in packs])
        starts = [windows(p, length) + offset for p, offset in zip(packs, offsets, strict=False)]
        self.starts = torch.as_tensor(np.concatenate(starts), device=device)
        if len(self.starts) == 0:
            raise UserError(f"no clip of {length} frames in the data", "Add longer episodes, or lower clip_frames")
        self.length = length
        self.frames = torch.as_tensor(np.concatenate([p.frames_FYXC for p in packs]), device=device)
        flow = np.concatenate([np.asarray(p.flow_F, np.float32) for p in packs])
        moments = np.concatenate([p.moments_F for p in packs])
        hand, thing = (np.concatenate([_column(p, key) for p in packs]) for key in (HAND, OBJECT))
        valid = np.concatenate([p.valid_F for p in packs]) & measured_on
        self.scales = _measure(flow[valid], moments[valid], np.where(measured_on[:, None], hand, np.nan), valid)
        mean, deviation = np.asarray(self.scales.position_mean_m), np.asarray(self.scales.position_m)
        self.flow = torch.as_tensor(flow / self.scales.flow_px, device=device, dtype=torch.float16)
        self.moments = _tensor(moments / np.asarray(self.scales.moments), device)
        self.hand, self.object = (_tensor((x - mean) / deviation, device) for x in (hand, thing))

    def keep(self, chosen_F: NDArray[np.bool_]) -> "ClipSet":
        """The same set, over the same memory, restricted to the windows that start on the chosen frames (F,)."""
        part = copy(self)
        part.starts = self.starts[torch.as_tensor(chosen_F, device=self.starts.device)[self.starts]]
        return part

    def batch(self, size: int, generator: torch.Generator, augment: bool = True) -> Batch:
        """Random clips. With `augment`, each is recoloured as a whole, and mirrored in half of the cases."""
        chosen = torch.randint(len(self.starts), (size,), generator=generator).to(self.starts.device)
        index = self.starts[chosen][:, None] + torch.arange(self.length, device=self.starts.device)
        frames, flow, moments = self.frames[index], self.flow[index[:, :-1]].float(), self.moments[index[:, :-1]]
        hand, thing = self.hand[index], self.object[index]
        if augment:
            frames = _recolour(frames, generator)
            mirrored = (torch.rand(size, generator=generator) < 0.5).to(frames.device)
            frames[mirrored] = frames[mirrored].flip(3)
            flow[mirrored] = flow[mirrored].flip(3) * flow.new_tensor([-1, 1])
            moments[mirrored] *= moments.new_tensor([-1, 1, -1, 1])
            centre = self.scales.position_mean_m[0] / self.scales.position_m[0]
            hand[mirrored, :, 0] = -hand[mirrored, :, 0] - 2 * centre
            thing[mirrored, :, 0] = -thing[mirrored, :, 0] - 2 * centre
        return Batch(frames, flow.flatten(2), moments, hand, thing, self.scales.displacement_gain)


def split_clips(
    packs: Sequence[Pack], length: int, device: torch.device | str, held_out: float, seed: int
) -> tuple[ClipSet, ClipSet]:
    """Training and validation clips, split by episode; `held_out` is the share of each pack's episodes kept out.

    Raises:
        UserError: no clip of the wanted length on either side.
    """
    kept = [np.isin(p.episode_F, split(len(p.starts) - 1, held_out, seed)[0]) for p in packs]
    training_F = np.concatenate(kept)
    clips = ClipSet(packs, length, device, training_F)
    training, validation = clips.keep(training_F), clips.keep(~training_F)
    for part, name in ((training, "training"), (validation, "validation")):
        if len(part.starts) == 0:
            raise UserError(
                f"no clip of {length} frames for {name}", "Add episodes, or change validation or clip_frames"
            )
    return training, validation


def _recolour(frames_BTYXC: Tensor, generator: torch.Generator) -> Tensor:
    """A random order of the colour channels, contrast and brightness per clip: bodies differ in colour first of all."""
    batch, device = len(frames_BTYXC), frames_BTYXC.device
    order = torch.rand(batch, 3, generator=generator).argsort(dim=1).to(device)
    gain = (0.7 + 0.6 * torch.rand(batch, 1, 1, 1, 3, generator=generator)).to(device)
    shift = (60 * torch.rand(batch, 1, 1, 1, 3, generator=generator) - 30).to(device)
    shuffled = frames_BTYXC.gather(-1, order[:, None, None, None].expand(frames_BTYXC.shape))
    return (shuffled * gain + shift).clamp(0, 255).to(torch.uint8)


def _tensor(values: NDArray[np.floating], device: torch.device | str) -> Tensor:
    return torch.as_tensor(np.asarray(values, np.float32), device=device)


def _column(pack: Pack, key: str) -> NDArray[np.float32]:
    """A position column of a pack, NaN where the dataset has none."""
    if key in pack.columns:
        return np.asarray(pack.columns[key], np.float32).reshape(len(pack.frames_FYXC), -1)[:, :3]
    return np.full((len(pack.frames_FYXC), 3), np.nan, np.float32)


def _measure(
    flow: NDArray[np.float32], moments: NDArray[np.float32], hand: NDArray[np.float32], valid: NDArray[np.bool_]
) -> Scales:
    known = np.isfinite(hand[:, 0])
    position, deviation, gain = np.zeros(3), np.ones(3), 1.0
    if known.any():
        position, deviation = hand[known].mean(0), hand[known].std(0) + 1e-6
        steps = np.diff(hand / deviation, axis=0)[valid[:-1] & known[:-1] & known[1:]]
        gain = 1 / (float(steps.std()) + 1e-6)
    return Scales(
        float(flow.std()) + 1e-6,
        tuple(float(s) + 1e-6 for s in moments.std(0)),  # type: ignore[arg-type]
        tuple(float(x) for x in position),  # type: ignore[arg-type]
        tuple(float(x) for x in deviation),  # type: ignore[arg-type]
        gain,
    )
