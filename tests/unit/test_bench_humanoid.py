"""What bench humanoid measures where the real log is missing, and its verdict over parts."""

from pathlib import Path

import pytest

from deploy.bench import humanoid
from deploy.bench.result import Row


def test_without_the_real_log_the_simulated_parts_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOT_WM_TEST_DATA", str(tmp_path))
    assert [part.name for part in humanoid.parts("quick")] == ["standing"]
    assert [part.name for part in humanoid.parts("full")] == ["standing", "held-0", "held-1", "held-2"]
    (tmp_path / "g1_bottle").mkdir()
    names = [part.name for part in humanoid.parts("full")]
    assert len(names) == len(set(names)) == 10 and "g1-commands" in names


@pytest.mark.parametrize(("mine", "met"), [(0.03, True), (0.05, False)])
def test_few_labels_are_judged_beside_the_best_from_scratch(mine: float, met: bool) -> None:
    name = "G1 joints 4 steps ahead, {}, with commands"
    rows = [
        Row(name.format("1000 transitions"), mine, "rad", better="lower"),
        Row(name.format("from scratch on 1000 transitions"), 0.06, "rad", better="lower"),
        Row(name.format("from scratch on 2563 transitions"), 0.04, "rad", better="lower"),
    ]
    (verdict,) = humanoid._verdict(rows)
    assert verdict.met is met and "2563 transitions" in verdict.metric
    assert humanoid._verdict(rows[:1]) == []
