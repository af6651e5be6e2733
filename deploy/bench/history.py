"""Saved results over time: a page that shows the newest of each benchmark, and what got worse by more than noise.

`python -m deploy.bench.history page` writes docs/results.md, `python -m deploy.bench.history compare` prints losses and
ends with exit code 1 when there is one (`make results`, `make bench-compare`).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_wm.contracts import files
from robot_wm.contracts.errors import UserError

RESULTS, PAGE = Path("benchmarks/results"), Path("docs/results.md")
_NOISE = 0.15  # of value or target, by which a row without an interval may differ between two runs on one machine
_HEAD = """# Results
The newest saved result of every benchmark, written by `make results` from `benchmarks/results/`; what a row means is \
said where its benchmark is described. *Before* is the saved result before it on the same kind of machine. A target \
that is missed says **no**; a row without a target is there to be read beside others.
"""


@dataclass(frozen=True)
class Loss:
    """A row that is worse than before by more than noise."""

    benchmark: str
    metric: str
    before: float
    now: float
    unit: str

    def __str__(self) -> str:
        unit = "" if self.unit == "1" else f" {self.unit}"
        return f"{self.benchmark}: {self.metric}: {self.before:.4g} before, {self.now:.4g}{unit} now"


def read_results(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """All saved results by `benchmark-size`, oldest first.

    Raises:
        UserError: no folder, or a file in it that no benchmark wrote.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder", "Save a result first: robot-wm bench NAME save=true")
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            result = json.loads(path.read_text())
            found.setdefault(f"{result['benchmark']}-{result['size']}", []).append(result)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is no saved result ({error})", "Remove it, or save the result again") from error
    return {name: sorted(results, key=lambda r: str(r["created_utc"])) for name, results in sorted(found.items())}


def losses(results: dict[str, list[dict[str, Any]]]) -> list[Loss]:
    """Rows of the newest result that are worse than in the one before, beyond intervals or the usual noise.

    Only results of the same machine are compared, and only rows that have a target: it says which side is better.
    """
    found = []
    for name, history in results.items():
        before = _before(history)
        if before is None:
            continue
        old = {row["metric"]: row for row in before["rows"]}
        for row in history[-1]["rows"]:
            if row["metric"] in old and _is_worse(old[row["metric"]], row):
                found.append(Loss(name, row["metric"], old[row["metric"]]["value"], row["value"], row["unit"]))
    return found


def page(results: dict[str, list[dict[str, Any]]]) -> str:
    """The results as Markdown."""
    parts = [_HEAD]
    for name, history in results.items():
        now, before = history[-1], _before(history)
        old = {row["metric"]: row for row in before["rows"]} if before else {}
        lines = [f"## {name.replace('-', ' ')}", ""]
        lines.append(f"`{now['command']}` · {now['machine']} · {now['created_utc'][:10]} · revision {_revision(now)}")
        lines += [
            "",
            "| what | value | 95 % | reference | target | met | n | before |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [_line(row, old.get(row["metric"])) for row in now["rows"]]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _before(history: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The newest earlier result of the same machine."""
    return next((r for r in reversed(history[:-1]) if r["machine"] == history[-1]["machine"]), None)


def _is_worse(old: dict[str, Any], new: dict[str, Any]) -> bool:
    if old["value"] is None or new["value"] is None or new["target"] is None:
        return False
    higher = _higher_is_better(new)
    if higher is None or (new["value"] >= old["value"]) == higher:
        return False
    if None not in (old["low"], old["high"], new["low"], new["high"]):
        return bool(new["high"] < old["low"] if higher else new["low"] > old["high"])
    return bool(abs(new["value"] - old["value"]) > _NOISE * max(abs(old["value"]), abs(new["target"])))


def _higher_is_better(row: dict[str, Any]) -> bool | None:
    if row["value"] == row["target"]:
        return None  # at its target either way
    return bool(row["met"]) == bool(row["value"] > row["target"])


def _line(row: dict[str, Any], old: dict[str, Any] | None) -> str:
    interval = "" if row["low"] is None else f"{row['low']:.3g} to {row['high']:.3g}"
    if row["low"] is not None and row["high"] is None:
        interval = f"from {row['low']:.3g}"
    unit = "" if row["unit"] == "1" else f" {row['unit']}"
    higher = _higher_is_better(row) if row["target"] is not None and row["value"] is not None else None
    sign = {None: "", True: "≥ ", False: "≤ "}[higher]
    cells = [
        row["metric"].replace("|", "\\|"),
        "not measured" if row["value"] is None else f"{row['value']:.4g}{unit}",
        interval,
        "" if row["reference"] is None else f"{row['reference']:.4g}",
        "" if row["target"] is None else f"{sign}{row['target']:.4g}",
        {None: "", True: "yes", False: "**no**"}[row["met"]],
        str(row["n"]),
        "" if old is None or old["value"] is None else f"{old['value']:.4g}",
    ]
    return f"| {' | '.join(cells)} |"


def _revision(result: dict[str, Any]) -> str:
    return str(result.get("revision") or "unknown")[:7]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page, or compare; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.history", description=__doc__)
    parser.add_argument("what", choices=("page", "compare"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    chosen = parser.parse_args(argv)
    try:
        results = read_results(chosen.results)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if chosen.what == "page":
        files.write_atomic(chosen.page, page(results).encode())
        print(chosen.page)
        return 0
    worse = losses(results)
    print("\n".join(map(str, worse)) or "nothing is worse than before by more than noise")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
