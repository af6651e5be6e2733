"""A page of films: what reached its goal and what did not, the failures of every row sorted by what caused them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.bench.control_parts import Outcome, Part
from deploy.bench.control_table import Line, lines_of, oracle_of
from deploy.bench.failure_modes import MODES
from deploy.bench.flights import film_folder
from robot_wm.page import page

PAGE = "failures.html"


@dataclass(frozen=True)
class Cause:
    """One mode of a row: how many failures it has, and the films of them."""

    mode: str
    sentence: str
    count: int
    films: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Section:
    """One row of the table: successes, trials, films of successes, and failures by cause."""

    label: str
    reached: int
    trials: int
    films: tuple[tuple[str, str], ...]
    causes: tuple[Cause, ...]


def write_page(folder: Path, found: Mapping[Part, Outcome]) -> Path:
    """Write `failures.html` beside the films; returns its path."""
    lines = [line for line in lines_of(found) if not line.is_reference]
    everyone = lines_of(found)
    sections = [_section(folder, line, everyone, found) for line in lines]
    return page.write_page(folder / PAGE, "deploy.bench", "control.html", sections=sections)


def _section(folder: Path, line: Line, lines: list[Line], found: Mapping[Part, Outcome]) -> Section:
    there = _films(folder, line, found)
    asked, by_mode = oracle_of(line, lines), dict[str, list[int]]()
    for evidence in line.found.failures:
        mode = evidence.mode(asked.get(evidence.pair_seed, True))
        by_mode.setdefault(mode, []).append(evidence.pair_seed)
    missed = {seed: path for (seed, outcome), path in there.items() if outcome == "missed"}
    causes = [
        Cause(mode, MODES[mode], len(seeds), tuple((str(s), missed[s]) for s in seeds if s in missed))
        for mode, seeds in sorted(by_mode.items(), key=lambda item: -len(item[1]))
    ]
    reached = tuple((str(seed), path) for (seed, outcome), path in sorted(there.items()) if outcome == "reached")
    return Section(line.label, sum(line.found.reached), len(line.found.reached), reached, tuple(causes))


def _films(folder: Path, line: Line, found: Mapping[Part, Outcome]) -> dict[tuple[int, str], str]:
    """Of this row, by the pair's seed and outcome: paths as seen from the page."""
    films, asked = {}, (line.body, line.task, line.labels, line.pretrained)
    for part, outcome in found.items():
        mine = (part.body, part.task, part.labels, part.pretrained) == asked
        if mine and line.found.way in [row.way for row in outcome.rows]:
            for path in film_folder(folder / "films" / part.name, line.found.way).glob("*.mp4"):
                seed, _, word = path.stem.partition("-")
                films[int(seed), word] = path.relative_to(folder).as_posix()
    return films
