"""Signs of failure: the one that tells is found on other pairs than judge it, and attempts are made once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.bench.failure_signs import guarded, judged, listen
from tests.faults.test_command_line_refusals import Workshop
from tests.faults.test_command_line_refusals import made as made
from tests.faults.test_command_line_refusals import workshop as workshop

PAIRS = 60


def attempts(seed: int = 0) -> list[dict[str, Any]]:
    """Four per pair; surprise is two deviations higher where one fails, and cost tells nothing."""
    rng, found = np.random.default_rng(seed), []
    for pair in np.repeat(np.arange(PAIRS), 4):
        failed = bool(rng.random() < 0.3)
        surprise = np.exp(0.5 * (rng.normal() + 2.0 * failed) + 0.05 * rng.normal(size=10))
        told = {"time_s": np.arange(10) / 5, "cost": rng.exponential(size=10), "surprise": surprise}
        found.append(
            {"pair": int(pair), "strength": 0.5, "failed": failed, "told": {k: v.tolist() for k, v in told.items()}}
        )
    return found


def test_the_sign_that_tells_is_found_and_its_alarms_are_as_said() -> None:
    rows = {row.metric: row for row in judged(attempts(), PAIRS)}
    assert rows["AUROC of failure: surprise"].value == pytest.approx(0.92, abs=0.05)
    assert rows["AUROC of failure: cost"].low < 0.5 < rows["AUROC of failure: cost"].high
    (told,) = (row for name, row in rows.items() if name.startswith("failures told by surprise"))
    (alarms,) = (row for name, row in rows.items() if name.startswith("false alarms by surprise"))
    assert told.value == pytest.approx(0.77, abs=0.15)
    assert alarms.low < 0.1 < alarms.high
    assert told.n + alarms.n == 2 * PAIRS
    parts = [row for name, row in rows.items() if name.startswith("share that failed")]
    assert parts[0].value < 0.1 < 0.6 < parts[-1].value
    (error,) = (row for name, row in rows.items() if "calibration error" in name)
    assert error.value < 0.35


def test_the_guards_limit_is_chosen_by_its_false_alarms() -> None:
    rows = {row.metric: row for row in guarded(attempts(), PAIRS, limit=1e6)}
    (never,) = (row for name, row in rows.items() if "as the body's yaml has it" in name and "failures" in name)
    (alarms,) = (row for name, row in rows.items() if "so chosen" in name and "false alarms" in name)
    assert never.value == 0
    assert alarms.low < 0.1 < alarms.high


def test_nothing_is_said_where_nothing_failed() -> None:
    heard = [{**line, "failed": False} for line in attempts()]
    assert [row.value for row in judged(heard, PAIRS)] == [None]
    assert guarded(heard, PAIRS, 2.0) == []


def test_attempts_are_made_once(workshop: Workshop, tmp_path: Path) -> None:
    file = tmp_path / "signs.jsonl"
    found = listen(Path("bundle"), "mine/embodiment/crane.yaml", file, 1, 0)
    assert [line["pair"] for line in found] == [0, 0, 0, 0]
    assert {"time_s", "cost", "uncertainty", "away", "jump"} <= set(found[0]["told"])
    assert len({len(values) for values in found[0]["told"].values()}) == 1
    before = file.read_text()
    assert listen(Path("bundle"), "mine/embodiment/crane.yaml", file, 1, 0) == found
    assert file.read_text() == before
