"""What an evaluation found: the schema of `evaluation.json`, which reports and benchmarks read."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from robot_wm.contracts import config, files
from robot_wm.contracts.errors import UserError
from robot_wm.evaluation import statistics
from robot_wm.evaluation.statistics import Interval

SCHEMA = 1
EVALUATION_FILE = "evaluation.json"
Kind = Literal["model", "reference"]


@dataclass(frozen=True)
class Episode:
    """One attempt at one pair of start and goal.

    Attributes:
        pair_seed: of the pair; the same for every controller.
        distances_m: end effector to goal, at the start and after every control tick [m].
        success_last, success_any: the task's criterion after the last tick, and after any tick.
        latencies_s: wall time of each decision, image in to commands out [s]; empty for references.
        guards: how often each safety guard acted, by name.
    """

    pair_seed: int
    distances_m: tuple[float, ...]
    success_last: bool
    success_any: bool
    latencies_s: tuple[float, ...] = ()
    guards: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Share:
    """Successes of trials with a Wilson 95 % interval."""

    successes: int
    trials: int
    interval: Interval


@dataclass(frozen=True)
class Quartiles:
    """Median and interquartile range [m]."""

    q1: float
    median: float
    q3: float


@dataclass(frozen=True)
class Latency:
    """Wall time of a decision, image in to commands out [ms], each percentile with a bootstrap 95 % interval."""

    decisions: int
    p50_ms: Interval
    p95_ms: Interval
    p99_ms: Interval


@dataclass(frozen=True)
class ControllerResult:
    """All episodes of one controller, and what they add up to.

    Attributes:
        name: key of the controller, such as `model` or `random`.
        kind: a learned controller, or a reference that gives its number a scale.
        episodes: in the order of the pairs.
        success_last, success_any: shares over the episodes.
        final_distance_m: over the episodes.
        latency: None for references.
        guards: safety interventions over all episodes, by name.
    """

    name: str
    kind: Kind
    episodes: tuple[Episode, ...]
    success_last: Share
    success_any: Share
    final_distance_m: Quartiles
    latency: Latency | None = None
    guards: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """Share of success at the last step of controller `a` minus that of `b`, with Newcombe's 95 % interval."""

    a: str
    b: str
    interval: Interval


@dataclass(frozen=True)
class Video:
    """An episode that can be watched: path inside the run folder."""

    path: str
    controller: str
    pair_seed: int
    success: bool


@dataclass(frozen=True)
class Evaluation:
    """The whole of `evaluation.json`.

    Attributes:
        schema: of this file.
        embodiment, embodiment_sha256: the body, by name and digest.
        task: name of the task.
        threshold_m: distance that counts as success [m].
        step_s: time between control ticks [s].
        ticks: control ticks per episode.
        goal_seed: the pairs were drawn from it.
        controllers: learned ones first.
        differences: the first controller against every other.
        videos: episodes that were recorded.
        machine: where latencies were measured.
    """

    schema: int
    embodiment: str
    embodiment_sha256: str
    task: str
    threshold_m: float
    step_s: float
    ticks: int
    goal_seed: int
    controllers: tuple[ControllerResult, ...]
    differences: tuple[Difference, ...]
    videos: tuple[Video, ...]
    machine: str

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise UserError(
                f"evaluation schema is {self.schema}", f"This version reads schema {SCHEMA}; evaluate again"
            )

    def controller(self, name: str) -> ControllerResult | None:
        """The controller of that name, if it was evaluated."""
        return next((c for c in self.controllers if c.name == name), None)


def summarize(name: str, kind: Kind, episodes: Sequence[Episode]) -> ControllerResult:
    """Add up at least one episode of one controller."""
    latencies_ms = 1000 * np.concatenate([np.asarray(e.latencies_s, dtype=float) for e in episodes])
    final_m = [e.distances_m[-1] for e in episodes]
    guards: Counter[str] = Counter()
    for episode in episodes:
        guards.update(episode.guards)
    return ControllerResult(
        name=name,
        kind=kind,
        episodes=tuple(episodes),
        success_last=_share([e.success_last for e in episodes]),
        success_any=_share([e.success_any for e in episodes]),
        final_distance_m=Quartiles(*(float(q) for q in np.percentile(final_m, (25, 50, 75)))),
        latency=_latency(latencies_ms) if len(latencies_ms) else None,
        guards=dict(guards),
    )


def differences(controllers: Sequence[ControllerResult]) -> tuple[Difference, ...]:
    """The first controller's success at the last step against every other's."""
    if not controllers:
        return ()
    first = controllers[0]
    counts = [(c.success_last.successes, c.success_last.trials) for c in controllers]
    return tuple(
        Difference(first.name, other.name, statistics.difference(*counts[0], *count))
        for other, count in zip(controllers[1:], counts[1:], strict=True)
    )


def read_evaluation(path: Path) -> Evaluation:
    """Read `evaluation.json` of an evaluate run; raises UserError when it is missing or not of this schema."""
    file = path / EVALUATION_FILE
    return config.from_mapping(Evaluation, files.read_json(file), str(file))


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write `evaluation.json` into the folder `path`, atomically."""
    files.write_json(path / EVALUATION_FILE, config.to_mapping(evaluation))


def _share(successes: Sequence[bool]) -> Share:
    return Share(sum(successes), len(successes), statistics.wilson(sum(successes), len(successes)))


def _latency(latencies_ms: np.ndarray) -> Latency:
    p50, p95, p99 = (statistics.percentile(latencies_ms, p) for p in (50, 95, 99))
    return Latency(len(latencies_ms), p50, p95, p99)
