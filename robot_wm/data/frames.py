"""Windows of many memory-mapped arrays gathered into batches: where they lie, or from a copy on the accelerator."""

import math
import os
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_UPLOAD_BYTES = 1 << 28
_PIECE_BYTES = 1 << 20  # copying less than this at a time is not worth a thread
_PIECES, _COPIES = 2, 8  # per core, at most; of mere copies: who comes late, or is disturbed, takes fewer of them
_SMALL_BYTES = 1 << 17  # as little as this comes from a heap that keeps it
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_threads = ThreadPoolExecutor(max(1, _CORES - 1), thread_name_prefix="gather")
_ALONE = 1 << 15  # entries: torch shares out what is larger among threads, which wait for each other


class Rows:
    """Arrays of equal rows, numbered through, left where they are: nothing is copied but what is asked for."""

    def __init__(self, arrays: Sequence[NDArray[Any]]):
        self._arrays = [np.asarray(array) for array in arrays]  # a memmap says at every view what it is of
        self.offsets = np.cumsum([0] + [len(array) for array in arrays])
        self.shape, self.dtype = tuple(arrays[0].shape[1:]), np.dtype(arrays[0].dtype)
        self.row_bytes = math.prod(self.shape) * self.dtype.itemsize
        self._buffers = Buffers()

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def taking(self, places: "Places", length: int, pinned: bool = False) -> Callable[[], Tensor]:
        """Begin to gather windows of so many rows, (B, length, ...), in memory that no living tensor shares.

        Other threads work on it from now on; what is returned is to be called, takes its own share, and gives them.
        `pinned`: memory that can be sent to a GPU in passing.
        """
        shape = (len(places.rows_BT), length, *self.shape)
        if pinned:
            tensor = torch.empty(shape, dtype=_torch_dtype(self.dtype), pin_memory=True)
            out_BT = tensor.numpy()
        else:
            out_BT = self._buffers.lend(shape, self.dtype)
            tensor = torch.from_numpy(out_BT)
        rows_BT = places.rows_BT[:, :length]
        finish = _begin(
            lambda span: self._copy(places.runs, rows_BT, span, out_BT), len(out_BT), out_BT.nbytes, _COPIES
        )

        def taken() -> Tensor:
            finish()
            return tensor

        return taken

    def _copy(
        self, runs: list[tuple[int, slice]], rows_BT: NDArray[np.int64], span: slice, out_BT: NDArray[Any]
    ) -> None:
        """Some of the windows; `clip` spares numpy a buffer, all rows being in range."""
        for array, run in runs:
            first, end = max(run.start, span.start), min(run.stop, span.stop)
            if first < end:
                out = out_BT[first:end].reshape(-1, *self.shape)
                self._arrays[array].take(rows_BT[first:end].ravel(), axis=0, out=out, mode="clip")

    def upload(self, device: torch.device) -> "DeviceRows":
        """All rows on the device, copied piece by piece."""
        words = _words(self.row_bytes)
        rows = torch.empty((len(self), self.row_bytes // words.itemsize), dtype=words, device=device)
        step = max(1, _UPLOAD_BYTES // max(1, self.row_bytes))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            for array, offset in zip(self._arrays, self.offsets[:-1], strict=True):
                for first in range(0, len(array), step):
                    piece = np.ascontiguousarray(array[first : first + step])
                    source = torch.from_numpy(piece).reshape(len(piece), -1).view(torch.uint8).view(words)
                    rows[offset + first : offset + first + len(piece)].copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # batches are made in a stream of their own
        return DeviceRows(rows, self.shape, _torch_dtype(self.dtype))


@dataclass(frozen=True)
class Places:
    """Where B windows of T rows lie that are numbered through many arrays.

    Attributes:
        rows_BT: their rows, within their array.
        runs: consecutive windows of one array: its number, and which windows.
    """

    rows_BT: NDArray[np.int64]
    runs: list[tuple[int, slice]]

    @classmethod
    def find(cls, offsets: NDArray[np.int64], starts_B: NDArray[np.int64], length: int) -> "Places":
        """Of windows that start on the given rows; `offsets` are the first rows of the arrays, and their end.

        Numbered here, once: `arange` lets other threads have the interpreter, and waits until it gets it back.
        """
        first_B, runs = starts_B, [(0, slice(0, len(starts_B)))]
        if len(offsets) > 2:
            owner_B = np.searchsorted(offsets, starts_B, side="right") - 1
            cuts = [0, *(np.flatnonzero(np.diff(owner_B)) + 1).tolist(), len(starts_B)]
            runs = [(int(owner_B[a]), slice(a, b)) for a, b in pairwise(cuts) if a < b]
            first_B = starts_B - offsets[owner_B]
        return cls(first_B[:, None] + np.arange(length), runs)


class DeviceRows:
    """The same on an accelerator, as machine words: gathering them byte by byte would take eight times as long."""

    def __init__(self, words: Tensor, shape: tuple[int, ...], dtype: torch.dtype):
        self._words, self._shape, self._dtype = words, shape, dtype

    def take(self, index_BT: Tensor) -> Tensor:
        """The given rows (B, T, ...), on the same device."""
        found = self._words.index_select(0, index_BT.reshape(-1)).view(self._dtype)
        return found.reshape(*index_BT.shape, *self._shape)


class Buffers:
    """Memory that is lent out and comes back when the last tensor over it is gone.

    Fresh memory for every batch costs as much as filling it: the kernel hands it out zeroed, page by page.
    """

    def __init__(self) -> None:
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=4)

    def lend(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array of any content, of which nobody else holds a view."""
        needed = math.prod(shape) * dtype.itemsize
        if needed < _SMALL_BYTES:
            return np.empty(shape, dtype)
        memory = None
        while self._free and memory is None:
            candidate = self._free.pop()  # the last one used, which may still be in the processor's cache
            memory = candidate if candidate.nbytes == needed else None
        if memory is None:
            memory = np.empty(needed, np.uint8)
        lent = np.frombuffer(memory.data, dtype)  # every view and tensor over it keeps its base alive
        weakref.finalize(lent.base, self._free.append, memory)
        return lent.reshape(shape)


def in_pieces(work: Callable[[slice], None], num: int, num_bytes: int) -> None:
    """Do the work on all of `num` items; if it is much, other threads take their share, piece by piece."""
    _begin(work, num, num_bytes)()


def _begin(work: Callable[[slice], None], num: int, num_bytes: int, per_core: int = _PIECES) -> Callable[[], None]:
    """Begin the work on all of `num` items; if it is much, in other threads, which take it piece by piece.

    What is returned does what is left, and comes back when all is done; little work is done by it alone.
    """
    pieces = min(per_core * _CORES, num_bytes // _PIECE_BYTES, num) if _CORES > 1 else 0
    if pieces < 2:
        return lambda: work(slice(0, num)) if num_bytes else None
    bounds = [round(num * piece / pieces) for piece in range(pieces + 1)]
    left = deque(slice(a, b) for a, b in pairwise(bounds))

    def share() -> None:
        while True:
            try:
                piece = left.popleft()
            except IndexError:
                return  # nothing is left
            work(piece)

    others = [_threads.submit(share) for _ in range(min(pieces, _CORES) - 1)]

    def finish() -> None:
        share()
        for other in others:
            if not other.cancel():  # it has begun
                other.result()

    return finish


def made_of(make: Callable[[slice], Tensor], values_B: Tensor, buffers: Buffers) -> Tensor:
    """What is made of some of the values, for all of them, in float32; on the CPU in pieces that are one thread's."""
    if values_B.device.type != "cpu" or not values_B.numel():
        return make(slice(None))
    out_B = torch.from_numpy(buffers.lend(tuple(values_B.shape), np.dtype(np.float32)))
    size = max(1, _ALONE * len(values_B) // values_B.numel())

    def work(clips: slice) -> None:
        for first in range(clips.start, clips.stop, size):
            piece = slice(first, min(first + size, clips.stop))
            out_B[piece].copy_(make(piece))

    in_pieces(work, len(values_B), out_B.nbytes * 4)
    return out_B


def _words(row_bytes: int) -> torch.dtype:
    return next(w for w in (torch.int64, torch.int32, torch.int16, torch.uint8) if row_bytes % w.itemsize == 0)


def _torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype
