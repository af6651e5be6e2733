"""Ways to get windows of frames: the cached loader, the bare copy that limits it, and a plain PyAV loop."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from robot_wm.data import video
from robot_wm.data.loader import ClipSet
from robot_wm.data.pack import Pack

CORES, WINDOW, FPS, CELLS = 2, 4, 5.0, 16
Windows = Callable[[], int]


def film_of(episodes: int, length: int, height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """(E, T, Y, X, C): discs that cross a soft, slightly grainy background."""
    random, scale = np.random.default_rng(seed), height / 64
    film = np.empty((episodes, length, height, width, 3), np.uint8)
    for clip in film:
        coarse = random.integers(40, 200, (6, 6, 3), dtype=np.uint8)
        ground = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        ground = cv2.add(ground, random.integers(0, 12, ground.shape, dtype=np.uint8))
        places, steps = random.uniform(0, 64, (3, 2)), random.uniform(-2, 2, (3, 2))
        colours = random.integers(0, 256, (3, 3)).tolist()
        for time_step, image in enumerate(clip):
            image[:] = ground
            for place, step, colour in zip(places, steps, colours, strict=True):
                x, y = ((place + step * time_step) % 64 * scale).astype(int).tolist()
                cv2.circle(image, (x * width // height, y), int(8 * scale), colour, -1)
    return film


def mapped(film_ETYXC: NDArray[np.uint8], num_bytes: int, path: Path) -> Pack:
    """The film as a pack's mapped frames, over and over: what is read must not fit into the processor's caches."""
    episodes, length = film_ETYXC.shape[:2]
    times = max(1, num_bytes // film_ETYXC.nbytes)
    frames = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.uint8, shape=(times * episodes * length, *film_ETYXC.shape[2:])
    )
    for first in range(0, len(frames), episodes * length):
        frames[first : first + episodes * length] = film_ETYXC.reshape(-1, *film_ETYXC.shape[2:])
    frames.flush()
    starts = np.arange(0, len(frames) + 1, length)
    valid = np.ones(len(frames), np.bool_)
    valid[starts[1:] - 1] = False
    return Pack(
        np.load(path, mmap_mode="c", allow_pickle=False),
        np.zeros((len(frames), 0, 0, 2), np.float16),
        np.zeros((len(frames), 4), np.float32),
        {},
        np.repeat(np.arange(times * episodes, dtype=np.int32), length),
        valid,
        starts,
        1 / FPS,
        1,
    )


def with_flow(pack: Pack) -> Pack:
    flow = np.random.default_rng(0).normal(size=(len(pack.valid_F), CELLS, CELLS, 2)).astype(np.float16)
    return replace(pack, flow_F=flow)


def bare(pack: Pack, batch: int) -> dict[str, Windows]:
    """The same bytes copied to one and the same buffer by the fastest ways there are; their best is the limit."""
    frames, threads = pack.frames_FYXC, ThreadPoolExecutor(CORES)
    random, last = np.random.default_rng(0), len(pack.starts) - 1
    out = np.empty((batch * WINDOW, *frames.shape[1:]), np.uint8)
    words, words_out = (torch.from_numpy(np.asarray(a)).view(len(a), -1).view(torch.int64) for a in (frames, out))
    length = int(pack.starts[1])

    def index() -> NDArray[np.int64]:
        first = pack.starts[random.integers(0, last, batch)] + random.integers(0, length - WINDOW + 1, batch)
        return (np.sort(first)[:, None] + np.arange(WINDOW)).ravel()

    def alone() -> int:
        np.take(frames, index(), axis=0, out=out, mode="clip")
        return batch

    def shared() -> int:
        rows, half = index(), len(out) // 2
        parts = (slice(0, half), slice(half, None))
        list(threads.map(lambda p: np.take(frames, rows[p], axis=0, out=out[p], mode="clip"), parts))
        return batch

    def selected() -> int:
        torch.index_select(words, 0, torch.from_numpy(index()), out=words_out)
        return batch

    return {"bare: numpy": alone, "bare: numpy, two threads": shared, "bare: torch": selected}


def loader(pack: Pack, batch: int) -> Windows:
    clips = ClipSet([pack], WINDOW, "cpu", [np.ones(len(pack.valid_F), np.bool_)])
    generator = torch.Generator().manual_seed(0)
    return lambda: len(clips.batch(batch, generator, augment=False).frames_BTYXC)


def pyav(film_ETYXC: NDArray[np.uint8], folder: Path) -> Windows:
    """A plain loop in two threads: seek to a random window, decode four frames. Files stay open."""
    folder.mkdir()
    for episode, frames in enumerate(film_ETYXC):
        video.encode(folder / f"{episode}.mp4", frames, FPS)
    threads, length = ThreadPoolExecutor(CORES), film_ETYXC.shape[1]
    readers = [_Reader(folder, len(film_ETYXC), length, seed) for seed in range(CORES)]
    return lambda: sum(threads.map(lambda reader: reader.windows(8), readers))


class _Reader:
    def __init__(self, folder: Path, episodes: int, length: int, seed: int):
        self._random, self._length = np.random.default_rng(seed), length
        self._containers = [av.open(str(folder / f"{episode}.mp4")) for episode in range(episodes)]
        for container in self._containers:
            container.streams.video[0].codec_context.thread_count = 1

    def windows(self, num: int) -> int:
        for _ in range(num):
            container = self._containers[self._random.integers(len(self._containers))]
            first_s = float(self._random.integers(self._length - WINDOW + 1)) / FPS
            stream, frames = container.streams.video[0], []
            container.seek(round(first_s / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if frame.time > first_s - 1e-3:
                    frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == WINDOW:
                    break
            np.stack(frames)
        return num
