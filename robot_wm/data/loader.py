"""Packed clips as training batches: windows of several datasets drawn at random, recoloured and mirrored."""

import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot_wm.contracts.dataset import HAND, OBJECT
from robot_wm.contracts.errors import UserError
from robot_wm.data.ahead import Ahead
from robot_wm.data.augment import Looks, Mirror, recolour
from robot_wm.data.frames import DeviceRows, Rows
from robot_wm.data.pack import Pack
from robot_wm.data.scales import Scales as Scales
from robot_wm.data.scales import measure, positions
from robot_wm.data.windows import split, windows

Memory = Literal["auto", "device", "host"]
Source = Pack | Sequence[Pack]  # of one dataset: its only pack, or one pack per camera
_SHARE_OF_FREE = 0.6  # of an accelerator's free memory that data may take; the rest is the model's


@dataclass(frozen=True)
class Batch:
    """Clips of T frames; what is unknown (no simulator state, no transition) is NaN. All targets are standardised.

    Attributes:
        frames_BTYXC: uint8.
        flow_BTF: pooled optical flow to the next frame (B, T - 1, cells · cells · 2), in its embodiment's deviations.
        moments_BT4: its moments (B, T - 1, 4), likewise.
        hand_BT3, object_BT3: positions in the camera's frame.
        displacement_gain: brings a difference of standardised hand positions to unit variance.
    """

    frames_BTYXC: Tensor
    flow_BTF: Tensor
    moments_BT4: Tensor
    hand_BT3: Tensor
    object_BT3: Tensor
    displacement_gain: float


