"""Everything random about a batch: which windows of which dataset and camera, and how each clip is changed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot_wm.data.augment import Looks
from robot_wm.data.pack import Pack
from robot_wm.data.windows import windows

Share = tuple[int, int]  # which of how many equal parts of a batch, in its order: (0, 1) is all of it


@dataclass(frozen=True)
class Request:
    """A batch: how many clips, whether changed, whether each moment is wanted twice, and which share of it is."""

    size: int
    augment: bool
    pair: bool
    share: Share = (0, 1)


@dataclass(frozen=True)
class Draw:
    """First frames (B,) of the clips, ascending, and how they are changed: once, or twice for pairs."""

    starts: tuple[Tensor, ...]
    looks: tuple[Looks | None, ...]

    def part(self, number: int, of: int) -> "Draw":
        """One of so many equal parts, in order."""
        if of == 1:
            return self
        looks = tuple(each and each.part(number, of) for each in self.looks)
        return Draw(tuple(starts.chunk(of)[number] for starts in self.starts), looks)


class Draws:
    """The windows of several datasets, of each of which there is a pack per camera; frames are numbered through.

    Attributes:
        starts: (W,) first frame of each window, ascending.
        counts: (S,) how many windows each dataset has.
        weights: (S,) share of each dataset, in any unit; None: by its windows.
    """

    def __init__(self, views: Sequence[Sequence[Pack]], length: int, weights: Sequence[float] | None):
        """`weights` is the share of each dataset in a batch, in any unit; by its number of windows if None."""
        for packs in views:
            if any(not np.array_equal(p.starts, packs[0].starts) for p in packs):
                raise ValueError(f"cameras {[p.camera for p in packs]} do not show the same moments")
        packs = [pack for packs in views for pack in packs]
        offsets = np.cumsum([0] + [len(p.frames_FYXC) for p in packs])
        found = [windows(p, length) + offset for p, offset in zip(packs, offsets[:-1], strict=True)]
        self._offsets = torch.as_tensor(offsets)  # (P + 1,)
        self._num_views = torch.as_tensor([len(packs) for packs in views])
        self._first_pack = self._num_views.cumsum(0) - self._num_views
        self.weights = None if weights is None else torch.as_tensor(weights, dtype=torch.float64)
        self._restrict(torch.as_tensor(np.concatenate(found)))

    def _restrict(self, starts: Tensor) -> None:
        self.starts = starts
        self._first_window = torch.searchsorted(starts, self._offsets[self._first_pack])
        self.counts = torch.cat([self._first_window[1:], torch.tensor([len(starts)])]) - self._first_window

    def keep(self, chosen_F: NDArray[np.bool_]) -> "Draws":
        """The same, restricted to the windows that start on the chosen frames (F,)."""
        part = object.__new__(Draws)
        part.__dict__.update(self.__dict__)
        part._restrict(self.starts[torch.as_tensor(chosen_F)[self.starts]])
        return part

    def draw(self, request: Request, generator: torch.Generator) -> Draw:
        """The draw of a request; the clips are the same whether they are changed or not."""
        size = request.size
        if self.weights is None:
            chosen = torch.randint(len(self.starts), (size,), generator=generator)
        else:
            source = torch.multinomial(self.weights * (self.counts > 0), size, replacement=True, generator=generator)
            within = torch.rand(size, generator=generator, dtype=torch.float64) * self.counts[source]
            chosen = self._first_window[source] + within.long()
        # In the order of the files, which are then read forwards; by numpy, which takes a third as long for so few.
        first = torch.from_numpy(self.starts.numpy()[np.sort(chosen.numpy())])
        starts: tuple[Tensor, ...] = (first,)
        if request.pair:
            starts += (self._elsewhere(first, torch.rand(size, generator=generator, dtype=torch.float64)),)
        if not request.augment:
            return Draw(starts, (None,) * len(starts)).part(*request.share)
        looks = [Looks.draw(size, generator) for _ in starts]
        turned = tuple(replace(each, mirrored_B=looks[0].mirrored_B) for each in looks)
        return Draw(starts, turned).part(*request.share)

    def pack(self, starts_B: Tensor) -> Tensor:
        """Number of the pack (dataset and camera) that each window is of."""
        return torch.from_numpy(np.searchsorted(self._offsets.numpy(), starts_B.numpy(), side="right") - 1)

    def _elsewhere(self, starts_B: Tensor, chance_B: Tensor) -> Tensor:
        """The same moments in another camera of the same dataset, if it has one."""
        pack = self.pack(starts_B)
        source = torch.searchsorted(self._first_pack, pack, right=True) - 1
        first, num = self._first_pack[source], self._num_views[source]
        step = 1 + (chance_B * (num - 1)).long()
        return starts_B - self._offsets[pack] + self._offsets[first + (pack - first + step) % num]
