"""record: simulated bodies in motion, as a LeRobot v3 dataset."""

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from robot_wm import console
from robot_wm.contracts.dataset import HAND, OBJECT
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import open_run
from robot_wm.data.lerobot_writer import LeRobotWriter
from sims import gl, robots
from sims.recording import BodyLog, Episode, SceneVideo

_AHEAD = 4  # episodes per worker that may wait to be written
_MOVED_M = 0.02  # an object that travels further than this was pushed


@dataclass(frozen=True)
class RecordConfig:
    """What to record.

    Without an embodiment: video of procedural arms, one scene per episode, without actions. With one: its calibration
    log at the control rate, with actions.
    """

    name: str = "record"
    out: str = "runs"
    seed: int = 0
    workers: int = 0
    episodes: int = 600
    frames_per_episode: int = 16
    size: int = 64
    step_s: float = 0.2
    embodiment: Embodiment | None = None
    transitions: int = 500
    transitions_per_episode: int = 25

    def lengths(self) -> list[int]:
        """Frames (without an embodiment) or model steps (with one) of every episode."""
        if self.embodiment is None:
            return [self.frames_per_episode] * self.episodes
        whole, rest = divmod(self.transitions, self.transitions_per_episode)
        return [self.transitions_per_episode] * whole + ([rest] if rest else [])


def record(config: RecordConfig) -> Path:
    """Record a dataset; returns the run folder, which holds it under `dataset/`.

    An interrupted recording goes on after its last complete episode. Which process records an episode makes no
    difference to it.

    Raises:
        UserError: a count that is not positive, a body that does not load, or no OpenGL backend.
    """
    _check(config)
    gl.new_context().free()  # a machine that cannot render is refused before a run folder appears
    source = _source(config)
    same_data = replace(config, workers=0)  # how many processes share the work makes no other run of it
    inputs = robots.model_inputs(config.embodiment) if config.embodiment else {}
    with open_run(Path(config.out), "record", config.name, same_data, inputs) as run:
        if run.complete:
            console.say(f"already recorded: {run.path}")
            return run.path
        if run.resumed:
            console.say(f"resuming {run.path}")
        robot_type = config.embodiment.name if config.embodiment else "procedural"
        started_s = time.monotonic()
        with LeRobotWriter(run.path / "dataset", source.fps, source.features, robot_type) as writer:
            tally = _write(config, writer)
        seconds = time.monotonic() - started_s
        metrics = {"frames": sum(map(source.rows, config.lengths())), **tally.metrics(seconds)}
        console.say(f"recorded {tally.rows:,} frames at {tally.rows / seconds:,.0f} frames/s: {run.path}")
        digest = config.embodiment.digest() if config.embodiment else None
        run.finish(outputs=["dataset"], metrics=metrics, embodiment_sha256=digest)
        return run.path


class _Tally:
    """Counts over what this process wrote."""

    def __init__(self) -> None:
        self.rows = 0
        self._spans_m: list[float] = []
        self._moved: list[bool] = []

    def add(self, episode: Episode) -> None:
        hand = episode.columns[HAND]
        self.rows += len(hand)
        self._spans_m.append(float(np.linalg.norm(np.ptp(hand, axis=0))))
        if OBJECT in episode.columns:
            travelled = np.linalg.norm(np.ptp(episode.columns[OBJECT], axis=0))
            self._moved.append(bool(travelled > _MOVED_M))

    def metrics(self, seconds: float) -> dict[str, Any]:
        return {
            "frames_written_now": self.rows,
            "frames_per_s": round(self.rows / seconds, 1),
            "hand_span_m": float(np.mean(self._spans_m)) if self._spans_m else None,
            "object_moved_share": float(np.mean(self._moved)) if self._moved else None,
        }


def _write(config: RecordConfig, writer: LeRobotWriter) -> _Tally:
    tally, lengths = _Tally(), config.lengths()
    with console.progress("record", total=len(lengths), done=writer.num_episodes) as bar:
        for episode in _episodes(config, lengths, writer.num_episodes):
            writer.add_episode(episode.columns, episode.videos, episode.task)
            tally.add(episode)
            bar.advance()
    return tally


def _episodes(config: RecordConfig, lengths: Sequence[int], first: int) -> Iterator[Episode]:
    """Episodes in order, recorded by several processes that stay a bounded number of them ahead."""
    num_workers = min(config.workers or os.cpu_count() or 1, max(len(lengths) - first, 1))
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa: draw in the process's own thread; the processes fill the cores
    context = multiprocessing.get_context("spawn")  # an OpenGL context does not survive a fork
    with ProcessPoolExecutor(num_workers, context, initializer=_start_worker, initargs=(config,)) as pool:
        waiting: deque[Future[Episode]] = deque()
        try:
            for index in range(first, len(lengths)):
                waiting.append(pool.submit(_record_episode, index, lengths[index]))
                if len(waiting) > _AHEAD * num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise UserError(
                f"one of {num_workers} recording processes died, which mostly means too little memory",
                "Give fewer workers and run the same command again: it goes on after the last complete episode",
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_worker_source: BodyLog | SceneVideo | None = None  # one per worker process: loading a body for each episode costs more


def _start_worker(config: RecordConfig) -> None:
    global _worker_source
    _worker_source = _source(config)


def _record_episode(index: int, length: int) -> Episode:
    assert _worker_source is not None
    return _worker_source.episode(index, length)


def _source(config: RecordConfig) -> BodyLog | SceneVideo:
    if config.embodiment is not None:
        return BodyLog(config.embodiment, config.seed)
    return SceneVideo(config.seed, config.size, config.step_s)


def _check(config: RecordConfig) -> None:
    for name in ("episodes", "frames_per_episode", "size", "step_s", "transitions", "transitions_per_episode"):
        if not getattr(config, name) > 0:
            raise UserError(f"record: {name} is {getattr(config, name)}", "It must be positive")
    if config.workers < 0 or config.seed < 0:
        raise UserError(f"record: workers is {config.workers}, seed {config.seed}", "Neither may be negative")
