"""The simulator: bodies and environments, how fast they step, draw and are recorded, and how that scales."""

import contextlib
import importlib
import io
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.utils.env_checker import check_env

import sims.env
from deploy.bench.bench import BenchConfig
from deploy.bench.result import Row
from deploy.bench.vector_environments import vector_environments
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import read_run
from robot_wm.data.lerobot_files import Format, write_file
from sims import catalog, robots, scenes, sheet
from sims.filming import SceneVideo, play
from sims.render import make_current
from sims.stages.record import RecordConfig, cores, record

_SCALING, _BARE, _GPU_FRAMES_S = 0.9, 0.85, 10_000.0  # targets
_PX, _FRAMES = 64, 16
_LIMIT = "counting, which needs no memory: the machine's own limit"
_SOFTWARE = ("llvmpipe", "softpipe", "swrast")


@dataclass(frozen=True)
class _Amount:
    """Rounds of each measurement and their length, scenes filmed, model steps of Fetch logged, environments drawn."""

    rounds: int
    round_s: float
    episodes: int
    transitions: int
    per_episode: int
    with_pixels: tuple[bool, ...]


_AMOUNTS = {
    "quick": _Amount(5, 0.3, 48, 48, 4, (False,)),
    "full": _Amount(9, 1.0, 3200, 500, 25, (False, True)),
}


def simulators(config: BenchConfig) -> list[Row]:
    """Bodies and environments, then rates: of one process, of one per core, and of recordings beside the bare loop."""
    amount, renderer = _AMOUNTS[config.size], _gl_renderer()
    software = any(name in renderer for name in _SOFTWARE)
    rows = [*_bodies(), *_environments(), *_rates(amount, software)]
    for pixels in amount.with_pixels:
        rows += vector_environments(amount.round_s, amount.rounds, pixels)
    rows += _undrawn(amount)
    with tempfile.TemporaryDirectory(prefix="bench-sims-") as folder:
        fetch = {"embodiment": catalog.find("fetch"), "transitions": amount.transitions}
        recordings: list[tuple[str, dict[str, Any]]] = [
            ("Fetch, 96 px", {**fetch, "transitions_per_episode": amount.per_episode}),
            (f"arms, {_PX} px", {"episodes": amount.episodes}),
        ]
        if config.size == "full":
            recordings += [
                (f"arms, {_PX} px, 2 cameras", {"episodes": amount.episodes, "cameras": 2}),
                ("arms, 96 px", {"episodes": amount.episodes, "size": 96}),
            ]
        for name, values in recordings:
            path = record(RecordConfig(out=folder, seed=config.seed, size=values.pop("size", _PX), **values))
            rows += _recorded(name, read_run(path, "record").metrics, software)
    if software:
        rows.append(Row(f"recorded per GPU, arms, {_PX} px: no GPU here", None, "frames/s", target=_GPU_FRAMES_S))
    return [replace(row, metric=f"{row.metric} [{renderer}]") if "drawn in" in row.metric else row for row in rows]


def _gl_renderer() -> str:
    make_current()
    opengl = importlib.import_module("OpenGL.GL")  # not before a platform is chosen
    return str(opengl.glGetString(opengl.GL_RENDERER).decode()).partition(" (")[0]


def _bodies() -> list[Row]:
    known = catalog.named()
    missing = set(known)
    for name in known:
        with contextlib.suppress(UserError), robots.load(name):  # one whose package is not installed counts as missing
            missing.remove(name)
    without = f" (not installed: {', '.join(sorted(missing))})" if missing else ""
    return [Row(f"named bodies that load{without}", len(known) - len(missing), n=len(known), target=len(known))]


def _environments() -> list[Row]:
    passed, known = 0, [name for name in gymnasium.registry if name.startswith(f"{sims.env.NAMESPACE}/")]
    for name in known:
        with contextlib.suppress(Exception), warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            env = gymnasium.make(name, pixels=True, render_mode="rgb_array")
            try:
                check_env(env.unwrapped, skip_render_check=True)
                passed += 1
            finally:
                env.close()
    return [Row("environments that pass check_env", passed, n=len(known), target=len(known))]


