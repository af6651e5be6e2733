"""Clips in other colours and in the mirror: what a body looks like, and on which side, says nothing of how it moves."""

from dataclasses import dataclass

import torch
from torch import Tensor


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


def recolour(frames_BTYXC: Tensor, looks: Looks) -> Tensor:
    """A random order of the colour channels, contrast and brightness per clip: bodies differ in colour first of all."""
    order, gain, shift = (x.to(frames_BTYXC.device) for x in (looks.order_B3, looks.gain_B3, looks.shift_B3))
    shuffled = frames_BTYXC.gather(-1, order[:, None, None, None].expand(frames_BTYXC.shape))
    spread = (slice(None), None, None, None)
    return (shuffled * gain[spread] + shift[spread]).clamp(0, 255).to(torch.uint8)
