"""How much of a training step is waiting for data: steps with the loader beside steps with a batch in hand."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from deploy.bench.bench import BenchConfig
from deploy.bench.data import median
from deploy.bench.result import Row
from deploy.bench.windows import film_of, mapped, with_flow
from robot_wm import console
from robot_wm.data.loader import Batch, ClipSet, Memory
from robot_wm.models.world_model import WorldModel, WorldModelConfig
from robot_wm.training.losses import LossConfig, pretraining_terms

_TARGET = 0.05  # share of the step


@dataclass(frozen=True)
class _Amount:
    """Sizes [px] with clips per step; frames per clip; bytes of the set; rounds, and steps in each."""

    batches: dict[int, int]
    clip_frames: int
    set_bytes: int
    rounds: int
    steps: int


_AMOUNTS = {
    "quick": _Amount({64: 16}, 6, 100_000_000, 5, 1),
    "full": _Amount({64: 192, 128: 96}, 8, 6_000_000_000, 9, 20),
}


def data_wait(config: BenchConfig) -> list[Row]:
    """Share of the step that data add, on the accelerator if there is one, by where the frames are kept.

    Batch in hand, frames on the accelerator and frames in the host's memory take turns, round by round. `size=full` is
    meant for a GPU. torch's profile of the steps goes to `<out>/bench/data-wait-<size>px-<memory>.txt`.
    """
    amount, rows = _AMOUNTS[config.size], []
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = Path(config.out) / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    for size, batch in amount.batches.items():
        with tempfile.TemporaryDirectory(prefix="bench-data-wait-", dir=folder) as scratch:
            rows += _rows(size, batch, amount, device, Path(scratch), folder)
    return rows


def _rows(size: int, batch: int, amount: _Amount, device: torch.device, scratch: Path, folder: Path) -> list[Row]:
    film = film_of(8, 40, size, size, 0)
    pack = with_flow(mapped(film, amount.set_bytes, scratch / "frames.npy"))
    pack = replace(pack, moments_F=np.random.default_rng(1).normal(size=(len(pack.valid_F), 4)).astype(np.float32))
    everywhere = [np.ones(len(pack.valid_F), np.bool_)]
    memories: tuple[Memory, ...] = ("device", "host") if device.type == "cuda" else ("host",)
    sets = {m: ClipSet([pack], amount.clip_frames, device, everywhere, memory=m) for m in memories}
    step = _training(size, device)
    generator = torch.Generator().manual_seed(0)
    ready = sets["host"].batch(batch, generator)
    sources: dict[str, Callable[[], Batch]] = {"in hand": lambda: ready}
    sources |= {m: lambda clips=clips: clips.batch(batch, generator) for m, clips in sets.items()}  # type: ignore[misc]
    times_s: dict[str, list[float]] = {name: [] for name in sources}
    for _ in console.track(range(amount.rounds + 1), f"steps at {size} px"):
        for name, source in sources.items():
            step(source())  # after a change of source nothing is prepared ahead
            step(source())
            started_s = time.perf_counter()
            for _ in range(amount.steps):
                step(source())
            times_s[name].append((time.perf_counter() - started_s) / amount.steps)
    times_s = {name: values[1:] for name, values in times_s.items()}  # the first round warms up
    for memory in memories:
        _profile(step, sources[memory], folder / f"data-wait-{size}px-{memory}.txt")
    what = f"{size} px, {batch} clips of {amount.clip_frames} frames"
    value, low, high = (1000 * v for v in median(times_s["in hand"]))
    rows = [Row(f"{what}: step with a batch in hand", value, "ms", amount.rounds, low, high)]
    for memory in memories:
        shares = [1 - a / b for a, b in zip(times_s["in hand"], times_s[memory], strict=True)]
        value, low, high = median(shares)
        place = "on the accelerator" if memory == "device" else "in the host's memory"
        name = f"{what}: share of the step that waits for data, frames {place}"
        rows.append(Row(name, value, "1", len(shares), low, high, None, _TARGET, "lower"))
    return rows


def _training(size: int, device: torch.device) -> Callable[[Batch], float]:
    """One step of pretraining as the loop does it; the loss is read at the end, so that steps do not overlap."""
    torch.manual_seed(0)
    default = WorldModelConfig()
    model = WorldModel(replace(default, encoder=replace(default.encoder, size=size))).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step(batch: Batch) -> float:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):  # a fast step waits sooner
            z_BTD = model.encode(batch.frames_BTYXC)
        loss = pretraining_terms(model, z_BTD.float(), batch, LossConfig())["total"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return step


def _profile(step: Callable[[Batch], float], source: Callable[[], Batch], path: Path, steps: int = 5) -> None:
    """torch's own account of a few steps, with what belongs to data and to training under names of their own."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    with profile(activities=activities) as found:
        for _ in range(steps):
            with record_function("data"):
                batch = source()
            with record_function("training"):
                step(batch)
    order = "cuda_time_total" if torch.cuda.is_available() else "cpu_time_total"
    path.write_text(found.key_averages().table(sort_by=order, row_limit=40))