class ClipSet:
    """Windows of several datasets: on the accelerator where they fit, else read from mapped memory as they are drawn.

    Attributes:
        starts: (W,) first frame of each window, frames being numbered through all packs; ascending.
        length: frames of a window.
        scales: of the targets, over all data.
        motion: flow and moments of each embodiment; targets are divided by those of their own body.
        waited_s: how long `batch` and `pair` have taken so far.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        length: int,
        device: torch.device | str,
        measured_on: Sequence[NDArray[np.bool_]],
        weights: Sequence[float] | None = None,
        memory: Memory = "auto",
    ):
        """
        Args:
            sources: the datasets; of one with several cameras, a pack per camera.
            length: frames of a window.
            device: where batches are wanted.
            measured_on: per pack, (F,): the frames that the scales of the targets come from, the training frames.
            weights: share of each dataset in a batch, in any unit; by its number of windows if None.
            memory: where the frames are kept: on `device`, in the host's page cache, or wherever they fit.
        """
        views = [(s,) if isinstance(s, Pack) else tuple(s) for s in sources]
        for packs in views:
            if any(not np.array_equal(p.starts, packs[0].starts) for p in packs):
                raise ValueError(f"cameras {[p.camera for p in packs]} do not show the same moments")
        self.packs = [pack for packs in views for pack in packs]
        self.length, self.device = length, torch.device(device)
        self.scales, self.motion = measure(self.packs, measured_on)
        offsets = np.cumsum([0] + [len(p.frames_FYXC) for p in self.packs])
        found = [windows(p, length) + offset for p, offset in zip(self.packs, offsets[:-1], strict=True)]
        self.starts = torch.as_tensor(np.concatenate(found))
        if len(self.starts) == 0:
            raise UserError(f"no clip of {length} frames in the data", "Add longer episodes, or lower clip_frames")
        self._offsets = torch.as_tensor(offsets)
        self._num_views = torch.as_tensor([len(packs) for packs in views])
        self._first_pack = self._num_views.cumsum(0) - self._num_views
        self._weights = None if weights is None else torch.as_tensor(weights, dtype=torch.float64)
        deviations = [self.motion[p.embodiment] for p in self.packs]
        self._motion_P5 = torch.tensor([[m.flow_px, *m.moments] for m in deviations])
        self._hold(memory)
        self._start_afresh()

    def _hold(self, memory: Memory) -> None:
        """Frames and flow where they are wanted; the rest is small, and goes to the device."""
        mean, deviation = np.asarray(self.scales.position_mean_m), np.asarray(self.scales.position_m)
        places = ([(positions(p, key) - mean) / deviation for p in self.packs] for key in (HAND, OBJECT))
        self._hand, self._object = (_tensor(np.concatenate(place), self.device) for place in places)
        self._moments = _tensor(np.concatenate([p.moments_F for p in self.packs]), self.device)
        self._frames, self._flow = Rows([p.frames_FYXC for p in self.packs]), Rows([p.flow_F for p in self.packs])
        self._on_device: tuple[DeviceRows, DeviceRows] | None = None
        if memory == "device" or (memory == "auto" and _fits(self._frames, self._flow, self.device)):
            self._on_device = (
                self._frames.upload(self.device, "frames to the accelerator"),
                self._flow.upload(self.device, "flow to the accelerator"),
            )

    def _start_afresh(self) -> None:
        self.waited_s = 0.0
        self._bounds = torch.searchsorted(self.starts, self._offsets)  # (P + 1,) first window of each pack
        self._ahead = Ahead(self._draw, self._send)

    def keep(self, chosen_F: NDArray[np.bool_]) -> "ClipSet":
        """The same set, over the same memory, restricted to the windows that start on the chosen frames (F,)."""
        part = copy(self)
        part.starts = self.starts[torch.as_tensor(chosen_F)[self.starts]]
        part._start_afresh()
        return part

    @property
    def windows_per_source(self) -> list[int]:
        """How many windows each dataset has."""
        first = self._bounds[self._first_pack]
        return (torch.cat([first[1:], self._bounds[-1:]]) - first).tolist()

    @property
    def memory(self) -> str:
        """Where the frames are: `device` or `host`."""
        return "host" if self._on_device is None else "device"

    def batch(self, size: int, generator: torch.Generator, augment: bool = True) -> Batch:
        """Random clips, in the order in which they are stored.

        With `augment`, each is recoloured as a whole, and mirrored in half of the cases.
        """
        return self._serve(_Request(size, augment, False), generator)[0]

    def pair(self, size: int, generator: torch.Generator, augment: bool = True) -> tuple[Batch, Batch]:
        """The same moments twice: seen by two cameras where the dataset has several, else by the same one.

        The two are recoloured independently, and mirrored together: a world and its mirror image.
        """
        first, second = self._serve(_Request(size, augment, True), generator)
        return first, second

    def _serve(self, request: "_Request", generator: torch.Generator) -> list[Batch]:
        started_s = time.monotonic()
        if self._on_device is None and self.device.type == "cuda":
            draw, fetched, sent = self._ahead.next(request, generator)
            torch.cuda.current_stream(self.device).wait_event(sent)
            for tensor in (t for pair in fetched for t in pair):
                tensor.record_stream(torch.cuda.current_stream(self.device))
        else:
            draw = self._draw(request, generator)
            fetched = [self._fetch(starts) for starts in draw.starts]
        batches = [self._finish(*parts) for parts in zip(draw.starts, draw.looks, fetched, strict=True)]
        self.waited_s += time.monotonic() - started_s
        return batches

    def _draw(self, request: "_Request", generator: torch.Generator) -> "_Draw":
        """Everything random about a batch."""
        size = request.size
        if self._weights is None:
            chosen = torch.randint(len(self.starts), (size,), generator=generator)
        else:
            count = torch.as_tensor(self.windows_per_source)
            source = torch.multinomial(self._weights, size, replacement=True, generator=generator)
            within = (torch.rand(size, generator=generator, dtype=torch.float64) * count[source]).long()
            chosen = self._bounds[self._first_pack[source]] + within
        first = self.starts[chosen.sort().values]
        looks = Looks.draw(size, generator) if request.augment else None
        if not request.pair:
            return _Draw((first,), (looks,))
        second = self._elsewhere(first, torch.rand(size, generator=generator, dtype=torch.float64))
        other = replace(Looks.draw(size, generator), mirrored_B=looks.mirrored_B) if looks else None
        return _Draw((first, second), (looks, other))

    def _elsewhere(self, starts_B: Tensor, chance_B: Tensor) -> Tensor:
        """The same moments in another camera of the same dataset, if it has one."""
        pack = self._pack(starts_B)
        source = torch.searchsorted(self._first_pack, pack, right=True) - 1
        first, num = self._first_pack[source], self._num_views[source]
        step = 1 + (chance_B * (num - 1)).long()
        return starts_B - self._offsets[pack] + self._offsets[first + (pack - first + step) % num]

    def _pack(self, starts_B: Tensor) -> Tensor:
        return torch.searchsorted(self._offsets, starts_B, right=True) - 1

    def _fetch(self, starts_B: Tensor, pinned: bool = False) -> tuple[Tensor, Tensor]:
        """Frames (B, T, Y, X, C) and flow (B, T - 1, cells, cells, 2), as they are stored."""
        index = starts_B[:, None] + torch.arange(self.length)
        shapes = (index.shape, index[:, 1:].shape)
        if self._on_device is not None:
            index = index.to(self.device)
            taken = [rows.take(i.flatten()) for rows, i in zip(self._on_device, (index, index[:, :-1]), strict=True)]
        else:
            indices = (index.flatten().numpy(), index[:, :-1].flatten().numpy())
            taken = [r.take(i, pinned) for r, i in zip((self._frames, self._flow), indices, strict=True)]
        frames, flow = (t.reshape(*shape, *t.shape[1:]) for t, shape in zip(taken, shapes, strict=True))
        return frames, flow

    def _send(self, draw: "_Draw") -> tuple["_Draw", list[tuple[Tensor, Tensor]], torch.cuda.Event]:
        """A draw's frames and flow on their way to the GPU, beside what it computes; the event tells when they are."""
        stream = _stream(self.device)
        with torch.cuda.stream(stream):
            sent = []
            for starts in draw.starts:
                frames, flow = self._fetch(starts, pinned=True)
                sent.append((frames.to(self.device, non_blocking=True), flow.to(self.device, non_blocking=True)))
            return draw, sent, stream.record_event()

    def _finish(self, starts_B: Tensor, looks: Looks | None, fetched: tuple[Tensor, Tensor]) -> Batch:
        """Standardised and changed as drawn, on the device."""
        frames, flow = fetched
        motion_B5 = self._motion_P5[self._pack(starts_B)].to(self.device)
        index = (starts_B[:, None] + torch.arange(self.length)).to(self.device)
        flow = flow.float() / motion_B5[:, :1, None, None, None]
        moments = self._moments[index[:, :-1]] / motion_B5[:, None, 1:]
        hand, thing = self._hand[index], self._object[index]
        if looks is not None:
            centre = self.scales.position_mean_m[0] / self.scales.position_m[0]
            mirror = Mirror(looks.mirrored_B.to(self.device))
            frames, flow = mirror.image(recolour(frames, looks)), mirror.vectors(mirror.image(flow))
            moments, hand, thing = mirror.moments(moments), mirror.places(hand, centre), mirror.places(thing, centre)
        return Batch(frames, flow.flatten(2), moments, hand, thing, self.scales.displacement_gain)


