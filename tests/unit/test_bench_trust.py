"""What `bench trust` counts: tests that hold and not those that are gone, and what surprises the shipped model."""

from pathlib import Path

import pytest

from deploy.bench import trust
from deploy.bench.bench import BenchConfig

TABLE = "tests/faults/test_fault_table.py"


@pytest.mark.slow
def test_a_fault_is_survived_if_its_tests_are_there_and_hold(repository: Path) -> None:
    with trust._pytest(repository, [TABLE], "quick") as outcomes:
        found, inputs = outcomes()
    assert set(found.values()) == {"passed"}
    assert inputs == 0
    there, gone = f"{TABLE}::test_every_row_has_a_test_that_exists", f"{TABLE}::test_gone"
    rows = list(trust._survived([[there], [there, gone]], found, inputs))
    assert (rows[0].value, rows[0].n) == (1, 2)


@pytest.mark.slow
def test_every_kind_of_impossible_clip_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trust._PAIRS, "quick", 2)
    rows = [*trust._knows(BenchConfig("trust")), *trust._physics(BenchConfig("trust"))]
    kinds = len(trust.impossible.KINDS)
    assert sum(row.metric.startswith("impossible clip") for row in rows) == 2 * kinds + len(trust._TOLD)
    whole = rows[-len(trust._TOLD) :]
    assert [row.metric for row in whole] == list(trust._TOLD.values())
    assert {row.n for row in whole} == {2 * kinds}
    assert all(row.value is not None and row.low <= row.value <= row.high for row in whole)
