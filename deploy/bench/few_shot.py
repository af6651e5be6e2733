"""Calibration from few transitions, and on a twin that is not what its model says: error and success, side by side."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.bench.bench import BenchConfig
from deploy.bench.result import Row
from deploy.cli import run_stage
from robot_wm.contracts.run import read_run
from robot_wm.evaluation.results import ControllerResult, read_evaluation

_QUICK = ("fit.steps=60", "head.steps=0")  # shows that everything works; far too little to control well
_MANY = 2000  # transitions that stand for "trained on the twin itself"


def few_shot(config: BenchConfig) -> list[Row]:
    """Fetch reaching: both adapters at several numbers of transitions; then the severest twin.

    Goals are those of `robot-wm evaluate` with a seed of their own, apart from every other evaluation's.
    """
    quick = config.size == "quick"
    bench = _Bench(config, quick)
    rows = []
    log = bench.stage("record", "embodiment=fetch", f"transitions={60 if quick else 1000}", "workers=2")
    for count in (50,) if quick else (50, 100, 300, 1000):
        for kind in ("learned", "kinematic"):
            what = f"{count} transitions, {kind}"
            rows += bench.row(what, f"data={log}", f"transitions={count}", f"adapter.kind={kind}")
    twin = ("severity=1",)
    count = 50 if quick else 500
    some, many = f"transitions={count}", f"transitions={_MANY}"
    live = ("source=twin", "twin.severity=1", f"twin.seed={config.seed}")
    rows += bench.row(f"severity 1, the model's log, {count} transitions", f"data={log}", some, judged=twin)
    rows += bench.row(f"severity 1, the twin's log, {count} transitions", *live, some, judged=twin)
    if not quick:
        rows += bench.row(f"severity 1, the twin's log, {_MANY} transitions", *live, many, judged=twin)
        rows.append(_closed(rows))
    return rows


class _Bench:
    """Runs stages in a folder of its own: a measurement must not find the runs of an earlier one."""

    def __init__(self, config: BenchConfig, quick: bool):
        self._out = Path(config.out) / "bench" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
        self._seed, self._quick = config.seed, quick

    def stage(self, name: str, *overrides: str) -> Path:
        found = run_stage(name, [f"out={self._out}", f"seed={self._seed}", *overrides])
        assert found is not None
        return found

    def row(self, what: str, *calibrate: str, judged: tuple[str, ...] = ()) -> list[Row]:
        """Held-out error one and four steps ahead, and success, of one calibration."""
        sizes = _QUICK if self._quick else ()
        cache = f"cache={self._out / 'cache'}"
        calibration = self.stage("calibrate", "embodiment=fetch", cache, *sizes, *calibrate)
        bundle = self.stage("export", f"calibration={calibration}")
        goals = f"goals={3 if self._quick else 50}"
        evaluated = self.stage(
            "evaluate", "embodiment=fetch", f"bundle={bundle}", goals, "references=[]", "videos_reached=0",
            "videos_missed=0", "num_threads=1", *judged,
        )  # fmt: skip
        found = read_evaluation(evaluated).controller("model")
        assert found is not None
        metrics = read_run(calibration, "calibrate").metrics
        return [*_errors(what, metrics), _success(what, found)]


def _errors(what: str, metrics: dict[str, Any]) -> list[Row]:
    errors, still = metrics["error_by_step"], metrics["copy_error_by_step"]
    return [
        Row(f"{what}: error {k} step{'s' * (k > 1)} ahead", 100 * errors[k - 1], "cm", reference=100 * still[k - 1])
        for k in (1, len(errors))
    ]


def _success(what: str, found: ControllerResult) -> Row:
    share = found.success_last
    interval = share.interval
    return Row(f"{what}: success", interval.value, n=share.trials, low=interval.low, high=interval.high)


def _closed(rows: list[Row]) -> Row:
    """Which share of the way from the model's log to much data of the twin itself a short log of the twin goes."""
    before, after, best = (
        row.value or 0.0 for row in rows if row.metric.startswith("severity 1") and row.metric.endswith("success")
    )
    closed = (after - before) / (best - before) if best > before else None
    return Row("severity 1: share of the gap closed", closed, target=0.8)
