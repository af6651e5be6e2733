"""Rows of many memory-mapped arrays gathered into batches: where they lie, or from a copy on the accelerator."""

import os
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_PIECE_BYTES = 1 << 21  # gathering less than this at a time is not worth a thread
_UPLOAD_BYTES = 1 << 28
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_threads = ThreadPoolExecutor(max(1, _CORES - 1), thread_name_prefix="gather")


class Rows:
    """Arrays of equal rows, numbered through, left where they are: nothing is copied but what is asked for."""

    def __init__(self, arrays: Sequence[NDArray[Any]]):
        self._arrays = arrays
        self._offsets = np.cumsum([0] + [len(array) for array in arrays])
        self.shape, self.dtype = tuple(arrays[0].shape[1:]), np.dtype(arrays[0].dtype)
        self.row_bytes = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        self._buffers = Buffers()

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def begin(self, index_N: NDArray[np.int64], pinned: bool = False) -> tuple[Tensor, Callable[[], None]]:
        """Memory that no living tensor shares, for the given rows (N, ...), and what fills it if it is called.

        Many rows are copied by other threads in the meantime. `pinned`: memory that can be sent to a GPU in passing.
        """
        shape = (len(index_N), *self.shape)
        if pinned:
            tensor = torch.empty(shape, dtype=_torch_dtype(self.dtype), pin_memory=True)
            out_N = tensor.numpy()
        else:
            out_N = self._buffers.lend(shape, self.dtype)
            tensor = torch.from_numpy(out_N)
        if not out_N.nbytes:
            return tensor, lambda: None
        return tensor, begin(lambda span: self._take(index_N[span], out_N[span]), len(index_N), out_N.nbytes)

    def take(self, index_N: NDArray[np.int64]) -> Tensor:
        """The given rows, (N, ...)."""
        tensor, finish = self.begin(index_N)
        finish()
        return tensor

    def _take(self, index_N: NDArray[np.int64], out_N: NDArray[Any]) -> None:
        """Runs of rows from one array are taken at once; `clip` spares numpy a buffer, all rows being in range."""
        owner_N = np.searchsorted(self._offsets, index_N, side="right") - 1
        cuts = np.flatnonzero(np.diff(owner_N)) + 1
        for first, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(index_N)], strict=True):
            if first < end:
                owner = owner_N[first]
                rows = index_N[first:end] - self._offsets[owner]
                np.take(self._arrays[owner], rows, axis=0, out=out_N[first:end], mode="clip")

    def upload(self, device: torch.device) -> "DeviceRows":
        """All rows on the device, copied piece by piece."""
        words = _words(self.row_bytes)
        rows = torch.empty((len(self), self.row_bytes // words.itemsize), dtype=words, device=device)
        step = max(1, _UPLOAD_BYTES // max(1, self.row_bytes))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            for array, offset in zip(self._arrays, self._offsets[:-1], strict=True):
                for first in range(0, len(array), step):
                    piece = np.ascontiguousarray(array[first : first + step])
                    source = torch.from_numpy(piece).reshape(len(piece), -1).view(torch.uint8).view(words)
                    rows[offset + first : offset + first + len(piece)].copy_(source)
        return DeviceRows(rows, self.shape, _torch_dtype(self.dtype))


def begin(work: Callable[[slice], None], num: int, num_bytes: int) -> Callable[[], None]:
    """Start the work on `num` items in other threads, in pieces; what is returned ends it, and helps.

    Little work is left to the caller as a whole: waking a thread would take longer.
    """
    pieces = min(2 * _CORES, num_bytes // _PIECE_BYTES) if _CORES > 1 else 0
    if pieces < 2:
        return lambda: work(slice(0, num))
    bounds = [round(num * piece / pieces) for piece in range(pieces + 1)]
    started = [(_threads.submit(work, slice(a, b)), slice(a, b)) for a, b in pairwise(bounds)]

    def finish() -> None:
        for piece, span in reversed(started):
            if piece.cancel():  # nobody has begun it
                work(span)
        for piece, _ in started:
            if not piece.cancelled():
                piece.result()

    return finish


def in_pieces(work: Callable[[slice], None], num: int, num_bytes: int) -> None:
    """Do the work on all of `num` items, shared with other threads if it is much."""
    begin(work, num, num_bytes)()


class DeviceRows:
    """The same on an accelerator, as machine words: gathering them byte by byte would take eight times as long."""

    def __init__(self, words: Tensor, shape: tuple[int, ...], dtype: torch.dtype):
        self._words, self._shape, self._dtype = words, shape, dtype

    def take(self, index_N: Tensor) -> Tensor:
        """The given rows (N, ...), on the same device."""
        return self._words.index_select(0, index_N).view(self._dtype).reshape(len(index_N), *self._shape)


class Buffers:
    """Memory that is lent out and comes back when the last tensor over it is gone.

    Fresh memory for every batch costs as much as filling it: the kernel hands it out zeroed, page by page.
    """

    def __init__(self) -> None:
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=4)

    def lend(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array of any content, of which nobody else holds a view."""
        needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if not needed:
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


def divided(values_B: Tensor, by_B: Tensor, buffers: Buffers) -> Tensor:
    """Each entry divided, in float32. On the CPU in small pieces, which torch does not share out among its threads."""
    by_B = by_B.reshape(-1, *[1] * (values_B.dim() - 1))
    if values_B.device.type != "cpu" or not values_B.numel():
        return values_B.float() / by_B.to(values_B.device)
    out_B = torch.from_numpy(buffers.lend(tuple(values_B.shape), np.dtype(np.float32)))
    size = max(1, (1 << 15) * len(values_B) // max(1, values_B.numel()))

    def work(clips: slice) -> None:
        for first in range(clips.start, clips.stop, size):
            piece = slice(first, min(first + size, clips.stop))
            out_B[piece].copy_(values_B[piece]).div_(by_B[piece])

    in_pieces(work, len(values_B), out_B.nbytes * 4)
    return out_B


def _words(row_bytes: int) -> torch.dtype:
    return next(w for w in (torch.int64, torch.int32, torch.int16, torch.uint8) if row_bytes % w.itemsize == 0)


def _torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype
