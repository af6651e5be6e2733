"""What a benchmark returns: rows whose verdict is computed, and the circumstances of the measurement."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from robot_wm.contracts.config import to_mapping
from robot_wm.contracts.errors import UserError

COLUMNS = ("metric", "value", "low", "high", "reference", "target", "met", "n", "unit")


@dataclass(frozen=True)
class Row:
    """One measured number.

    Attributes:
        metric: what was measured.
        value: the number, None when it could not be measured.
        unit: its unit; `1` for shares and counts.
        n: how many independent measurements it rests on.
        low, high: 95 % interval, where there is one.
        reference: the number it is to be read beside (another method on the same pairs, say).
        target: the number to reach.
        better: the side of the target that counts as reached.
    """

    metric: str
    value: float | None
    unit: str = "1"
    n: int = 1
    low: float | None = None
    high: float | None = None
    reference: float | None = None
    target: float | None = None
    better: Literal["higher", "lower"] = "higher"

    def __post_init__(self) -> None:
        for name in ("value", "low", "high", "reference", "target"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise UserError(f"benchmark row {self.metric!r}: {name} is {number}", "Give a finite number or None")

    @property
    def met(self) -> bool | None:
        """Whether the target is reached: None without a target, False when there is a target but no value."""
        if self.target is None:
            return None
        if self.value is None:
            return False
        return bool(self.value >= self.target if self.better == "higher" else self.value <= self.target)  # not NumPy's

    def to_json(self) -> dict[str, Any]:
        """The row under exactly the names of COLUMNS."""
        return {name: getattr(self, name) for name in COLUMNS}


@dataclass(frozen=True)
class Result:
    """The rows of one benchmark, and how to get them again."""

    benchmark: str
    size: str
    seed: int
    rows: tuple[Row, ...]
    machine: str
    versions: dict[str, str]
    revision: str | None
    command: str
    created_utc: str
    wall_s: float

    def to_json(self) -> dict[str, Any]:
        """Strict JSON: `rows` first, the circumstances after."""
        circumstances = {key: value for key, value in to_mapping(self).items() if key != "rows"}
        return {"rows": [row.to_json() for row in self.rows], **circumstances}


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text under COLUMNS; targets carry their direction, columns without any entry are left out."""
    cells = [list(COLUMNS), *(_cells(row) for row in rows)]
    kept = [i for i in range(len(COLUMNS)) if any(line[i] for line in cells[1:])]
    widths = {i: max(len(line[i]) for line in cells) for i in kept}
    numbers = set(range(1, 6)) | {COLUMNS.index("n")}
    lines = [
        "  ".join(line[i].rjust(widths[i]) if i in numbers else line[i].ljust(widths[i]) for i in kept).rstrip()
        for line in cells
    ]
    lines.insert(1, "  ".join("─" * widths[i] for i in kept))
    return "\n".join(lines)


def _cells(row: Row) -> list[str]:
    verdict = {None: "", True: "yes", False: "NO"}[row.met]
    target = "" if row.target is None else {"higher": "≥ ", "lower": "≤ "}[row.better] + _number(row.target)
    measured = map(_number, (row.value, row.low, row.high, row.reference))
    return [row.metric, *measured, target, verdict, str(row.n), "" if row.unit == "1" else row.unit]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