@dataclass(frozen=True)
class _Request:
    size: int
    augment: bool
    pair: bool


@dataclass(frozen=True)
class _Draw:
    """First frames of the clips, and how they are changed: once, or twice for pairs."""

    starts: tuple[Tensor, ...]
    looks: tuple[Looks | None, ...]


def split_clips(
    sources: Sequence[Source],
    length: int,
    device: torch.device | str,
    held_out: float,
    seed: int,
    weights: Sequence[float] | None = None,
    memory: Memory = "auto",
) -> tuple[ClipSet, ClipSet]:
    """Training and validation clips, split by episode: all cameras and all windows of an episode are on one side.

    Args:
        sources, length, device, weights, memory: see `ClipSet`.
        held_out: share of each dataset's episodes kept out of training.
        seed: of the split.

    Raises:
        UserError: no clip of the wanted length on either side, or weights that do not fit the datasets.
    """
    packs = [p for s in sources for p in ((s,) if isinstance(s, Pack) else s)]
    kept = [np.isin(p.episode_F, split(len(p.starts) - 1, held_out, seed)[0]) for p in packs]
    _check_weights(weights, len(sources))
    clips = ClipSet(sources, length, device, kept, weights, memory)
    training_F = np.concatenate(kept)
    training, validation = clips.keep(training_F), clips.keep(~training_F)
    for part, name in ((training, "training"), (validation, "validation")):
        missing = [n for n, count in enumerate(part.windows_per_source) if count == 0]
        if len(part.starts) == 0 or (weights is not None and missing):
            which = "" if len(part.starts) == 0 else f" in dataset {missing[0] + 1}"
            raise UserError(
                f"no clip of {length} frames for {name}{which}", "Add episodes, or change validation or clip_frames"
            )
    return training, validation


def _check_weights(weights: Sequence[float] | None, num: int) -> None:
    if weights is None:
        return
    if len(weights) != num:
        raise UserError(f"{len(weights)} weights for {num} datasets", "Give one weight per dataset, in their order")
    if not all(np.isfinite(w) and w > 0 for w in weights):
        raise UserError(f"weights are {list(weights)}", "Give positive numbers, or leave a dataset out")


def _fits(frames: Rows, flow: Rows, device: torch.device) -> bool:
    """Whether an accelerator has room for all of them; the CPU has no use for a copy."""
    if device.type != "cuda":
        return False
    needed = len(frames) * (frames.row_bytes + flow.row_bytes)
    return needed <= _SHARE_OF_FREE * torch.cuda.mem_get_info(device)[0]


@lru_cache(maxsize=8)
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def _tensor(values: NDArray[np.floating], device: torch.device) -> Tensor:
    return torch.as_tensor(np.asarray(values, np.float32), device=device)
