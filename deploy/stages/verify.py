"""verify: a search for what makes a controller fail, on the twin, before a robot moves."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from deploy.drivers.twin import check_embodiment
from deploy.evaluation.episodes import film
from deploy.report.verification_page import write_verification_page
from deploy.runtime.controller import Controller
from deploy.verification import results
from deploy.verification.results import SCENARIOS_FILE, VERIFICATION_FILE, Breaking, ScenarioSet, Tried, Verification
from deploy.verification.scenario import ONE_SIDED, Ranges, Scenario
from deploy.verification.search import breaking_point, failure_rate, search
from deploy.verification.trials import Trials
from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.bundle import Bundle, read_bundle
from robot_wm.contracts.config import to_mapping
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import Run, machine, open_run
from robot_wm.data import video
from robot_wm.evaluation.statistics import wilson
from sims import gl
from sims.pairs import Task
from sims.robots import load, model_inputs
from sims.tasks import make

_FIRST_SEED, _SEED_STRIDE = 3_000_000_000, 10_000  # beyond the pairs of evaluations and of flights
_CRF = 28
PAGE = "verification.html"


@dataclass(frozen=True)
class VerifyConfig:
    """Configuration of `robot-wm verify`.

    Attributes:
        bundle: export run or bundle folder.
        embodiment: the body; the bundle must have been made for it.
        robot: what the controller is tried on.
        task: what the goals are about; None: what the body's environment is made for, else reach.
        pairs: of start and goal.
        rounds, draws: of the search; `draws` scenarios each.
        break_pairs, break_steps: pairs per axis and bisections with which breaking points are looked for.
        scenarios: `scenarios.json` of an earlier run, to be replayed first.
        search: False only replays.
        ranges: the largest disturbances.
        videos, video_px: of the worst scenarios; height of the picture [px].
        threads: of ONNX Runtime; 0 is one per core.
    """

    bundle: str
    embodiment: Embodiment
    robot: Literal["twin"] = "twin"
    task: str | None = None
    pairs: int = 10
    rounds: int = 4
    draws: int = 40
    break_pairs: int = 3
    break_steps: int = 4
    scenarios: str | None = None
    search: bool = True
    ranges: Ranges = field(default_factory=Ranges)
    videos: int = 10
    video_px: int = 240
    threads: int = 0
    name: str = "verify"
    out: str = "runs"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("pairs", 1), ("rounds", 1), ("draws", 2), ("break_pairs", 1), ("break_steps", 0)):
            if getattr(self, name) < low:
                raise UserError(f"{name} is {getattr(self, name)}", f"Give {low} or more")
        if self.pairs >= _SEED_STRIDE // 20:
            raise UserError(f"pairs is {self.pairs}", f"Give at most {_SEED_STRIDE // 20 - 1}")
        if min(self.videos, self.threads, self.seed) < 0 or self.video_px < 16:
            raise UserError("videos, threads or seed is negative, or video_px below 16", "Give 0 or more")
        if not self.search and self.scenarios is None:
            raise UserError("search is false and there are no scenarios", "Give scenarios=FILE to replay")


def verify(config: VerifyConfig) -> Path:
    """Search; returns the run folder with `verification.json`, `scenarios.json`, a page and videos.

    Every attempt is kept as it is made: an interrupted run goes on behind the last one.

    Raises:
        UserError: a bundle of another body, scenarios of another body or task, or a task that is impossible.
    """
    bundle = read_bundle(Path(config.bundle))
    check_embodiment(config.embodiment, bundle.spec)
    known = results.read_scenarios(Path(config.scenarios)) if config.scenarios else None
    inputs = {"bundle": Path(config.bundle)} | model_inputs(config.embodiment)
    inputs |= {"scenarios": Path(config.scenarios)} if config.scenarios else {}
    gl.choose_backend()
    simulation = load(config.embodiment)
    try:
        task = make(simulation, config.task)
        if known is not None and (known.embodiment, known.task) != (config.embodiment.name, task.name):
            raise UserError(f"{config.scenarios} is of {known.embodiment}, {known.task}", "Give scenarios of this body")
        with open_run(Path(config.out), "verify", config.name, config, inputs) as run:
            if run.complete:
                console.say(f"verify: already done with the same inputs: {run.path}")
            else:
                _verify(run, config, task, bundle, known)
            return run.path
    finally:
        simulation.close()


def _verify(run: Run, config: VerifyConfig, task: Task, bundle: Bundle, known: ScenarioSet | None) -> None:
    goal_seed, count = _FIRST_SEED + _SEED_STRIDE * config.seed, config.pairs
    if known is not None:
        goal_seed, count = known.goal_seed, max(known.pairs, count)
    controller = Controller(bundle, num_threads=config.threads or None)
    trials = Trials(task, task.pairs(count, goal_seed), controller, run.path / "trials.jsonl")
    expected = count + (len(known.scenarios) if known else 0)
    if config.search:
        sides = sum(1 if axis in ONE_SIDED else 2 for axis in config.ranges.axes())
        expected += config.rounds * config.draws + sides * config.break_pairs * (1 + config.break_steps)
    with console.progress("verify", expected) as trials.bar:
        calm = [trials.outcome(Scenario(pair, {})) for pair in range(count)]
        undisturbed = wilson(sum(failed for failed, _ in calm), count)
        replayed = [trials.tried(s) for s in (known.scenarios if known else ())]
        found = Verification(
            results.SCHEMA, config.embodiment.name, task.name, task.threshold_m, goal_seed, count, config.ranges,
            undisturbed, None, None, 0, 0, (), (), tuple(replayed), machine(),
        )  # fmt: skip
        tried = list(replayed)
        if config.search:
            found, drawn = _search(config, trials, count, found)
            tried += drawn
            found = replace(found, breaking=_breaking(config, trials, calm))
    worst = sorted(tried, key=lambda item: (item.held is not None or not item.failed, -item.cost))[: config.videos]
    worst = [replace(item, video=_film(run, config, trials, n, item)) for n, item in enumerate(worst)]
    _finish(run, replace(found, worst=tuple(worst)), tried, bundle)


def _search(config: VerifyConfig, trials: Trials, count: int, found: Verification) -> tuple[Verification, list[Tried]]:
    def scenario(pair: int, point_A: np.ndarray) -> Scenario:
        return Scenario.at(pair, np.round(point_A, 4), config.ranges, config.seed)

    draws, proposals = search(
        lambda pair, point_A: trials.outcome(scenario(pair, point_A)),
        len(config.ranges.axes()), count, config.rounds, config.draws, config.seed,
    )  # fmt: skip
    first = draws[: config.draws]
    found = replace(
        found,
        uniform=wilson(sum(draw.failed for draw in first), len(first)),
        rate=failure_rate(draws, proposals),
        draws=len(draws),
        failures=sum(draw.failed for draw in draws),
    )
    tried = [trials.tried(scenario(d.pair, d.point_A)) for d in draws]
    return replace(found, held=sum(t.failed and t.held is not None for t in tried)), tried


def _breaking(config: VerifyConfig, trials: Trials, calm: list[tuple[bool, float]]) -> tuple[Breaking, ...]:
    """Along each axis and side, on pairs that succeed undisturbed; none where there is no such pair."""
    pairs = [pair for pair, (failed, _) in enumerate(calm) if not failed][: config.break_pairs]
    found = []
    for axis in config.ranges.axes() if pairs else ():
        for sign in (1,) if axis in ONE_SIDED else (1, -1):
            limit = sign * getattr(config.ranges, axis)

            def breaks(share: float, axis: str = axis, limit: float = limit) -> bool:
                scenarios = [Scenario(pair, {axis: round(share * limit, 6)}, config.seed) for pair in pairs]
                return 2 * sum(trials.outcome(s)[0] for s in scenarios) > len(pairs)

            share = breaking_point(breaks, config.break_steps)
            found.append(Breaking(axis, None if share is None else share * limit, limit))
    return tuple(found)


def _film(run: Run, config: VerifyConfig, trials: Trials, number: int, item: Tried) -> str:
    """The attempt again, seen by the disturbed camera; the path inside the run."""
    (run.path / "videos").mkdir(exist_ok=True)
    path = f"videos/{number:02d}-{'failed' if item.failed else 'reached'}.mp4"
    camera, rate_hz = config.embodiment.camera, config.embodiment.control_rate_hz
    size = (config.video_px, round(config.video_px * camera.width / camera.height))
    if not (run.path / path).is_file():
        attempted = trials.attempt(item.scenario)
        with trials.stage(item.scenario) as stage:
            frames = film(stage, attempted, trials.pairs[item.scenario.pair], 1 / rate_hz, size)
        video.encode(run.path / path, frames, rate_hz, crf=_CRF)
    return path


def _finish(run: Run, found: Verification, tried: list[Tried], bundle: Bundle) -> None:
    """Write results, the set to replay (what failed, and the worst) and the page."""
    keep = {str(item.scenario): item.scenario for item in (*found.worst, *(t for t in tried if t.failed))}
    scenarios = ScenarioSet(
        results.SCHEMA, found.embodiment, found.task, found.goal_seed, found.pairs, tuple(keep.values())
    )
    files.write_json(run.path / VERIFICATION_FILE, to_mapping(found))
    files.write_json(run.path / SCENARIOS_FILE, to_mapping(scenarios))
    write_verification_page(run.path / PAGE, found, run.path)
    figures = {
        "failures": found.failures, "draws": found.draws, "rate": found.rate.value if found.rate else None,
        "replayed": len(found.replayed), "replayed_failures": sum(item.failed for item in found.replayed),
    }  # fmt: skip
    outputs = [VERIFICATION_FILE, SCENARIOS_FILE, PAGE, *(["videos"] if found.worst else [])]
    run.finish(outputs, metrics=figures, embodiment_sha256=bundle.spec.embodiment_sha256)
    rows = [("undisturbed", _percent(found.undisturbed))]
    rows += [(name, _percent(i)) for name, i in (("uniform draw", found.uniform), ("all draws", found.rate)) if i]
    if found.draws:
        rows.append(("of the failures, held by a guard", f"{found.held} of {found.failures}"))
    rows += [(b.axis, "none within the range" if b.value is None else f"{b.value:+.3g}") for b in found.breaking]
    console.table(f"{found.task}: share of failures (95 %), and what breaks it", ("", ""), rows)
    console.say(f"page: {run.path / PAGE}")


def _percent(interval: results.Interval) -> str:
    return f"{100 * interval.value:.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
