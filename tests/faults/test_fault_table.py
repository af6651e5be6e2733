"""Every row of the table of faults names tests, and each of them exists and is collected."""

import ast
import re
from pathlib import Path

TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


FAULTS = (
    "disk full", "cut off at any byte", "kill −9 before any change", "kill −9 at random", "out of memory", "no GPU",
    "GPU lost in the middle of training", "GPU lost in flight", "GL backend missing", "encoder or decoder missing",
    "clock jumps", "NaN in data", "NaN in a loss or a gradient", "exploding loss", "two processes on one run folder",
    "read-only folder", "names of files and folders in any script", "a dataset that grows",
)  # fmt: skip


def rows(repository: Path) -> dict[str, list[tuple[str, str]]]:
    """Fault to its tests, (file, function)."""
    text = (repository / "docs" / "trust.md").read_text(encoding="utf-8")
    table = text.partition("## Faults")[2].partition("\n## ")[0]
    lines = [line.split("|") for line in table.splitlines() if line.startswith("| ") and "---" not in line]
    return {cells[1].strip(): TEST.findall(cells[3]) for cells in lines[1:]}


def test_every_row_has_a_test_that_exists(repository: Path) -> None:
    found = rows(repository)
    assert not [fault for fault in FAULTS if not any(row.startswith(fault) or fault in row for row in found)]
    for fault, tests in found.items():
        assert tests, fault
        for file, name in tests:
            tree = ast.parse((repository / file).read_text(encoding="utf-8"))
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{fault}: {name}"
