"""Clips in other colours and in the mirror: bodies differ in colour first of all, and none has a preferred side.

Each clip has its channels put into a random order, its contrast and brightness changed, as a whole.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from robot_wm.data.frames import in_pieces


@dataclass(frozen=True)
class Looks:
    """How each clip of a batch is changed: the order of its colours, gain, shift, and whether it is mirrored."""

    order_B3: Tensor
    gain_B3: Tensor
    shift_B3: Tensor
    mirrored_B: Tensor

    @classmethod
    def draw(cls, size: int, generator: torch.Generator) -> "Looks":
        order = torch.rand(size, 3, generator=generator).argsort(dim=1)
        gain = 0.7 + 0.6 * torch.rand(size, 3, generator=generator)
        shift = 60 * torch.rand(size, 3, generator=generator) - 30
        return cls(order, gain, shift, torch.rand(size, generator=generator) < 0.5)

    def part(self, number: int, of: int) -> "Looks":
        """Those of one of so many equal parts of the batch."""
        return Looks(*(values.chunk(of)[number] for values in vars(self).values()))


@dataclass(frozen=True)
class Mirror:
    """Mirrors some clips of a batch, left and right.

    Attributes:
        mirrored_B: which clips; on the device of what is mirrored.
    """

    mirrored_B: Tensor

    def image(self, values_BTYX: Tensor) -> Tensor:
        """Values over the picture, (B, T, Y, X, ...)."""
        return self._choose(values_BTYX.flip(3), values_BTYX)

    def vectors(self, vectors: Tensor) -> Tensor:
        """Displacements (right, down) in the last dimension."""
        return self._choose(vectors * vectors.new_tensor([-1, 1]), vectors)

    def moments(self, moments: Tensor) -> Tensor:
        """A displacement and a place, both (right, down)."""
        return self._choose(moments * moments.new_tensor([-1, 1, -1, 1]), moments)

    def places(self, places: Tensor, centre: float) -> Tensor:
        """Standardised positions (right, down, ahead); `centre` is what the mean was before it was subtracted."""
        turned = places * places.new_tensor([-1, 1, 1]) - places.new_tensor([2 * centre, 0, 0])
        return self._choose(turned, places)

    def _choose(self, turned: Tensor, values: Tensor) -> Tensor:
        return torch.where(self.mirrored_B.reshape(-1, *[1] * (values.dim() - 1)), turned, values)


def change(frames_BTYXC: Tensor, looks: Looks) -> Tensor:
    """Frames recoloured and mirrored as drawn: the same bytes on every device."""
    if frames_BTYXC.device.type == "cpu":
        return _change_on_host(frames_BTYXC, looks)
    device, spread = frames_BTYXC.device, (slice(None), None, None, None)
    order, gain, shift = (x.to(device) for x in (looks.order_B3, looks.gain_B3, looks.shift_B3))
    shuffled = frames_BTYXC.gather(-1, order[:, None, None, None].expand(frames_BTYXC.shape))
    recoloured = (shuffled * gain[spread] + shift[spread]).clamp(0, 255).to(torch.uint8)
    return Mirror(looks.mirrored_B.to(device)).image(recoloured)


def _change_on_host(frames_BTYXC: Tensor, looks: Looks) -> Tensor:
    """By tables of the 256 levels, clip by clip: several times as fast as arithmetic on every pixel."""
    levels = torch.arange(256, dtype=torch.float32)[None, :, None]
    tables = (levels * looks.gain_B3[:, None] + looks.shift_B3[:, None]).clamp(0, 255).to(torch.uint8)
    tables_B = tables[:, :, None].numpy()
    orders, mirrored, width = looks.order_B3.tolist(), looks.mirrored_B.tolist(), frames_BTYXC.shape[3]
    source, out = frames_BTYXC.numpy(), np.empty(tuple(frames_BTYXC.shape), np.uint8)

    def work(clips: slice) -> None:
        for clip in range(clips.start, clips.stop):
            image, changed = source[clip].reshape(-1, width, 3), out[clip].reshape(-1, width, 3)
            channels = [pair for target, origin in enumerate(orders[clip]) for pair in (origin, target)]
            cv2.mixChannels([image], [changed], channels)
            cv2.LUT(changed, tables_B[clip], changed)
            if mirrored[clip]:
                cv2.flip(changed, 1, changed)

    in_pieces(work, len(source), source.nbytes * 8)  # a byte here costs as much as eight that are only copied
    return torch.from_numpy(out)
