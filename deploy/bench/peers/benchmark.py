"""`robot-wm bench peers`: every method is a part of its own; one that cannot be had is a row that says why."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from deploy.bench import parts as in_parts
from deploy.bench.bench import BenchConfig
from deploy.bench.calibrated import calibrated, recorded
from deploy.bench.peers import identification
from deploy.bench.peers.contest import Contest, Outcome
from deploy.bench.peers.environment import last_line
from deploy.bench.peers.methods import IDENTIFICATION, METHODS, NOT_MEASURED, ROOM, TWO_ROOM, Method, methods_of
from deploy.bench.peers.verdicts import rows_of
from deploy.bench.result import Row
from robot_wm.contracts import files
from robot_wm.contracts.config import from_mapping
from robot_wm.contracts.errors import UserError

_MODULE = "deploy.bench.peers.benchmark"
_QUICK = ("fit.steps=60", "head.steps=60", "reading.steps=0")  # shows that everything works, and no more
_QUICK_SCRATCH = ("fit.encoder_steps=20",)
_LONGEST_S = 3 * 3600  # of a method, in its own environment


@dataclass(frozen=True)
class _Amount:
    bodies: tuple[str, ...]
    transitions: int
    pairs: int
    budget_s: float


_AMOUNTS = {
    "quick": _Amount(("fetch",), 60, 5, 4.0),
    "full": _Amount(("fetch", "fetch_push"), 2000, 100, 300.0),
}
_LEAST = 50  # labels: fewer are no log


@dataclass(frozen=True)
class Part:
    """One method on one body."""

    body: str
    method: str
    budget_s: float

    @property
    def name(self) -> str:
        return f"{self.body}-{self.method}"

    @property
    def minutes(self) -> float:
        """About how long it takes."""
        return 5.0 if self.method == IDENTIFICATION else methods_of(self.body)[self.method].minutes


def parts(size: str, _: int = 0) -> list[Part]:
    """All methods, a body at a time; what downloads packages is only part of `full`."""
    amount = _AMOUNTS[size]
    names = [name for name, method in METHODS.items() if size == "full" or method.environment is None]
    found = [Part(body, name, amount.budget_s) for body in amount.bodies for name in names]
    if size == "full":
        found += [Part(ROOM, name, amount.budget_s) for name in TWO_ROOM] + [Part("so101", IDENTIFICATION, 0.0)]
    return found


def peers(config: BenchConfig) -> list[Row]:
    """Success, labels, training, time per plan, memory and parameters of every method, on the same pairs.

    Every method is measured in a process of its own, one per core with a thread each (one at a time where there is a
    GPU), with the packages of its own environment where it needs some; `size=full` downloads those from PyPI. What is
    measured is kept; the same command goes on with the rest and tries again what failed.
    """
    wanted = parts(config.size)
    at_once = 1 if torch.cuda.is_available() else in_parts.AT_ONCE
    folder = in_parts.work_off(_MODULE, wanted, config, at_once)
    found = in_parts.read(folder, wanted, Outcome)
    reasons = {part: _reason(folder, part) for part in wanted if part not in found}
    if config.size == "quick":
        apart = [Part(_AMOUNTS["quick"].bodies[0], n, 0.0) for n, method in METHODS.items() if method.environment]
        reasons |= dict.fromkeys(apart, "not measured: size=full installs it from PyPI")
    rows = rows_of(
        {(p.body, p.method): outcome for p, outcome in found.items()},
        {(p.body, p.method): reason for p, reason in reasons.items()},
        judged=config.size == "full",
    )
    return rows + [Row(text, None) for text in NOT_MEASURED if config.size == "full"]


def contest_of(folder: Path, part: Part, size: str, seed: int) -> Contest:
    """What the method of a part is given; recorded and calibrated where that has not been done yet."""
    amount, method = _AMOUNTS[size], methods_of(part.body)[part.method]
    if part.body == ROOM:
        return Contest(ROOM, "", amount.transitions, amount.pairs, amount.budget_s, seed, str(folder / "cache"))
    data = recorded(folder, part.body, amount.transitions, seed)
    labels = max(_LEAST, round(method.share * amount.transitions))
    contest = Contest(
        part.body, str(data), labels, amount.pairs, amount.budget_s, seed, str(folder / "cache"), quick=size == "quick"
    )
    if not method.calibrated:
        return contest
    pretrained = method.calibrated == "pretrained"
    more = (*_QUICK, *(() if pretrained else _QUICK_SCRATCH)) if size == "quick" else ()
    model = calibrated(folder, part.body, labels, seed, [f"data={data}"], pretrained, more)
    return replace(contest, calibration=str(model))


def _measure(folder: Path, part: Part, size: str, seed: int) -> Outcome:
    if part.method == IDENTIFICATION:
        return identification.measure(seed)
    method, contest = methods_of(part.body)[part.method], contest_of(folder, part, size, seed)
    if method.environment is None:
        return method.run(contest)
    return _elsewhere(method, contest, method.environment.python(), part.method, folder)


def _elsewhere(method: Method, contest: Contest, python: Path, name: str, folder: Path) -> Outcome:
    """The method in the interpreter of its own environment."""
    answer = folder / f"{contest.body}-{name}.answer.json"
    words = [
        str(python),
        "-P",
        "-W",
        "ignore",
        "-m",
        __name__,
        "--method",
        name,
        json.dumps(asdict(contest)),
        str(answer),
    ]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            timeout=_LONGEST_S, cwd=folder,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise UserError(f"not run to its end within {_LONGEST_S / 3600:g} hours", "Give it a faster machine") from error
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise UserError(last_line(done.stderr, done.returncode), "Its log says more")
    return from_mapping(Outcome, files.read_json(answer))


def _reason(folder: Path, part: Part) -> str:
    """Why a part has not been measured: the last line that its process wrote, if it failed."""
    log = in_parts.kept(folder, part).with_suffix(".log")
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1][:200].removeprefix("error: ") if lines and "rror" in lines[-1] else "not measured yet"


def main(words: Sequence[str]) -> None:
    """Measure one part, or, in its own environment, one method."""
    if words[0] != "--method":
        in_parts.measure_one(words, parts, _measure)
        return
    contest = from_mapping(Contest, json.loads(words[2]))
    try:
        files.write_json(Path(words[3]), asdict(methods_of(contest.body)[words[1]].run(contest)))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
