"""Calibration from few transitions, and on a twin that is not what its model says; every part is kept by itself."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.bench.bench import BenchConfig
from deploy.bench.result import Row
from deploy.cli import run_stage
from robot_wm import console
from robot_wm.contracts import files, run
from robot_wm.contracts.config import from_mapping
from robot_wm.evaluation.results import read_evaluation

_BODIES = ("fetch", "so101", "panda")  # none of them in pretraining, which films arms that are drawn at random
_FEW, _ENOUGH, _MOST = (50, 100, 200, 500), 500, 5000
_SCRATCH = (50, 200, 500, 2000, _MOST)
_TWIN, _TWIN_MOST = 500, 2000
_GOALS = 50
_QUICK = ("fit.steps=60", "head.steps=0")  # shows that everything works; far too little to control well
_FROM_SCRATCH = ("pretrained=false", "fit.encoder_steps=300", "fit.encoder_learning_rate=0.001")


@dataclass(frozen=True)
class Part:
    """One calibration and its success.

    Attributes:
        body: its embodiment.
        transitions: labelled ones.
        pretrained: false: from random weights.
        log: of the body as its model says (`model`), or of the twin that is judged (`twin`).
        severity: of the twin that is judged.
    """

    body: str
    transitions: int
    pretrained: bool = True
    log: str = "model"
    severity: int = 0

    @property
    def name(self) -> str:
        form = "pretrained" if self.pretrained else "scratch"
        return f"{self.body}-{self.transitions}-{form}" + f"-severity-{self.severity}-{self.log}" * bool(self.severity)

    @property
    def minutes(self) -> float:
        """About how long it takes on two cores, its share of the recording included."""
        return 2.0 + 1.5 * (not self.pretrained) + 0.0015 * self.transitions


@dataclass(frozen=True)
class Outcome:
    """What one part gave: errors one step and several ahead, with that of holding still, and the success."""

    part: Part
    error: tuple[float, float]
    still: tuple[float, float]
    success: float
    low: float
    high: float
    goals: int
    wall_s: float
    revision: str | None


def parts(size: str) -> list[Part]:
    """What is measured, in order: what says most comes first."""
    if size == "quick":
        return [Part("fetch", 60)]
    found = [Part(body, count) for count in (_ENOUGH, 50) for body in _BODIES]
    found += [Part(body, _ENOUGH, pretrained=False) for body in _BODIES]
    found += [Part("fetch", _TWIN, log=log, severity=1) for log in ("model", "twin")]
    found.append(Part("fetch", _TWIN_MOST, log="twin", severity=1))
    found += [Part(body, _MOST) for body in _BODIES]
    found += [Part(body, count) for count in _FEW if count not in (_ENOUGH, 50) for body in _BODIES]
    found += [Part(body, count, pretrained=False) for count in _SCRATCH if count != _ENOUGH for body in _BODIES]
    return found


def few_shot(config: BenchConfig) -> list[Row]:
    """Success after calibration on N transitions, from the shipped model and from random weights, on three bodies.

    Every part is kept under `out`; the same command goes on with what is missing, for `minutes` at a time. Goals are
    those of `robot-wm evaluate` with a seed of their own. The parts stay valid while the code that they rest on does:
    remove the folder to measure anew; each row's part names the revision that it was measured at.
    """
    folder = Path(config.out) / "bench" / f"few-shot-{config.size}-{config.seed}"
    began_s, wanted = time.monotonic(), parts(config.size)
    _kept(folder, wanted[0]).parent.mkdir(parents=True, exist_ok=True)
    for part in wanted:
        if _kept(folder, part).is_file():
            continue
        spent = (time.monotonic() - began_s) / 60
        if config.minutes and spent + part.minutes > config.minutes:
            continue  # a shorter one may still fit
        files.write_json(_kept(folder, part), asdict(_measure(folder, part, config)))
    found = {p: from_mapping(Outcome, files.read_json(_kept(folder, p))) for p in wanted if _kept(folder, p).is_file()}
    missing = [part for part in wanted if part not in found]
    if missing:
        left = sum(part.minutes for part in missing)
        console.say(f"few-shot: {len(found)} of {len(wanted)} parts measured; the rest takes about {left:.0f} minutes")
    return [row for part in wanted for row in _rows(part, found.get(part))] + _verdicts(found, config.size)


def _kept(folder: Path, part: Part) -> Path:
    return folder / "parts" / f"{part.name}.json"


def _measure(folder: Path, part: Part, config: BenchConfig) -> Outcome:
    """Record (the longest log of the body once), calibrate, export, evaluate."""
    quick, began_s = config.size == "quick", time.monotonic()

    def stage(name: str, *overrides: str) -> Path:
        found = run_stage(name, [f"out={folder}", f"seed={config.seed}", *overrides])
        assert found is not None
        return found

    body = f"embodiment={part.body}"
    if part.log == "twin":
        source = ["source=twin", f"twin.severity={part.severity}", f"twin.seed={config.seed}"]
    else:
        most = part.transitions if part.transitions in (60, _MOST) else 2000
        source = [f"data={stage('record', body, f'transitions={most}', 'workers=2')}"]
    calibration = stage(
        "calibrate", body, f"cache={folder / 'cache'}", f"transitions={part.transitions}", "body.identify=false",
        *source, *(_QUICK if quick else ()), *(() if part.pretrained else _FROM_SCRATCH),
    )  # fmt: skip
    evaluated = stage(
        "evaluate", body, f"bundle={stage('export', f'calibration={calibration}')}", f"goals={3 if quick else _GOALS}",
        "references=[]", "videos_reached=0", "videos_missed=0", "num_threads=1", f"severity={part.severity}",
    )  # fmt: skip
    controller = read_evaluation(evaluated).controller("model")
    assert controller is not None
    metrics, last = run.read_run(calibration, "calibrate").metrics, controller.success_last
    error, still = metrics["error_by_step_with_commands"], metrics["copy_error_by_step"]
    interval = last.interval
    return Outcome(
        part, (error[0], error[-1]), (still[0], still[-1]), interval.value, interval.low, interval.high, last.trials,
        time.monotonic() - began_s, run.git_revision(),
    )  # fmt: skip


def _rows(part: Part, found: Outcome | None) -> list[Row]:
    if found is None:
        return [Row(f"{part.name}: success", None)]
    return [
        Row(f"{part.name}: error one step ahead", found.error[0], "m or rad", reference=found.still[0]),
        Row(f"{part.name}: success", found.success, n=found.goals, low=found.low, high=found.high),
    ]


def _verdicts(found: dict[Part, Outcome], size: str) -> list[Row]:
    """The targets: few labels against many, against none pretrained, and the gap that a twin opens."""
    if size == "quick":
        return []
    rows = []
    for body in _BODIES:
        enough, most = found.get(Part(body, _ENOUGH)), found.get(Part(body, _MOST))
        share = enough.success / most.success if enough and most and most.success else None
        rows.append(Row(f"{body}: success with {_ENOUGH} over that with {_MOST:,}", share, target=0.9))
        rows.append(_times_fewer(body, found))
    model, twin = (found.get(Part("fetch", _TWIN, log=log, severity=1)) for log in ("model", "twin"))
    best = found.get(Part("fetch", _TWIN_MOST, log="twin", severity=1))
    closed = None
    if model and twin and best and best.success > model.success:
        closed = (twin.success - model.success) / (best.success - model.success)
    return [*rows, Row("severity 1: share of the gap closed", closed, target=0.8)]


def _times_fewer(body: str, found: dict[Part, Outcome]) -> Row:
    """How many times fewer labels the pretrained model needs: the best over its N. `low` where no N from scratch did.

    From scratch, what is missing is the smallest N with at least the same success; if none of those tried has it, the
    largest of them is a lower bound.
    """
    label = f"{body}: times fewer labels than from scratch for the same success"
    scratch = {n: o for n in _SCRATCH if (o := found.get(Part(body, n, pretrained=False)))}
    ratios = []
    for count in _FEW:
        mine = found.get(Part(body, count))
        if mine is None or not scratch or mine.success == 0:
            continue
        same = [n for n, other in scratch.items() if other.success >= mine.success]
        ratios.append((min(same, default=max(scratch)) / count, not same))
    if not ratios:
        return Row(label, None, target=10.0)
    value, bound = max(ratios)
    return Row(label + (" (at least)" if bound else ""), value, n=len(ratios), target=10.0)
