"""Packed clips as training batches: windows of several datasets drawn at random, recoloured and mirrored."""

import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from robot_wm.contracts.dataset import ARM_POINTS
from robot_wm.contracts.errors import UserError
from robot_wm.data.ahead import Ahead
from robot_wm.data.augment import Looks, Mirror, change
from robot_wm.data.draws import Draw, Draws, Request, Share
from robot_wm.data.frames import Buffers, DeviceRows, Places, Rows, made_of
from robot_wm.data.pack import Pack
from robot_wm.data.scales import Scales as Scales
from robot_wm.data.scales import measure, standardised
from robot_wm.data.windows import split

Memory = Literal["auto", "device", "host"]
Source = Pack | Sequence[Pack]  # of one dataset: its only pack, or one pack per camera
_SHORT = (0, 1, 0)  # rows fewer of frames, flow and the rest than a window has frames
_SHARE_OF_FREE = 0.6  # of an accelerator's free memory that data may take; the rest is the model's


@dataclass(frozen=True)
class Batch:
    """Clips of T frames; what is unknown (no simulator state, no transition) is NaN. All targets are standardised.

    Attributes:
        frames_BTYXC: uint8.
        flow_BTF: pooled optical flow to the next frame (B, T - 1, cells · cells · 2), in its embodiment's deviations.
        moments_BT4: its moments (B, T - 1, 4), likewise.
        hand_BT3, object_BT3: positions of the hand and of the object nearest to it in the camera's frame.
        arm_BTP3: of points along the arm, likewise. Depths that count from a shoulder are unknown where the picture
            does not show it.
        displacement_BT3: how the hand moves to the next frame (B, T - 1, 3).
    """

    frames_BTYXC: Tensor
    flow_BTF: Tensor
    moments_BT4: Tensor
    hand_BT3: Tensor
    object_BT3: Tensor
    arm_BTP3: Tensor
    displacement_BT3: Tensor


class ClipSet:
    """Windows of several datasets: on the accelerator where they fit, else read from mapped memory as they are drawn.

    Attributes:
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
        views = [_views(source) for source in sources]
        self.packs = [pack for packs in views for pack in packs]
        self.length, self.device = length, torch.device(device)
        self._draws = Draws(views, length, weights)
        if len(self.starts) == 0:
            raise UserError(f"no clip of {length} frames in the data", "Add longer episodes, or lower clip_frames")
        self.scales, self.motion = measure(self.packs, measured_on)
        self._views = views
        self._flow_px_P = torch.tensor([self.motion[p.embodiment].flow_px for p in self.packs])
        self._hold(memory)
        self._start_afresh()

    def _hold(self, memory: Memory) -> None:
        """Frames, flow, and what else belongs to a frame."""
        rest = [standardised(pack, self.scales, self.motion[pack.embodiment]) for pack in self.packs]
        held = ([p.frames_FYXC for p in self.packs], [p.flow_F for p in self.packs], rest)
        self._rows, self._buffers = [Rows(arrays) for arrays in held], Buffers()
        self._on_device: list[DeviceRows] | None = None
        if memory == "device" or (memory == "auto" and _fits(self._rows, self.device)):
            self._on_device = [rows.upload(self.device) for rows in self._rows]

    def _start_afresh(self) -> None:
        self.waited_s = 0.0
        self._ahead = Ahead(self._draws.draw, self._prepare)

    def keep(self, chosen_F: NDArray[np.bool_]) -> "ClipSet":
        """The same set, over the same memory, restricted to the windows that start on the chosen frames (F,)."""
        part = copy(self)
        part._draws = self._draws.keep(chosen_F)
        part._start_afresh()
        return part

    @property
    def starts(self) -> Tensor:
        """(W,) first frame of each window, frames being numbered through all packs; ascending."""
        return self._draws.starts

    @property
    def windows_per_source(self) -> list[int]:
        """How many windows each dataset has."""
        return self._draws.counts.tolist()

    def describe(self) -> list[dict[str, Any]]:
        """What each dataset contributes; JSON."""
        counts, weights = self.windows_per_source, self._draws.weights
        shares = counts if weights is None else weights.tolist()
        return [
            {
                "embodiment": packs[0].embodiment,
                "cameras": [pack.camera for pack in packs],
                "step_s": packs[0].step_s,
                "clips": count,
                "share": share / sum(shares),
                "flow_px": self.motion[packs[0].embodiment].flow_px,
                "moments": list(self.motion[packs[0].embodiment].moments),
            }
            for packs, count, share in zip(self._views, counts, shares, strict=True)
        ]

    @property
    def memory(self) -> str:
        """Where the frames are: `device` or `host`."""
        return "host" if self._on_device is None else "device"

    def batch(self, size: int, generator: Generator, augment: bool = True, share: Share = (0, 1)) -> Batch:
        """Random clips, in the order in which they are stored.

        With `augment`, each is recoloured as a whole, and mirrored in half of the cases. Of the clips drawn only those
        of `share` are read: (1, 4) is the second quarter of them.
        """
        return self._serve(Request(size, augment, False, share), generator)[0]

    def pair(self, size: int, generator: Generator, augment: bool = True) -> tuple[Batch, Batch]:
        """The same moments twice: seen by two cameras where the dataset has several, else by the same one.

        The two are recoloured independently, and mirrored together: a world and its mirror image.
        """
        first, second = self._serve(Request(size, augment, True), generator)
        return first, second

    def _serve(self, request: Request, generator: Generator) -> list[Batch]:
        started_s = time.monotonic()
        if self.device.type == "cuda":
            batches = self._ahead.next(request, generator).received(self.device)
        else:  # the processor has enough to do, and another batch in memory would push this one out of its cache
            batches = self._batches(self._draws.draw(request, generator))
        self.waited_s += time.monotonic() - started_s
        return batches

    def _prepare(self, draw: Draw) -> "_Ready":
        """Beside what others compute: in a thread, and on the GPU in a stream of its own."""
        stream = _stream(self.device)
        with torch.cuda.stream(stream):
            return _Ready(self._batches(draw), stream.record_event())

    def _batches(self, draw: Draw) -> list[Batch]:
        return [self._batch(*each) for each in zip(draw.starts, draw.looks, strict=True)]

    def _batch(self, starts_B: Tensor, looks: Looks | None) -> Batch:
        """Gathered, standardised and changed as drawn, on the device."""
        frames, flow, rest = self._gather(starts_B)
        mirror = None if looks is None else Mirror(looks.mirrored_B.to(self.device))
        flow = self._flow(flow, starts_B, mirror) if flow.numel() else flow.float()
        moments, step, places = rest[:, :-1, :4], rest[:, :-1, 4:7], rest[..., 7:].unflatten(-1, (2 + ARM_POINTS, 3))
        if looks is not None and mirror is not None:
            centre = self.scales.position_mean_m[0] / self.scales.position_m[0]
            frames, moments = change(frames, looks), mirror.moments(moments)
            step, places = mirror.places(step, 0.0), mirror.places(places, centre)
        hand, thing, arm = places[..., 0, :], places[..., 1, :], places[..., 2:, :]
        return Batch(frames, flow.flatten(2), moments, hand, thing, arm, step)

    def _flow(self, flow: Tensor, starts_B: Tensor, mirror: Mirror | None) -> Tensor:
        """In the deviations of each clip's own body, and mirrored with it."""
        by_B = self._flow_px_P[self._draws.pack(starts_B)].to(self.device).reshape(-1, 1, 1, 1, 1)

        def changed(clips: slice) -> Tensor:
            part = flow[clips].float() / by_B[clips]
            if mirror is None:
                return part
            turned = Mirror(mirror.mirrored_B[clips])
            return turned.vectors(turned.image(part))

        return made_of(changed, flow, self._buffers)

    def _gather(self, starts_B: Tensor) -> list[Tensor]:
        """Frames (B, T, Y, X, C), flow (B, T - 1, cells, cells, 2) and the rest (B, T, ...) as they are stored."""
        if self._on_device is not None:
            index_BT = (starts_B[:, None] + torch.arange(self.length)).to(self.device)
            return [r.take(index_BT[:, : self.length - s]) for r, s in zip(self._on_device, _SHORT, strict=True)]
        places = Places.find(self._rows[0].offsets, starts_B.numpy(), self.length)
        pinned = self.device.type == "cuda"
        begun = [r.taking(places, self.length - s, pinned) for r, s in zip(self._rows, _SHORT, strict=True)]
        found = [finish() for finish in reversed(begun)][::-1]  # frames last: other threads are at them meanwhile
        return [tensor.to(self.device, non_blocking=True) for tensor in found] if pinned else found


