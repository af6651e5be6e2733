"""How well planners control a body that was only calibrated to: methods side by side, samplers, and what size buys.

Methods are compared on held-out pairs, as `evaluate` draws them. Samplers and sizes are compared on validation pairs,
because defaults are chosen by them.
"""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

from deploy.bench.arena import Arena, Decide, Flown, at_once, drawn, holding, searching
from deploy.bench.bench import BenchConfig
from deploy.bench.far_goals import fly_far
from deploy.bench.result import Row
from deploy.cli import run_stage
from deploy.compose import compose
from deploy.export.gate import VALIDATION_OFFSET
from deploy.stages.evaluate import goal_seed
from deploy.stages.export import ExportConfig
from robot_wm import console
from robot_wm.contracts.config import from_mapping
from robot_wm.evaluation.statistics import wilson
from robot_wm.planning.controllable import Controllable, load_controllable
from robot_wm.planning.planner import Planner, PlannerConfig
from sims import tasks
from sims.robots import load

_PAIRS = {"quick": 20, "full": 100}
_BODIES = {"quick": ("fetch",), "full": ("fetch", "so101", "panda")}
_LABELS = {"quick": (300,), "full": (100, 300, 1000)}
_SAMPLERS = ("cem", "icem", "mppi", "gradient")
_SIZES = {  # candidates, iterations, horizon
    "quick": ((32, 64, 128), (1, 3), (2,)),
    "full": ((16, 32, 64, 128, 256), (1, 2, 3, 5), (1, 2, 3, 4)),
}
_SCRATCH = ("pretrained=false", "fit.encoder_steps=200", "fit.encoder_learning_rate=0.001")  # as in the demo


def control(config: BenchConfig) -> list[Row]:
    """Rows of methods for every body and number of labels; samplers, sizes and far goals on the first of them.

    Raises:
        UserError: a stage refuses.
    """
    out = Path(config.out) / "bench" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    rows: list[Row] = []
    for body in _BODIES[config.size]:
        log = run_stage("record", [f"embodiment={body}", f"transitions={max(_LABELS[config.size])}", f"out={out}"])
        for labels in _LABELS[config.size]:
            common = [f"embodiment={body}", f"data={log}", f"transitions={labels}", f"out={out}", f"cache={out}/cache"]
            common.append(f"seed={config.seed}")
            pretrained, scratch = (run_stage("calibrate", [*common, *more]) for more in ((), _SCRATCH))
            assert pretrained is not None and scratch is not None
            first = body == _BODIES[config.size][0] and labels == _LABELS[config.size][0]
            rows += _methods(f"{body}, {labels} labels", pretrained, scratch, config)
            for part in (_study, _far) if first else ():
                rows += part(f"{body}, {labels} labels", pretrained, config)
    return rows


def planner_named(name: str) -> PlannerConfig:
    """The search of configs/planner/<name>.yaml."""
    return from_mapping(ExportConfig, compose("export", [f"planner={name}", "calibration=none"])).planner


def _methods(where: str, pretrained: Path, scratch: Path, config: BenchConfig) -> list[Row]:
    size, num = planner_named("cem"), _PAIRS[config.size]
    learned, anew = (load_controllable(run, size, ahead=0) for run in (pretrained, scratch))
    rows = []
    with load(learned.embodiment) as simulation:
        task = tasks.make(simulation)
        arena = Arena(task, task.pairs(num, goal_seed(config.seed)))
        body = learned.planner.body
        ways: dict[str, tuple[Controllable, Decide]] = {
            "search with head": (learned, searching(learned.planner, config.seed)),
            "head alone": (learned, _at_once(learned)),
            "search alone": (learned, _sized(learned, replace(size, propose=0.0), config.seed)),
            "from scratch, search with head": (anew, searching(anew.planner, config.seed)),
            "from scratch, head alone": (anew, _at_once(anew)),
            "random": (learned, drawn(body, config.seed)),
            "hold": (learned, holding(learned.command)),
        }
        for name, (parts, decide) in ways.items():
            console.say(f"control: {where}, {name}")
            rows += _rows(f"{where}: {name}", arena.fly(decide, parts.encoder, body.history), num)
        share = wilson(arena.oracle(config.seed), num)
        rows.append(Row(f"{where}: oracle", share.value, n=num, low=share.low, high=share.high))
    return rows


def _study(where: str, pretrained: Path, config: BenchConfig) -> list[Row]:
    """Samplers as shipped, and the default one at other sizes, on validation pairs."""
    base, num = planner_named("cem"), _PAIRS[config.size]
    kinds = {f"planner={name}": planner_named(name) for name in _SAMPLERS}
    for candidates, iterations, horizon in product(*_SIZES[config.size]):
        size = replace(base, candidates=candidates, iterations=iterations, horizon=horizon)
        kinds[f"cem, {candidates} candidates × {iterations} × {horizon} steps"] = size
    parts, rows = load_controllable(pretrained, base, ahead=0), []
    with load(parts.embodiment) as simulation:
        task = tasks.make(simulation)
        arena = Arena(task, task.pairs(num, VALIDATION_OFFSET))
        for name, size in kinds.items():
            console.say(f"control: {where}, {name}")
            found = arena.fly(_sized(parts, size, config.seed), parts.encoder, parts.planner.body.history)
            rows += _rows(f"{where}, validation: {name}", found, num)
    return rows


def _far(where: str, pretrained: Path, config: BenchConfig) -> list[Row]:
    """Goals 1, 2 and 4 horizons away, of the body slowed down to have such, on validation pairs."""
    parts, num, rows = load_controllable(pretrained, planner_named("cem"), ahead=0), _PAIRS[config.size], []
    ways = {"search with head": lambda slow: searching(slow.planner, config.seed), "head alone": _at_once}
    console.say(f"control: {where}, far goals")
    for (distance, name), found in fly_far(parts, ways, num, VALIDATION_OFFSET).items():
        rows += _rows(f"{where}, validation: {name}, goals {distance} horizons away", found, num)
    return rows


def _sized(parts: Controllable, size: PlannerConfig, seed: int) -> Decide:
    """The same model under another search."""
    head = parts.one_shot.head if parts.one_shot else None
    return searching(Planner(size, parts.planner.body, head=head).eval(), seed)


def _at_once(parts: Controllable) -> Decide:
    assert parts.one_shot is not None
    return at_once(parts.one_shot)


def _rows(name: str, found: Flown, num: int) -> list[Row]:
    share = wilson(found.last, num)
    return [
        Row(f"{name}: at the end", share.value, n=num, low=share.low, high=share.high, reference=found.any / num),
        Row(f"{name}: time per decision, {num} at once", 1000 * found.decision_s / num, unit="ms", n=num),
    ]
