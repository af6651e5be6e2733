"""record: simulated bodies in motion, as a LeRobot v3 dataset."""

import ast
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
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
from robot_wm.data.lerobot_files import Format, Row
from robot_wm.data.lerobot_shards import LeRobotShards
from sims import coverage, gl, robots
from sims.filming import SceneVideo
from sims.recording import BodyLog
from sims.render import drawn
from sims.viewpoints import NAMES

_MOVED_M = 0.02  # an object that travels further than this was pushed


@dataclass(frozen=True)
class RecordConfig:
    """What to record.

    Without an embodiment: video of procedural arms, one scene per episode, without actions. With one: its calibration
    log at the control rate, with actions.

    Attributes:
        shard: record only this part of `shards`, as one of several machines that share the folder `out`; the same
            command without it gathers the parts.
    """

    name: str = "record"
    out: str = "runs"
    seed: int = 0
    workers: int = 0
    episodes: int = 600
    bodies: int = 0
    frames_per_episode: int = 16
    size: int = 64
    cameras: int = 1
    depth: tuple[str, ...] = ()
    step_s: float = 0.2
    embodiment: Embodiment | None = None
    transitions: int = 500
    transitions_per_episode: int = 25
    shards: int = 1
    shard: int | None = None

    def lengths(self) -> list[int]:
        """Frames (without an embodiment) or model steps (with one) of every episode."""
        if self.embodiment is None:
            return [self.frames_per_episode] * self.episodes
        whole, rest = divmod(self.transitions, self.transitions_per_episode)
        return [self.transitions_per_episode] * whole + ([rest] if rest else [])


def record(config: RecordConfig) -> Path:
    """Record a dataset; returns the run folder, which holds it under `dataset/`.

    An interrupted recording goes on with the shards that are missing. Which process records an episode makes no
    difference to it.

    Raises:
        UserError: a count that is not positive, a body that does not load, no OpenGL backend, or a script that its own
            recording processes would run again.
    """
    _check(config)
    gl.new_context().free()  # a machine that cannot render is refused before a run folder appears
    same_data = replace(config, workers=0, shards=1, shard=None)  # how the work is shared makes no other run of it
    inputs = robots.model_inputs(config.embodiment) if config.embodiment else {}
    recorder = Recorder(config)
    with open_run(Path(config.out), "record", config.name, same_data, inputs, config.shard is not None) as run:
        if run.complete:
            console.say(f"already recorded: {run.path}")
            return run.path
        if run.resumed:
            console.say(f"resuming {run.path}")
        shards = recorder.shards(run.path / "dataset")
        pace = _record(config, shards)
        if config.shard is not None:
            console.say(f"part {config.shard} of {config.shards} stands in {run.path}; without shard= all are gathered")
            return run.path
        metrics = {**_travel(shards.close()), **recorder.coverage(shards.path), **pace}
        console.say(f"recorded {metrics['frames']:,} frames: {run.path}")
        digest = config.embodiment.digest() if config.embodiment else None
        run.finish(outputs=["dataset"], metrics=metrics, embodiment_sha256=digest)
        return run.path


class Recorder:
    """One process's part in a recording: its own simulation and its own renderer."""

    def __init__(self, config: RecordConfig):
        self._lengths, self._config = config.lengths(), config
        self._source: BodyLog | SceneVideo
        if config.embodiment is not None:
            self._source = BodyLog(config.embodiment, config.seed, bool(config.depth))
        else:
            self._source = SceneVideo(
                config.seed, config.size, config.step_s, config.cameras, config.depth, bodies=config.bodies
            )

    def shards(self, path: Path) -> LeRobotShards:
        """The dataset that the config asks for."""
        source, body = self._source, self._config.embodiment
        form = Format(source.fps, source.features, body.name if body else "procedural")
        return LeRobotShards(path, form, [source.rows(length) for length in self._lengths], source.tasks)

    def warm_up(self) -> None:
        """Load a body's meshes into OpenGL, which takes as long as dozens of frames."""
        if isinstance(self._source, BodyLog):
            self._source.simulation.frame()

    def coverage(self, path: Path) -> dict[str, float]:
        """What a body's log shows of what matters, said and as metrics."""
        if not isinstance(self._source, BodyLog):
            return {}
        for name, most in coverage.still(path, self._source.simulation).items():
            console.say(
                f"warning: {name} moves by {most:.2g} at most in the whole log. Is it blocked? "
                "robot-wm robots says what stands inside what"
            )
        found = coverage.of_log(path, self._source.simulation)
        if found is None:
            return {}
        console.say(str(found))
        shares = {"workspace_share": found.workspace, "object_moves_share": found.object_moves}
        return {name: round(share, 4) for name, share in shares.items() if share is not None}

    def record(self, shards: LeRobotShards, number: int) -> "Work":
        """Write one shard of it."""
        started_s, seconds, frames = time.monotonic(), drawn.seconds, drawn.frames
        shards.write(number, lambda index: self._source.episode(index, self._lengths[index]))
        return Work(started_s, time.monotonic(), drawn.frames - frames, drawn.seconds - seconds)


@dataclass(frozen=True)
class Work:
    """When a shard was begun and done [s], how many frames were drawn for it, and the seconds that drawing took."""

    began_s: float
    ended_s: float
    frames: int
    drawing_s: float


