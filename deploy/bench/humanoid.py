"""Humanoids: a real one's log told ahead and its commands found again, and two tasks of one in MuJoCo; in parts."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from calibration.adapter_fit import FitConfig, make_windows
from calibration.candidate import Candidate, Ground, fit_candidate
from calibration.reading_fit import ReadingConfig, learn_to_read
from deploy.bench import parts as in_parts
from deploy.bench import retrieval
from deploy.bench.bench import BenchConfig
from deploy.bench.calibrated import calibrated, recorded, stage
from deploy.bench.g1_log import (
    FROM_SCRATCH,
    LOG,
    Bench,
    encode_rows,
    follow_commands,
    predictions,
    read_recording,
)
from deploy.bench.result import Row
from deploy.bench.standing import standing
from robot_wm.contracts import run
from robot_wm.evaluation.results import read_evaluation

Episodes = NDArray[np.int64]
_READING = ReadingConfig(practice=0)  # there is no MuJoCo model of this robot to practise with
_QUICK_FIT, _SEEDS = FitConfig(steps=100), 3
_HELD, _HELD_TRANSITIONS, _GOALS = "humanoid", 1000, 100
_SHARE = 0.8  # to be reached: of the oracle's success
_SIZE_PX = 64  # of the shipped encoder's pictures


@dataclass(frozen=True)
class Part:
    """What is measured at once, and about how long it takes."""

    name: str
    minutes: float


@dataclass(frozen=True)
class Outcome:
    """Its rows, and the revision that they were measured at."""

    rows: tuple[Row, ...]
    revision: str | None


def log_folder() -> Path:
    """Where the real robot's log is looked for."""
    return Path(os.environ.get("ROBOT_WM_TEST_DATA", "../shared/data")) / LOG


def parts(size: str, _: int = 0) -> list[Part]:
    """What is measured, in order; without the real robot's log, what needs none."""
    quick = size == "quick"
    real = [Part(f"g1-{n}", 1 if quick else 4) for n in ((300,) if quick else (1000, 100, 300))]
    real += [Part("g1-commands", 1 if quick else 9)]
    real += [] if quick else [Part("g1-scratch-1000", 5), Part("g1-scratch-all", 8)]
    simulated = [Part("standing", 1 if quick else 9)]
    simulated += [] if quick else [Part(f"held-{seed}", 9) for seed in range(_SEEDS)]
    return (real if log_folder().is_dir() else []) + simulated


def humanoid(config: BenchConfig) -> list[Row]:
    """A real G1 beside what needs no model, from scratch and all labels; a simulated humanoid beside its oracle.

    Parts are measured one per core at a time, each in a process of its own, and kept under `out`: see `parts.work_off`.
    """
    wanted, rows = parts(config.size), list[Row]()
    if log_folder().is_dir():
        read_recording(log_folder(), _cache(in_parts.folder_of(config))).first(
            100, _SIZE_PX
        )  # decoded once, for all parts
    else:
        rows.append(Row("real G1: no recording found (ROBOT_WM_TEST_DATA)", None))
    found = in_parts.read(in_parts.work_off(__name__, wanted, config), wanted, Outcome)
    rows += [row for outcome in found.values() for row in outcome.rows]
    return _verdict(rows) + rows


def _verdict(rows: list[Row]) -> list[Row]:
    """1,000 labels beside random weights on all there are (of five times as many, which the log has not)."""
    ahead, told = "G1 joints 4 steps ahead", "with commands"
    mine = next((r for r in rows if r.metric == f"{ahead}, 1000 transitions, {told}"), None)
    scratch = [r for r in rows if r.metric.startswith(f"{ahead}, from scratch on") and r.metric.endswith(told)]
    if mine is None or not scratch:
        return []
    other = min(scratch, key=lambda r: r.value or 0.0)
    label = f"{mine.metric} (beside the best from scratch, {other.metric.split('on ')[1].split(',')[0]})"
    return [Row(label, mine.value, "rad", n=mine.n, reference=other.value, target=other.value, better="lower")]


def _cache(folder: Path) -> Path:
    return folder / "cache"


def _measure(folder: Path, part: Part, size: str, seed: int) -> Outcome:
    quick = size == "quick"
    if part.name == "standing":
        return Outcome(tuple(standing(*((2, 100) if quick else (20, 300)), seed)), run.git_revision())
    if part.name.startswith("held"):
        return Outcome(tuple(_held(folder, seed + int(part.name.removeprefix("held-")))), run.git_revision())
    bench = Bench.open(log_folder(), _cache(folder), quick)
    kind, _, which = part.name.removeprefix("g1-").partition("-")
    rows = _REAL.get(kind, _few)(bench, which or kind, quick, seed)
    return Outcome(tuple(rows), run.git_revision())