@dataclass(frozen=True)
class _Ready:
    """One or two batches, and when the GPU has finished them."""

    batches: list[Batch]
    made: torch.cuda.Event

    def received(self, device: torch.device) -> list[Batch]:
        """The batches, for work that the current stream is given from now on."""
        stream = torch.cuda.current_stream(device)
        stream.wait_event(self.made)
        for tensor in (t for batch in self.batches for t in vars(batch).values()):
            tensor.record_stream(stream)
        return self.batches


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
    views = [_views(source) for source in sources]
    packs = [pack for cameras in views for pack in cameras]
    kept = [np.isin(p.episode_F, split(len(p.starts) - 1, held_out, seed)[0]) for p in packs]
    _check(views, weights)
    clips = ClipSet(sources, length, device, kept, weights, memory)
    training_F = np.concatenate(kept)
    training, validation = clips.keep(training_F), clips.keep(~training_F)
    for part, name in ((training, "training"), (validation, "validation")):
        missing = [n for n, count in enumerate(part.windows_per_source) if count == 0]
        if len(part.starts) == 0 or (weights is not None and part is training and missing):
            which = "" if len(part.starts) == 0 else f" in dataset {missing[0] + 1}"
            raise UserError(
                f"no clip of {length} frames for {name}{which}", "Add episodes, or change validation or clip_frames"
            )
    return training, validation


def _views(source: Source) -> tuple[Pack, ...]:
    return (source,) if isinstance(source, Pack) else tuple(source)


def _check(views: Sequence[tuple[Pack, ...]], weights: Sequence[float] | None) -> None:
    names = [cameras[0].dataset for cameras in views]
    twice = [n + 1 for n, name in enumerate(names) if name and name in names[:n]]
    if twice:
        raise UserError(
            f"dataset {twice[0]} has been given before", "Name each once; weights say how often it is drawn"
        )
    if weights is None:
        return
    if len(weights) != len(views):
        raise UserError(f"{len(weights)} weights for {len(views)} datasets", "Give one per dataset, in their order")
    if not all(np.isfinite(w) and w > 0 for w in weights):
        raise UserError(f"weights are {list(weights)}", "Give positive numbers, or leave a dataset out")


def _fits(held: Sequence[Rows], device: torch.device) -> bool:
    """Whether an accelerator has room for all of them; the CPU has no use for a copy."""
    if device.type != "cuda":
        return False
    return sum(len(rows) * rows.row_bytes for rows in held) <= _SHARE_OF_FREE * torch.cuda.mem_get_info(device)[0]


@lru_cache(maxsize=8)
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