def pace(work: Sequence[Work], drawers: int) -> dict[str, float]:
    """Recorded frames per second, those of the same renderers in a bare loop, and the share that the first is of it."""
    if not work:
        return {}
    seconds = max(w.ended_s for w in work) - min(w.began_s for w in work)
    frames, drawing_s = sum(w.frames for w in work), sum(w.drawing_s for w in work)
    rate, bare = frames / seconds, drawers * frames / drawing_s
    return {"frames_per_s": round(rate, 1), "bare_frames_per_s": round(bare, 1), "bare_share": round(rate / bare, 3)}


def _record(config: RecordConfig, shards: LeRobotShards) -> dict[str, float]:
    """Record all missing shards in several processes; returns the pace."""
    part, parts, work = config.shard or 0, 1 if config.shard is None else config.shards, []
    mine = range(part, len(shards.shards), parts)
    missing = sorted(set(mine) & set(shards.missing()))
    num_workers = min(config.workers or cores(), max(len(missing), 1))
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa: draw in the process's own thread; the processes fill the cores
    context = multiprocessing.get_context("spawn")  # an OpenGL context does not survive a fork
    frames = {number: sum(shards.lengths[i] for i in shards.shards[number]) for number in mine}
    total, left = sum(frames.values()), sum(frames[number] for number in missing)
    with (
        console.progress("record", total=total, done=total - left) as bar,
        ProcessPoolExecutor(num_workers, context, initializer=_start, initargs=(config, shards.path)) as pool,
    ):
        waiting = {pool.submit(_record_shard, number): number for number in missing}
        try:
            for finished in as_completed(waiting):
                work.append(finished.result())
                bar.advance(frames[waiting[finished]])
        except BrokenProcessPool:
            raise UserError(
                f"one of {num_workers} recording processes died, which mostly means too little memory",
                "Give fewer workers and run the same command again: it goes on with the shards that are missing",
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    found = pace(work, num_workers)
    if found:
        console.say(
            f"{found['frames_per_s']:,.0f} frames/s by {num_workers} processes,"
            f" {found['bare_share']:.0%} of what they draw in a bare loop"
        )
    return found


def cores() -> int:
    """How many this process may use: a cluster mostly grants fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_worker: tuple[Recorder, LeRobotShards] | None = None  # one per process: loading a body for each shard costs more


def _start(config: RecordConfig, path: Path) -> None:
    global _worker
    threading.Thread(target=_end_with_parent, daemon=True).start()
    recorder = Recorder(config)
    recorder.warm_up()
    _worker = recorder, recorder.shards(path)


def _end_with_parent() -> None:
    """A process that was killed cannot tell its workers to stop."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _record_shard(number: int) -> Work:
    assert _worker is not None
    recorder, shards = _worker
    return recorder.record(shards, number)


def _travel(rows: Sequence[Row]) -> dict[str, Any]:
    """How far things got within episodes, over all of them."""
    spans_m = {key: _spans_m(rows, key) for key in (HAND, OBJECT) if f"stats/{key}/max" in rows[0]}
    return {
        "frames": rows[-1]["dataset_to_index"],
        "hand_span_m": float(np.mean(spans_m[HAND])),
        "object_moved_share": float(np.mean(np.array(spans_m[OBJECT]) > _MOVED_M)) if OBJECT in spans_m else None,
    }


def _spans_m(rows: Sequence[Row], key: str) -> list[float]:
    """How far a position moved within each episode: the diagonal of the box around it."""
    return [float(np.linalg.norm(np.subtract(row[f"stats/{key}/max"], row[f"stats/{key}/min"]))) for row in rows]


def _check_script() -> None:
    """A process that is spawned imports the script that began; without a guard it would begin to record as well."""
    main = sys.modules["__main__"]
    path, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if path is None or (spec is not None and spec.name.endswith("__main__")) or not Path(path).is_file():
        return  # a notebook, a prompt, `python -m`: nothing is imported again
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (SyntaxError, ValueError):
        return  # not a script in Python: an executable that brought its own interpreter
    tests = (node.test for node in tree.body if isinstance(node, ast.If))
    if not any(isinstance(name, ast.Name) and name.id == "__name__" for test in tests for name in ast.walk(test)):
        raise UserError(
            f'{path} records without `if __name__ == "__main__":`; each of the recording processes would run all of '
            "it again",
            "Put what the script does below that line, or into a function that is called there",
        )


def _check(config: RecordConfig) -> None:
    _check_script()
    for name in ("episodes", "frames_per_episode", "size", "step_s", "transitions", "transitions_per_episode"):
        if not getattr(config, name) > 0:
            raise UserError(f"record: {name} is {getattr(config, name)}", "It must be positive")
    if not 1 <= config.cameras <= len(NAMES):
        raise UserError(f"record: cameras is {config.cameras}", f"A scene has 1 to {len(NAMES)}")
    known = (config.embodiment.camera.name,) if config.embodiment else NAMES[: config.cameras]
    for name in config.depth:
        if name not in known:
            raise UserError(f"record: depth names {name!r}", f"Cameras that are recorded: {', '.join(known)}")
    if config.shards < 1 or not 0 <= (config.shard or 0) < config.shards:
        raise UserError(f"record: shard is {config.shard}, shards {config.shards}", "Give shard=0 to shards - 1")
    if min(config.workers, config.seed, config.bodies) < 0:
        raise UserError(
            f"record: workers is {config.workers}, seed {config.seed}, bodies {config.bodies}", "None may be negative"
        )