def _few(bench: Bench, which: str, quick: bool, seed: int) -> list[Row]:
    """Joints ahead after a fit to so many transitions."""
    fit, transitions = _QUICK_FIT if quick else FitConfig(), int(which)
    part, seeds = bench.first(transitions), range(seed, seed + (1 if quick else _SEEDS))
    grounds = [bench.ground(part, fit, s) for s in seeds]
    for ground in grounds[1:]:
        ground.__dict__["latents"] = grounds[0].latents  # of the same encoder
    rows = predictions(bench, f"{which} transitions", grounds, needed=transitions == 1000)
    judge = bench.judge()
    known = judge.rows("copying what is measured now", [judge.errors(judge.copied())])
    known += judge.rows("constant velocity", [judge.errors(judge.drifted())])
    return (known if quick or transitions == 1000 else []) + rows


def _scratch(bench: Bench, which: str, quick: bool, seed: int) -> list[Row]:
    """The same from random weights, on as many transitions or on all that are not judged."""
    part = bench.fitted() if which == "all" else bench.first(int(which))
    return predictions(
        bench, f"from scratch on {part.count} transitions", [bench.ground(part, FROM_SCRATCH, seed, False)]
    )


def _commands(bench: Bench, _: str, quick: bool, seed: int) -> list[Row]:
    """The commands between two pictures, after a fit to 1,000 transitions (quick: 300, the encoder as it comes)."""
    part = bench.first(300 if quick else 1000)
    tried: dict[int, list[tuple[retrieval.Pairs, retrieval.Pairs, Tensor, Tensor]]] = {4: [], 8: []}
    for one in range(seed, seed + (1 if quick else _SEEDS)):
        ground = bench.ground(part, _QUICK_FIT if quick else FitConfig(), one)
        episodes = np.unique(part.episode_F).astype(np.int64)
        unseen = episodes[-max(2, len(episodes) // 3) :]
        seen = np.setdiff1d(episodes, unseen)
        if not quick:
            ground = learn_to_read(ground, None, _READING, seen, unseen, lambda **_: None)[0]
        candidate = fit_candidate(ground, "learned", seen, lambda **_: None)
        follow_commands(ground, candidate.calibrated, candidate.latents, seen, unseen)
        for ahead, found in tried.items():
            found.append(_retrieved(bench, ground, candidate, (seen, unseen), ahead))
    return [row for ahead, found in tried.items() for row in retrieval.rows(ahead, bench.moving_P, found)]


def _retrieved(
    bench: Bench, ground: Ground, candidate: Candidate, parts: tuple[Episodes, Episodes], ahead: int
) -> tuple[retrieval.Pairs, retrieval.Pairs, Tensor, Tensor]:
    model, body, latents = candidate.calibrated.model, candidate.calibrated.body, candidate.latents
    length = model.config.history + ahead
    known, unfitted = (
        retrieval.pairs(make_windows(ground.transitions, length, episodes), latents, body, ahead) for episodes in parts
    )
    windows = bench.windows(ahead)
    asked = retrieval.pairs(windows, encode_rows(model, windows), body, ahead)
    plan, habit = (
        retrieval.commanded(body, plan.clamp(-1, 1), asked.reference_WU)
        for plan in retrieval.planned(body, known, unfitted, asked)
    )
    return retrieval.joined(known, unfitted), asked, plan, habit


def _held(folder: Path, seed: int) -> list[Row]:
    """Both hands to a goal image, pelvis held, through the ordinary path: record, calibrate, export, evaluate."""
    source = [f"data={recorded(folder, _HELD, _HELD_TRANSITIONS, seed)}"]
    calibration = calibrated(folder, _HELD, _HELD_TRANSITIONS, seed, source)
    bundle = stage("export", folder, seed, f"calibration={calibration}")
    evaluated = read_evaluation(
        stage(
            "evaluate", folder, seed, f"embodiment={_HELD}", f"bundle={bundle}", "task=whole_body_reach",
            f"goals={_GOALS}", "num_threads=1",
        )
    )  # fmt: skip
    rows, best = [], evaluated.controller("oracle")
    for controller in evaluated.controllers:
        found, left_m = controller.success_last, controller.final_distance_m.median
        share, target = found.interval, None
        if best is not None and controller.name == "model":
            target = _SHARE * best.success_last.interval.value
        label = f"both hands to a goal image, seed {seed}: {controller.name}"
        rows.append(Row(label, share.value, n=found.trials, low=share.low, high=share.high, target=target))
        rows.append(Row(f"{label}, left at the end (median)", left_m, "m", n=found.trials, better="lower"))
    return rows


_REAL: dict[str, Callable[[Bench, str, bool, int], list[Row]]] = {"scratch": _scratch, "commands": _commands}


def main(words: list[str]) -> None:
    """Measure one part and keep it: see `parts.measure_one`."""
    in_parts.measure_one(words, parts, _measure)


if __name__ == "__main__":
    main(sys.argv[1:])
