"""The study of search sizes: what is best within a time, and a saved study read and drawn again."""

import json
from pathlib import Path

import pytest

from deploy.bench import budget
from deploy.bench.bench import BenchConfig
from deploy.bench.budget import Tried, best_within, planner_named
from robot_wm.planning.samplers import ICEM, MPPI, Gradient

TRIED = [
    Tried("cem", 16, 1, 1, 12, 20, 4.0),
    Tried("cem", 128, 3, 2, 19, 20, 17.0),
    Tried("cem", 128, 3, 4, 18, 20, 30.0),
    Tried("cem", 256, 5, 2, 19, 20, 45.0),
    Tried("mppi", 128, 3, 2, 20, 20, 5.0),
]


def test_the_budget_chooses_the_size_and_with_it_the_horizon() -> None:
    assert best_within(TRIED[:4], 3) is None
    assert best_within(TRIED[:4], 10) == TRIED[0]
    assert best_within(TRIED[:4], 100) == TRIED[1], "as good as the largest, and sooner"
    rows = {row.metric: row for row in budget.rows("fetch", TRIED)}
    assert rows["fetch, within 10 ms: best is 16 × 1 × 1"].value == 0.6, "other samplers are rows of their own"
    assert rows["fetch, within 50 ms: best is 128 × 3 × 2"].reference == 17.0
    assert rows["fetch, planner=mppi: 128 × 3 × 2"].value == 1


def test_a_saved_study_is_read_back_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row.to_json() for row in budget.rows("fetch reach", TRIED)]
    assert budget.read({"rows": rows}) == {"fetch reach": TRIED[:4]}
    saved = {"benchmark": "control", "size": "quick", "created_utc": "2026-12-01", "rows": rows}
    (tmp_path / "control-quick.json").write_text(json.dumps(saved))
    picture = tmp_path / "site" / "budget.svg"
    assert budget.main(["--results", str(tmp_path), "--picture", str(picture)]) == 0
    drawn = picture.read_text()
    assert "horizon 4" in drawn and "fetch reach, 20 goals" in drawn
    assert budget.main(["--results", str(tmp_path), "--picture", str(picture)]) == 0
    assert picture.read_text() == drawn, "the same result, the same picture"


def test_without_a_study_it_says_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert budget.main(["--results", str(tmp_path)]) == 2
    assert "bench control save=true" in capsys.readouterr().err
    assert BenchConfig("control").size == "quick", "which that command runs"


def test_every_planner_that_ships_can_be_had_by_name() -> None:
    kinds = {name: planner_named(name).sampler for name in ("icem", "mppi", "gradient")}
    assert [type(kind) for kind in kinds.values()] == [ICEM, MPPI, Gradient]