def _rates(amount: _Amount, software: bool) -> list[Row]:
    """Every work by one process alone and by one per core, in turn, all at the same scene: arms cost unlike much.

    Scaling is counted in processor time where software draws: what else the machine does then counts for nothing, and
    what the processes take from each other (caches, memory, hyperthreads) does.
    """
    num = cores()
    os.environ.setdefault("LP_NUM_THREADS", "0")
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(num), context.Queue()
    pool = [context.Process(target=_work, args=(index, amount, barrier, results), daemon=True) for index in range(num)]
    try:
        for process in pool:
            process.start()
        found = [results.get(timeout=600) for _ in pool]
        for process in pool:
            process.join(timeout=60)
    finally:
        for process in pool:
            process.kill()
    rows = []
    for name, unit in _WORKS:
        [alone] = [rates[name][0] for rates in found if rates[name][0]]
        rounds = list(zip(*(rates[name][1] for rates in found), strict=True))
        on_gpu = "drawn in" in name and not software  # one GPU is shared by all, and waiting for it counts
        kind, target = (0, None) if on_gpu else (1, None if name == _LIMIT else _SCALING)
        share = [statistics.mean(r[kind] for r in all_) / one[kind] for all_, one in zip(rounds, alone, strict=True)]
        single, together = (
            statistics.median(v) for v in ([a[0] for a in alone], [sum(r[0] for r in all_) for all_ in rounds])
        )
        rows.append(Row(f"{name}, one process", single, unit, n=amount.rounds))
        rows.append(Row(f"{name}, {num} processes", together, unit, n=amount.rounds))
        rows.append(Row(f"{name}, share of linear scaling", statistics.median(share), n=amount.rounds, target=target))
    return rows


def _work(index: int, amount: _Amount, barrier: Any, results: Any) -> None:
    found = {}
    for (name, _), begin in _WORKS.items():
        once, count = begin()
        once()
        alone, together = [], []
        for _ in range(amount.rounds):
            barrier.wait()
            if index == 0:
                alone.append(_rate(once, count, amount.round_s))
            barrier.wait()
            together.append(_rate(once, count, amount.round_s))
        found[name] = (alone, together)
    results.put(found)


def _rate(once: Callable[[], object], count: int, seconds: float) -> tuple[float, float]:
    """Per second of the clock, and per second of processor time."""
    calls, started_s, busy_s = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started_s < seconds:
        once()
        calls += 1
    done = calls * count
    return done / (time.perf_counter() - started_s), done / (time.process_time() - busy_s)


def _undrawn(amount: _Amount) -> list[Row]:
    """What a recorded frame costs besides drawing it: frames per second of processor time, by one process."""
    blank = np.full((_FRAMES, _PX, _PX, 3), 128, np.uint8)
    source = SceneVideo(0, _PX, 0.2, draw=lambda model, cameras, qpos_FQ, depths: [blank])
    rates = []
    for number in range(amount.rounds):
        episodes = range(8 * number, 8 * number + 8)
        with tempfile.TemporaryDirectory(prefix="bench-sims-") as folder:
            started_s = time.process_time()
            found = (source.episode(index, _FRAMES) for index in episodes)
            tasks = dict.fromkeys(source.tasks, 0)
            write_file(Path(folder), Format(source.fps, source.features), 0, found, (0, 0), tasks)
            rates.append(len(episodes) * _FRAMES / (time.process_time() - started_s))
    name = "arms recorded but for drawing, one process, per second of processor time"
    return [Row(name, statistics.median(rates), "frames/s", n=amount.rounds)]


def _counting() -> tuple[Callable[[], object], int]:
    return lambda: sum(range(100_000)), 1


def _stepping() -> tuple[Callable[[], object], int]:
    scene = scenes.sample(0, _PX)
    data = mujoco.MjData(scene.model)
    return lambda: mujoco.mj_step(scene.model, data, nstep=100), 100


def _playing() -> tuple[Callable[[], object], int]:
    scene = scenes.sample(0, _PX)
    return lambda: play(scene, np.random.default_rng(0), _FRAMES, 0.2), _FRAMES


def _drawing_arms() -> tuple[Callable[[], object], int]:
    seed = 0
    while (take := play(scene := scenes.sample(seed, _PX, 1), np.random.default_rng(0), _FRAMES, 0.2)) is None:
        seed += 1
    qpos_FQ = take.qpos_FQ
    return lambda: sheet.draw(scene.model, scene.cameras, qpos_FQ), _FRAMES


def _drawing_fetch() -> tuple[Callable[[], object], int]:
    simulation = robots.load("fetch", 0)
    return simulation.frame, 1


_WORKS: dict[tuple[str, str], Callable[[], tuple[Callable[[], object], int]]] = {
    (_LIMIT, "1/s"): _counting,
    ("physics of an arm", "steps/s"): _stepping,
    ("arms set in motion, not drawn", "frames/s"): _playing,
    (f"arms drawn in a bare loop, {_PX} px", "frames/s"): _drawing_arms,
    ("Fetch drawn in a bare loop, 96 px", "frames/s"): _drawing_fetch,
}


def _recorded(name: str, metrics: dict[str, Any], software: bool) -> list[Row]:
    """`reference` is what the same renderers would draw in a bare loop, from the time that drawing took."""
    rate, bare, share = (metrics[key] for key in ("frames_per_s", "bare_frames_per_s", "bare_share"))
    fetch = name.startswith("Fetch")
    return [
        Row(
            f"recorded, encoding included: {name}", rate, "frames/s", reference=bare,
            target=None if fetch or software else _GPU_FRAMES_S,
        ),
        Row(f"share of the bare loop: {name}", share, target=_BARE if fetch and software else None),
    ]  # fmt: skip
