"""A saved result of `robot-wm bench peers` as tables for a page: `python -m deploy.bench.peers.page RESULT.json`."""

import json
import sys
from pathlib import Path
from typing import Any

from deploy.bench.peers.methods import METHODS, ROOM, TWO_ROOM
from robot_wm.contracts.errors import UserError

COLUMNS = {
    "success": "success (95 %)", "labels": "labels", "training": "training", "training speed": "samples/s",
    "one plan": "one plan", "memory": "memory", "parameters": "parameters",
}  # fmt: skip
_TITLES = {"fetch": "FetchReach-v4", "fetch_push": "FetchPush-v4", ROOM: "Two-Room"}


def tables(result: dict[str, Any]) -> str:
    """Markdown: a table for each body, a line for each method, and below it what was not measured and why.

    Raises:
        UserError: not a result of this benchmark.
    """
    if result.get("benchmark") != "peers":
        raise UserError(f"a result of {result.get('benchmark')!r}", "Give one of: benchmarks/results/peers-*.json")
    parts = [f"`{result['command']}` · {result['machine']} · {result['created_utc'][:10]}"]
    for body, title in _TITLES.items():
        methods = TWO_ROOM if body == ROOM else METHODS
        lines, absent = [], []
        for method in methods.values():
            rows = [row for row in result["rows"] if row["metric"].startswith(f"{body}: {method.shown}")]
            told = {row["metric"].rsplit(": ", 1)[1]: row for row in rows if row["value"] is not None}
            if "success" in told:
                lines.append("| " + " | ".join([method.shown, *(_cell(told.get(c)) for c in COLUMNS)]) + " |")
            absent += [row["metric"] for row in rows if row["value"] is None and "ahead of" not in row["metric"]]
        if lines or absent:
            head = f"| {title} | {' | '.join(COLUMNS.values())} |\n|{'---|' * (len(COLUMNS) + 1)}"
            parts.append("\n".join([head, *lines]) + "".join(f"\n\n- {reason}" for reason in absent))
    return "\n\n".join(parts) + "\n"


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if row["low"] is not None:
        share, low, high = (round(100 * row[name]) for name in ("value", "low", "high"))
        return f"{round(row['value'] * row['n'])} of {row['n']}, {share} % ({low} to {high})"
    number = f"{row['value']:,.0f}" if row["value"] >= 100 else f"{row['value']:.3g}"
    return number + ("" if row["unit"] in ("1", "samples/s") else f" {row['unit']}")


if __name__ == "__main__":
    try:
        print(tables(json.loads(Path(sys.argv[1]).read_text())), end="")
    except UserError as error:
        sys.exit(f"error: {error}")
