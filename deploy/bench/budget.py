"""What the size of a search buys: success against time per decision, and which size is best within a time.

`python -m deploy.bench.budget` draws docs/planner_budget.svg from the newest saved result of `bench control`.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from deploy.bench.arena import Arena, searching
from deploy.bench.history import RESULTS, read_results
from deploy.bench.result import Row
from deploy.compose import compose
from deploy.export.gate import VALIDATION_OFFSET
from deploy.stages.export import ExportConfig
from robot_wm import console
from robot_wm.contracts.config import from_mapping
from robot_wm.contracts.errors import UserError
from robot_wm.evaluation.statistics import wilson
from robot_wm.planning.controllable import Controllable
from robot_wm.planning.planner import Planner, PlannerConfig
from sims import tasks
from sims.robots import load

PICTURE = Path("docs/planner_budget.svg")
SAMPLERS = ("icem", "mppi", "gradient")
SIZES = {  # candidates, iterations, horizon
    "quick": ((16, 128), (1, 3), (2,)),
    "full": ((16, 64, 128, 256), (1, 3, 5), (1, 2, 3, 4)),
}
BUDGETS_MS = (10, 20, 50, 100)
_SIZE = re.compile(r"(.*), size of the search: (\d+) × (\d+) × (\d+)$")
_COLOURS, _DASHES = ("#0b6e8f", "#c2410c", "#7c3aed", "#4d7c0f"), ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Tried:
    """One search on validation pairs: its planner, size, successes at the end, and median time of a decision [ms]."""

    sampler: str
    candidates: int
    iterations: int
    horizon: int
    reached: int
    trials: int
    ms: float

    @property
    def size(self) -> str:
        return f"{self.candidates} × {self.iterations} × {self.horizon}"


def planner_named(name: str) -> PlannerConfig:
    """The search of configs/planner/<name>.yaml."""
    return from_mapping(ExportConfig, compose("export", [f"planner={name}", "calibration=none"])).planner


def study(parts: Controllable, task_name: str, num: int, seed: int, size: str) -> list[Tried]:
    """The default search at many sizes, on validation pairs, by which defaults are chosen.

    The full study has every other sampler as shipped as well, and the default one without the head's proposal.
    """
    base = planner_named("cem")
    kinds = [("cem", base)]
    if size == "full":
        kinds += [("cem planner.propose=0", replace(base, propose=0.0))]
        kinds += [(name, planner_named(name)) for name in SAMPLERS]
    for candidates, iterations, horizon in product(*SIZES[size]):
        kinds.append(("cem", replace(base, candidates=candidates, iterations=iterations, horizon=horizon)))
    found, head = list[Tried](), parts.one_shot.head if parts.one_shot else None
    with load(parts.embodiment) as simulation:
        task = tasks.make(simulation, task_name)
        arena = Arena(task, task.pairs(num, VALIDATION_OFFSET + 1000 * seed))
        for name, kind in {repr(kind): (name, kind) for name, kind in kinds}.values():  # the default only once
            planner = Planner(kind, parts.planner.body, head=head).eval()
            history = parts.planner.body.history
            flown = arena.fly(searching(planner, seed), parts.encoder, history)
            ms = arena.decision_ms(searching(planner, seed), parts.encoder, history)
            reached = int(flown.reached_B.sum())
            found.append(Tried(name, kind.candidates, kind.iterations, kind.horizon, reached, num, round(ms, 2)))
            console.say(f"control: {parts.embodiment.name}, {name} {found[-1].size}: {reached} of {num}, {ms:.0f} ms")
    return found


def best_within(tried: Sequence[Tried], budget_ms: float) -> Tried | None:
    """Of those that decide in time the one that reaches most goals, of equals the fastest; None: none is in time."""
    in_time = [each for each in tried if each.ms <= budget_ms]
    return max(in_time, key=lambda each: (each.reached / each.trials, -each.ms), default=None)


def rows(where: str, tried: Sequence[Tried]) -> list[Row]:
    """Which size, and with it which horizon, a budget of time asks for; then every sampler and every size.

    The reference of a size is its time per decision [ms].
    """
    sizes = [each for each in tried if each.sampler == "cem"]
    found = []
    for budget_ms in BUDGETS_MS:
        best = best_within(sizes, budget_ms)
        label = f"{where}, within {budget_ms} ms: "
        found.append(Row(label + "no search", None) if best is None else _row(label + f"best is {best.size}", best))
    found += [_row(f"{where}, planner={each.sampler}: {each.size}", each) for each in tried if each.sampler != "cem"]
    return found + [_row(f"{where}, size of the search: {each.size}", each) for each in sizes]


def _row(label: str, tried: Tried) -> Row:
    share = wilson(tried.reached, tried.trials)
    return Row(label, share.value, n=tried.trials, low=share.low, high=share.high, reference=tried.ms)


def read(result: dict[str, Any]) -> dict[str, list[Tried]]:
    """The sizes in a saved result, by where they were tried."""
    found: dict[str, list[Tried]] = {}
    for row in result["rows"]:
        if match := _SIZE.match(row["metric"]):
            candidates, iterations, horizon = map(int, match.groups()[1:])
            reached, n, ms = round(row["value"] * row["n"]), row["n"], row["reference"]
            found.setdefault(match[1], []).append(Tried("cem", candidates, iterations, horizon, reached, n, ms))
    return found


def draw(where: str, tried: Sequence[Tried], path: Path) -> None:
    """Success against time per decision, a line per horizon, as an SVG that needs no style of a page."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "robot-wm", "font.size": 10}):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for index, horizon in enumerate(sorted({each.horizon for each in tried})):
            line = sorted((each for each in tried if each.horizon == horizon), key=lambda each: each.ms)
            shares = [wilson(each.reached, each.trials) for each in line]
            low = [100 * (share.value - share.low) for share in shares]
            high = [100 * (share.high - share.value) for share in shares]
            axes.errorbar(
                [each.ms for each in line], [100 * share.value for share in shares], [low, high], marker="o", ms=4,
                lw=1.4, elinewidth=0.6, color=_COLOURS[index % 4], linestyle=_DASHES[index % 4],
                label=f"horizon {horizon}",
            )  # fmt: skip
        axes.set(xscale="log", xlabel="time per decision, picture in to commands out [ms]", ylim=(0, 103))
        axes.set_ylabel("goals reached [%]")
        axes.set_title(f"{where}, {tried[0].trials} goals", fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="lower right")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the newest saved study; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.budget", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    chosen = parser.parse_args(argv)
    try:
        results = read_results(chosen.results)
        saved = [result for name in ("control-full", "control-quick") for result in reversed(results.get(name, []))]
        studies = next((found for result in saved if (found := read(result))), None)
        if studies is None:
            raise UserError(f"{chosen.results} has no study of sizes", "Run robot-wm bench control save=true first")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    where, tried = next(iter(studies.items()))
    draw(where, tried, chosen.picture)
    print(chosen.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
