"""What planning from the predicted state is worth: success on a twin that answers late, with and without it."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

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
from robot_wm.evaluation.statistics import wilson
from robot_wm.planning.controllable import CALIBRATION, CalibrationFile
from sims import tasks
from sims.robots import load
from sims.truth import Truth
from sims.twin import Twin

_DELAYS_S = (0.0, 0.04, 0.08, 0.12)  # whole control ticks of the Fetch
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
        found = {way: _successes(bundle, calibration, delay_s, config) for way, bundle in bundles.items()}
        reference = found[next(iter(_WAYS))] / _GOALS[config.size]
        for way, successes in found.items():
            share = wilson(successes, _GOALS[config.size])
            row = Row(f"{1000 * delay_s:.0f} ms late, {way}: goals reached", share.value, n=_GOALS[config.size])
            rows.append(replace(row, low=share.low, high=share.high, reference=reference))
    return rows


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


def _successes(bundle: Bundle, calibration: Path, delay_s: float, config: BenchConfig) -> int:
    """Goals reached at the end, by a controller that is told the delay where it looks ahead."""
    told = replace(bundle.spec, delay_s=delay_s if bundle.spec.ahead else 0.0)
    controller = Controller(replace(bundle, spec=told))
    body = from_mapping(CalibrationFile, files.read_json(calibration / CALIBRATION), CALIBRATION)
    with load(body.embodiment, config.seed) as simulation:
        twin = Twin(simulation, truth=Truth(delay_s=delay_s))
        stage = Stage(simulation, twin, tasks.make(simulation))
        pairs = stage.task.pairs(_GOALS[config.size], goal_seed(config.seed))
        tried = [attempt(stage, controller, pair, sees=True).episode for pair in console.track(pairs, f"{delay_s} s")]
        twin.close()
    return sum(episode.success_last for episode in tried)
