"""How well bodies are controlled that a model was only calibrated to, in parts that are kept (see `parts`)."""

import sys
import time
from pathlib import Path

from deploy.bench import budget, flights
from deploy.bench import parts as in_parts
from deploy.bench.bench import BenchConfig
from deploy.bench.budget import Tried, planner_named
from deploy.bench.calibrated import BODIES, calibrated, recorded
from deploy.bench.control_page import write_page
from deploy.bench.control_parts import LABELS, QUICK_LABELS, Outcome, Part, parts
from deploy.bench.control_table import table_of
from deploy.bench.flights import Found
from deploy.bench.result import Row
from robot_wm.contracts import run
from robot_wm.planning.controllable import load_controllable
from sims import catalog, gl

_PAIRS = {"quick": 20, "full": 100}


def control(config: BenchConfig) -> list[Row]:
    """The table of success by body, task, labels, way to decide and condition, beside its references and targets.

    Parts are measured one per core at a time, each in a process with one thread, and kept under `out` with their films
    and a page that sorts failures by what caused them; what `minutes` end goes on with the same command. Every part
    uses held-out pairs of its seed, but the study of sizes, which uses validation pairs: defaults are chosen by it.
    """
    wanted = parts(config.size, config.seed)
    folder = in_parts.work_off(__name__, wanted, config)
    found = in_parts.read(folder, wanted, Outcome)
    write_page(folder, found)
    return table_of(found, wanted)


def measure(folder: Path, part: Part, size: str, seed: int) -> Outcome:
    """Fly one part; recordings and calibrations are shared with the other parts.

    Raises:
        UserError: a stage refuses, or the body cannot do the task.
    """
    gl.choose_backend()
    began_s, num = time.monotonic(), _PAIRS[size]
    films, tried, rows = folder / "films" / part.name, list[Tried](), list[Found]()
    if part.kind == "references":
        rows = flights.references(catalog.find(part.body, [BODIES]), part.task, num, part.seed)
    else:
        log = recorded(folder, part.body, QUICK_LABELS if size == "quick" else max(LABELS), part.seed)
        calibration = calibrated(folder, part.body, part.labels, part.seed, [f"data={log}"], part.pretrained)
        learned = load_controllable(calibration, planner_named("cem"), ahead=0)
        if part.kind == "nominal":
            rows = flights.nominal(learned, part.task, num, part.seed, films)
        elif part.kind == "unseen":
            rows = flights.unseen_conditions(learned, part.task, num, part.seed, films)
        elif part.kind == "far":
            rows = flights.far(learned, num, part.seed, films)
        else:
            tried = budget.study(learned, part.task, num, part.seed, size)
    return Outcome(part, tuple(rows), tuple(tried), round(time.monotonic() - began_s, 1), run.git_revision())


def main(words: list[str]) -> None:
    """Measure one part and keep it: FOLDER NAME SIZE SEED."""
    in_parts.measure_one(words, parts, measure)


if __name__ == "__main__":
    main(sys.argv[1:])
