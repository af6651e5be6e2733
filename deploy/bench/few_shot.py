"""Calibration from few transitions, and on a twin that is not what its model says; every part is kept by itself."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from calibration.summary import SUMMARY
from deploy.bench import parts as in_parts
from deploy.bench.bench import BenchConfig
from deploy.bench.calibrated import calibrated, recorded, stage
from deploy.bench.result import Row
from robot_wm.contracts import files, run
from robot_wm.evaluation.results import read_evaluation

_BODIES = ("fetch", "so101", "panda")  # none of them in pretraining, which films arms that are drawn at random
_FEW, _ENOUGH, _MANY, _MOST = (50, 100, 200, 500), 500, 2000, 5000
_SCRATCH = (50, 200, 500, _MANY, _MOST)
_GOALS = 50
_TELLING = 0.5  # success from which on numbers of labels are compared
_QUICK = ("fit.steps=60", "head.steps=0", "reading.steps=0")  # shows that it works; too little to control well


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
        """About how long it takes on one core, its share of the recording included."""
        return 2.5 + 2.0 * (not self.pretrained) + 0.002 * self.transitions


@dataclass(frozen=True)
class Outcome:
    """What one part gave: errors one step and several ahead, with that of holding still, and the success.

    `adapters` is the held-out error of each kind of adapter after a short fit, where two were compared.
    """

    part: Part
    error: tuple[float, float]
    still: tuple[float, float]
    success: float
    low: float
    high: float
    goals: int
    wall_s: float
    revision: str | None
    adapters: dict[str, float] = field(default_factory=dict)


def parts(size: str, _: int = 0) -> list[Part]:
    """What is measured, in order: what says most comes first, a body at a time, then what makes its curves denser."""
    if size == "quick":
        return [Part("fetch", 60)]
    found = []
    for body in _BODIES:
        found += [Part(body, _ENOUGH), Part(body, _FEW[0]), Part(body, _ENOUGH, pretrained=False), Part(body, 200)]
        if body == "fetch":
            found += [Part(body, _ENOUGH, log=log, severity=1) for log in ("model", "twin")]
            found.append(Part(body, _MANY, log="twin", severity=1))
    for count in (_MANY, 200, _MOST, _FEW[0]):
        found += [Part(body, count, pretrained=False) for body in _BODIES]
        found += [Part(body, 100 if count == 200 else count) for body in _BODIES if count in (200, _MOST)]
    return found


def few_shot(config: BenchConfig) -> list[Row]:
    """Success after calibration on N transitions, from the shipped model and from random weights, on three bodies.

    Parts are measured one per core at a time, each in a process with one thread. Every part is kept under `out`; when
    `minutes` are over, those under way are ended, and the same command goes on with them: their finished stages are
    found again. Goals are those of `robot-wm evaluate` with a seed of their own. The parts stay valid while the code
    that they rest on does: remove the folder to measure anew; each part names the revision that it was measured at.
    """
    wanted = parts(config.size)
    found = in_parts.read(in_parts.work_off(__name__, wanted, config), wanted, Outcome)
    return _verdicts(found, config.size) + [row for part, outcome in found.items() for row in _rows(part, outcome)]


def _measure(folder: Path, part: Part, size: str, seed: int) -> Outcome:
    """Record (once for all parts that a log is long enough for), calibrate, export, evaluate."""
    quick, began_s = size == "quick", time.monotonic()
    if part.log == "twin":
        source = ["source=twin", f"twin.severity={part.severity}", f"twin.seed={seed}"]
    else:
        most = part.transitions if quick else min(n for n in (_ENOUGH, _MANY, _MOST) if n >= part.transitions)
        source = [f"data={recorded(folder, part.body, most, seed)}"]
    more = _QUICK if quick else ()
    calibration = calibrated(folder, part.body, part.transitions, seed, source, part.pretrained, more)
    bundle = stage("export", folder, seed, f"calibration={calibration}")
    evaluated = stage(
        "evaluate", folder, seed, f"embodiment={part.body}", f"bundle={bundle}", f"goals={3 if quick else _GOALS}",
        "references=[]", "videos_reached=0", "videos_missed=0", "num_threads=1", f"severity={part.severity}",
    )  # fmt: skip
    controller = read_evaluation(evaluated).controller("model")
    assert controller is not None
    metrics, last = run.read_run(calibration, "calibrate").metrics, controller.success_last
    error, still = metrics["error_by_step_with_commands"], metrics["copy_error_by_step"]
    interval = last.interval
    return Outcome(
        part, (error[0], error[-1]), (still[0], still[-1]), interval.value, interval.low, interval.high, last.trials,
        time.monotonic() - began_s, run.git_revision(), files.read_json(calibration / SUMMARY)["error_by_adapter"],
    )  # fmt: skip


def _rows(part: Part, found: Outcome) -> list[Row]:
    rows = [
        Row(f"{part.name}: error one step ahead", found.error[0], "m or rad", reference=found.still[0]),
        Row(f"{part.name}: success", found.success, n=found.goals, low=found.low, high=found.high),
    ]
    if len(found.adapters) > 1:
        label = f"{part.name}: kinematic adapter after a short fit, beside the learned one"
        rows.append(Row(label, found.adapters["kinematic"], "m or rad", reference=found.adapters["learned"]))
    return rows


def _verdicts(found: dict[Part, Outcome], size: str) -> list[Row]:
    """The targets: few labels against many, against none pretrained, and the gap that a twin opens."""
    if size == "quick":
        return []
    rows = []
    for body in _BODIES:
        rows += [_share(body, found), _times_fewer(body, found)]
    model, twin = (found.get(Part("fetch", _ENOUGH, log=log, severity=1)) for log in ("model", "twin"))
    best = found.get(Part("fetch", _MANY, log="twin", severity=1))
    closed = None
    if model and twin and best and best.success > model.success:
        closed = (twin.success - model.success) / (best.success - model.success)
    return [*rows, Row("severity 1: share of the gap closed", closed, target=0.8)]


def _share(body: str, found: dict[Part, Outcome]) -> Row:
    """Success with few labels over that with as many as one likes; against certain success while that is not known."""
    enough, most = found.get(Part(body, _ENOUGH)), found.get(Part(body, _MOST))
    label = f"{body}: success with {_ENOUGH} over that with {_MOST:,}"
    if enough is None:
        return Row(label, None, target=0.9)
    if most is None or most.success == 0:
        label += " (at least; that is not measured)"
        return Row(label, enough.success, n=enough.goals, low=enough.low, high=enough.high, target=0.9)
    return Row(label, enough.success / most.success, n=enough.goals, target=0.9)


def _times_fewer(body: str, found: dict[Part, Outcome]) -> Row:
    mine = {n: o.success for n in _FEW if (o := found.get(Part(body, n)))}
    scratch = {n: o.success for n in _SCRATCH if (o := found.get(Part(body, n, pretrained=False)))}
    return times_fewer(f"{body}: times fewer labels than from scratch for the same success", mine, scratch, _SCRATCH)


def times_fewer(label: str, mine: dict[int, float], scratch: dict[int, float], tried: Sequence[int]) -> Row:
    """How many times fewer labels the pretrained model needs: the best over its N, from success by number of labels.

    From scratch, what is missing is the smallest N with at least the same success. It is a lower bound, and the label
    says so, where none has it (the largest N), and where a smaller one of those `tried` is not measured yet. A body of
    which not even half of the goals are reached tells nothing: there both are at their floor.
    """
    ratios = []
    for count, success in mine.items():
        if scratch and success >= _TELLING:
            same = [n for n, other in scratch.items() if other >= success]
            need = min(same, default=max(scratch))
            unknown = [n for n in tried if n < need and n not in scratch]
            ratios.append((min([need, *unknown]) / count, bool(unknown or not same)))
    if not ratios:
        return Row(label, None, target=10.0)
    value, bound = max(ratios)
    return Row(label + (" (at least)" if bound else ""), value, n=len(ratios), target=10.0)


def main(words: list[str]) -> None:
    """Measure one part and keep it: FOLDER NAME SIZE SEED."""
    in_parts.measure_one(words, parts, _measure)


if __name__ == "__main__":
    main(sys.argv[1:])
