"""How fast training is fed: windows per second beside the limit and beside others, and how fast the cache is built."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom

from deploy.bench import windows
from deploy.bench.bench import BenchConfig
from deploy.bench.building import building
from deploy.bench.peers import lance
from deploy.bench.result import Row
from deploy.bench.windows import CORES, FPS, WINDOW, Windows, film_of
from robot_wm import console

_SIZES, _BATCH = (64, 128, 224), 256  # [px], windows
_SHARE, _TIMES, _BUILD = 0.8, 2.0, 0.9  # targets: of a bare gather; over the Lance loader; of bare decoding
_VIDEOS = (("640 × 480 at 30 Hz", 480, 640, 30.0), ("64 × 64 at 5 Hz", 64, 64, FPS))


@dataclass(frozen=True)
class _Amount:
    """How much is measured: film, bytes of the set that windows are drawn from, rounds and their length."""

    episodes: int
    frames: int
    set_bytes: int
    rounds: int
    round_s: float
    builds: int


_AMOUNTS = {"quick": _Amount(8, 30, 150_000_000, 9, 0.06, 3), "full": _Amount(24, 60, 1_000_000_000, 15, 0.25, 5)}


def data(config: BenchConfig) -> list[Row]:
    """Windows of four frames per second at three sizes, and frames per second into the cache, all on two cores.

    In every round all methods run in turn, so that whatever else the machine does meets them alike; a share is that of
    its round. The Lance loader runs in its own environment, after the rounds, in `size=full` only.
    """
    amount, rows = _AMOUNTS[config.size], []
    with _two_cores(), tempfile.TemporaryDirectory(prefix="bench-data-") as folder:
        films = {size: film_of(amount.episodes, amount.frames, size, size, config.seed) for size in _SIZES}
        rates = {size: _loading(film, size, amount, Path(folder)) for size, film in films.items()}
        other = lance.measure(films, _BATCH, WINDOW, Path(folder)) if config.size == "full" else None
        for size, found in rates.items():
            rows += _loading_rows(size, found, other)
        for name, height, width, fps in _VIDEOS:
            path, episodes = Path(folder) / f"set{height}", amount.episodes // (1 if fps == FPS else 2)
            rows += _building_rows(name, building(height, width, fps, episodes, 2 * amount.frames, amount.builds, path))
    return rows


def median(values: list[float]) -> tuple[float, float, float]:
    """Median and its 95 % interval, from order statistics: no shape is assumed."""
    ordered, num = sorted(values), len(values)
    rank = max(0, int(binom.ppf(0.025, num, 0.5)) - 1)
    return float(np.median(ordered)), ordered[rank], ordered[num - 1 - rank]


def _loading(film_ETYXC: NDArray[np.uint8], size: int, amount: _Amount, folder: Path) -> dict[str, list[float]]:
    """Windows per second of every method, round by round."""
    pack = windows.mapped(film_ETYXC, amount.set_bytes, folder / f"{size}.npy")
    methods: dict[str, Windows] = {
        **windows.bare(pack, _BATCH),
        "loader": windows.loader(pack, _BATCH),
        "loader with flow": windows.loader(windows.with_flow(pack), _BATCH),
        "pyav": windows.pyav(film_ETYXC, folder / f"films{size}"),
    }
    rates: dict[str, list[float]] = {name: [] for name in methods}
    for _ in console.track(range(amount.rounds + 1), f"windows at {size} px"):
        for name, method in methods.items():
            rates[name].append(_rate(method, amount.round_s))
    (folder / f"{size}.npy").unlink()
    found = {name: values[1:] for name, values in rates.items()}  # the first round warms up
    limits = [found.pop(name) for name in list(found) if name.startswith("bare")]
    return found | {"bare": max(limits, key=lambda values: float(np.median(values)))}


def _rate(method: Windows, seconds: float) -> float:
    """Per second, over whole calls."""
    method()
    count, started_s = 0, time.perf_counter()
    while (passed_s := time.perf_counter() - started_s) < seconds:
        count += method()
    return count / passed_s


def _loading_rows(size: int, rates: dict[str, list[float]], other: lance.Found | None) -> list[Row]:
    name, bare = f"{size} px", median(rates["bare"])[0]
    share, flow = (
        [a / b for a, b in zip(rates[k], rates["bare"], strict=True)] for k in ("loader", "loader with flow")
    )
    rows = [
        _row(f"{name}: bare gather of the same bytes", rates["bare"], "windows/s"),
        _row(f"{name}: cached loader", rates["loader"], "windows/s", reference=bare),
        _row(f"{name}: cached loader, share of the bare gather", share, target=_SHARE),
        _row(f"{name}: cached loader with flow, share of the bare gather of frames", flow),
        _row(f"{name}: plain PyAV loop", rates["pyav"], "windows/s", reference=bare),
    ]
    if other is None:
        return rows
    if other.reason:
        return [*rows, Row(f"{name}: {lance.NAME}: {other.reason}", None, "windows/s")]
    times = median(rates["loader"])[0] / median(other.rates[size])[0]
    return [
        *rows,
        _row(f"{name}: {lance.NAME}", other.rates[size], "windows/s", reference=bare),
        Row(f"{name}: cached loader over {lance.NAME}", times, n=len(other.rates[size]), target=_TIMES),
    ]


def _building_rows(name: str, rates: dict[str, list[float]]) -> list[Row]:
    shares = {k: [a / b for a, b in zip(v, rates["decode"], strict=True)] for k, v in rates.items()}
    to_rgb = [a / b for a, b in zip(rates["cache"], rates["decode to RGB"], strict=True)]
    decode = median(rates["decode"])[0]
    return [
        _row(f"cache from {name}: bare decoding", rates["decode"], "frames/s"),
        _row(f"cache from {name}: building", rates["cache"], "frames/s", reference=decode),
        _row(f"cache from {name}: bare decoding to RGB", rates["decode to RGB"], "frames/s"),
        _row(f"cache from {name}: building, share of bare decoding", shares["cache"], target=_BUILD),
        _row(f"cache from {name}: building, share of bare decoding to RGB", to_rgb),
        _row(f"cache from {name}: building with flow, share of bare decoding", shares["cache with flow"]),
    ]


def _row(
    metric: str, values: list[float], unit: str = "1", reference: float | None = None, target: float | None = None
) -> Row:
    value, low, high = median(values)
    return Row(metric, value, unit, len(values), low, high, reference, target)


@contextmanager
def _two_cores() -> Iterator[None]:
    """This process and its children on two cores, torch and OpenCV included."""
    if not hasattr(os, "sched_setaffinity"):  # not Linux: all cores, for everybody alike
        yield
        return
    cores, torch_threads, cv2_threads = os.sched_getaffinity(0), torch.get_num_threads(), cv2.getNumThreads()
    os.sched_setaffinity(0, set(sorted(cores)[:CORES]))
    torch.set_num_threads(min(CORES, len(cores)))
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(torch_threads)
        cv2.setNumThreads(cv2_threads)
