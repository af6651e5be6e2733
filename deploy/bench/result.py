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
        return self.value >= self.target if self.better == "higher" else self.value <= self.target

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


def formatted(rows: Sequence[Row]) -> list[list[str]]:
    """The rows as text for a table, in the order of COLUMNS; targets carry their direction."""
    verdict = {None: "", True: "yes", False: "NO"}
    sign = {"higher": "≥ ", "lower": "≤ "}
    return [
        [
            row.metric,
            *map(_number, (row.value, row.low, row.high, row.reference)),
            "" if row.target is None else sign[row.better] + _number(row.target),
            verdict[row.met],
            str(row.n),
            "" if row.unit == "1" else row.unit,
        ]
        for row in rows
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
