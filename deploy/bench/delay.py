"""What planning from the predicted state is worth: success on a twin that answers late, with and without it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from deploy.bench.bench import BenchConfig
from deploy.bench.result import Row
from deploy.cli import run_stage
from deploy.evaluation.episodes import Stage, attempt
from deploy.lineage import locate
from deploy.runtime.controller import Controller
from deploy.stages.evaluate import goal_seed
from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.bundle import Bundle, read_bundle
from robot_wm.contracts.config import from_mapping
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import read_run
from robot_wm.evaluation.results import Episode
from robot_wm.evaluation.statistics import wilson
from robot_wm.planning.controllable import CALIBRATION, CalibrationFile
from sims import tasks
from sims.robots import load
from sims.truth import Truth
from sims.twin import Twin

_DELAYS_S = (0.0, 0.04, 0.08, 0.12, 0.2)  # whole control ticks of the Fetch
_LAST_TICKS = 10  # at the end, over which the way that is left is averaged
_NEAR_M = 0.05
_GOALS = {"quick": 10, "full": 100}
_TRANSITIONS = 500  # labelled, as in the demo
_WAYS = {"as if there were none": 0, "planned from the predicted state": 1}  # and how many model steps ahead


def delay(config: BenchConfig) -> list[Row]:
    """Success per delay between command and effect, for one model exported with and without a look ahead.

    The log that calibrated it came from a body without delay. Every controller meets the same held-out pairs.

    Raises:
        UserError: `config.demo` is not a finished demo run, or a stage refuses.
    """
    out = Path(config.out) / "bench" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    calibration = _of_demo(Path(config.demo)) if config.demo else _calibrate(out, config.seed)
    bundles = {way: _export(calibration, ahead, out) for way, ahead in _WAYS.items()}
    rows = []
    for delay_s in _DELAYS_S:
        flown = {
            w: fly(bundle, calibration, delay_s, _GOALS[config.size], config.seed) for w, bundle in bundles.items()
        }
        rows += compare(delay_s, flown)
    return rows


def compare(delay_s: float, flown: dict[str, list[Episode]]) -> list[Row]:
    """Success, and what else a delay may cost: the way left at the end, and the time until the goal is first reached.

    The reference of each row is the first way on the same pairs.
    """
    rows = []
    plain = next(iter(flown.values()))
    for way, episodes in flown.items():
        name, n = f"{1000 * delay_s:.0f} ms late, {way}", len(episodes)
        share = wilson(sum(episode.success_last for episode in episodes), n)
        reference = sum(episode.success_last for episode in plain) / n
        rows += [
            Row(f"{name}: goals reached", share.value, "1", n, share.low, share.high, reference),
            _mean(f"{name}: way left", episodes, plain, _left_cm, "cm"),
            _mean(f"{name}: until first reached", episodes, plain, _until, "ticks"),
        ]
    return rows


def _mean(
    name: str, episodes: list[Episode], plain: list[Episode], figure: Callable[[Episode], float], unit: str
) -> Row:
    values = np.array([figure(episode) for episode in episodes])
    mean, spare = float(values.mean()), 1.96 * float(values.std(ddof=1) / np.sqrt(len(values)))
    reference = float(np.mean([figure(episode) for episode in plain]))
    return Row(name, mean, unit, len(values), mean - spare, mean + spare, reference)


def _left_cm(episode: Episode) -> float:
    return 100 * float(np.mean(episode.distances_m[-_LAST_TICKS:]))


def _until(episode: Episode) -> float:
    """Control ticks until the goal is first near; all of them where it never is."""
    near = np.flatnonzero(np.array(episode.distances_m) < _NEAR_M)
    return float(near[0] if len(near) else len(episode.distances_m))


def _of_demo(demo: Path) -> Path:
    source = read_run(demo, "demo").inputs["calibrate"].path
    found = locate(Path(source), demo)
    if found is None:
        raise UserError(f"{source} of {demo} does not exist", "Run robot-wm demo again")
    return found


def _calibrate(out: Path, seed: int) -> Path:
    common = [f"out={out}", f"seed={seed}", "embodiment=fetch", f"transitions={_TRANSITIONS}"]
    log = run_stage("record", common)
    calibrated = run_stage("calibrate", [*common, "model=shipped", f"data={log}", f"cache={out / 'cache'}"])
    assert calibrated is not None
    return calibrated


def _export(calibration: Path, ahead: int, out: Path) -> Bundle:
    exported = run_stage("export", [f"calibration={calibration}", f"ahead={ahead}", f"out={out}"])
    assert exported is not None
    return read_bundle(exported)


def fly(bundle: Bundle, calibration: Path, delay_s: float, goals: int, seed: int) -> list[Episode]:
    """Held-out goals, by a controller that is told the delay where it looks ahead."""
    told = replace(bundle.spec, delay_s=delay_s if bundle.spec.ahead else 0.0)
    controller = Controller(replace(bundle, spec=told))
    body = from_mapping(CalibrationFile, files.read_json(calibration / CALIBRATION), CALIBRATION)
    with load(body.embodiment, seed) as simulation:
        twin = Twin(simulation, truth=Truth(delay_s=delay_s))
        stage = Stage(simulation, twin, tasks.make(simulation))
        pairs = stage.task.pairs(goals, goal_seed(seed))
        tried = [attempt(stage, controller, pair, sees=True).episode for pair in console.track(pairs, f"{delay_s} s")]
        twin.close()
    return tried
