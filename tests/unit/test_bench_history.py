"""Saved results over time: the page, and what counts as a loss."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.bench import history
from robot_wm.contracts.errors import UserError


def row(value: float | None, target: float | None = 0.5, low: float | None = None, high: float | None = None,
        met: bool | None = True, metric: str = "success") -> dict[str, Any]:  # fmt: skip
    return {
        "metric": metric, "value": value, "low": low, "high": high, "reference": 0.1, "target": target,
        "met": met, "n": 25, "unit": "1",
    }  # fmt: skip


def saved(folder: Path, day: int, rows: list[dict[str, Any]], machine: str = "one") -> None:
    folder.mkdir(exist_ok=True)
    result = {
        "rows": rows, "benchmark": "pipeline", "size": "full", "machine": machine, "revision": "abcdef0123",
        "command": "robot-wm bench pipeline size=full", "created_utc": f"2026-11-{day:02d}T00:00:00+00:00",
    }  # fmt: skip
    (folder / f"pipeline-full-{day}.json").write_text(json.dumps(result))


def test_a_loss_is_what_intervals_do_not_share(tmp_path: Path) -> None:
    saved(tmp_path, 1, [row(0.9, low=0.8, high=0.95)])
    saved(tmp_path, 2, [row(0.7, low=0.6, high=0.79)])
    (found,) = history.losses(history.read_results(tmp_path))
    assert (found.before, found.now) == (0.9, 0.7)
    saved(tmp_path, 3, [row(0.65, low=0.5, high=0.8)])  # overlaps with the one before it
    assert history.losses(history.read_results(tmp_path)) == []


@pytest.mark.parametrize(
    ("before", "now", "target", "met", "is_loss"),
    [
        (30.0, 40.0, 50.0, True, True),  # lower is better: 40 meets a target of 50
        (30.0, 32.0, 50.0, True, False),  # within the usual noise
        (60.0, 40.0, 50.0, True, False),  # better than before
        (3.0, 2.0, 1.0, True, True),  # higher is better
        (3.0, 2.0, None, None, False),  # nobody said which side is better
    ],
)
def test_rows_without_an_interval(
    tmp_path: Path, before: float, now: float, target: float | None, met: bool | None, is_loss: bool
) -> None:
    saved(tmp_path, 1, [row(before, target, met=met)])
    saved(tmp_path, 2, [row(now, target, met=met)])
    assert bool(history.losses(history.read_results(tmp_path))) == is_loss


def test_results_of_another_machine_are_not_compared(tmp_path: Path) -> None:
    saved(tmp_path, 1, [row(3.0, 1.0)], machine="a GPU")
    saved(tmp_path, 2, [row(2.0, 1.0)])
    assert history.losses(history.read_results(tmp_path)) == []


def test_compare_ends_with_one_when_something_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path, 1, [row(3.0, 1.0)])
    assert history.main(["compare", "--results", str(tmp_path)]) == 0
    saved(tmp_path, 2, [row(2.0, 1.0)])
    assert history.main(["compare", "--results", str(tmp_path)]) == 1
    assert "success: 3 before, 2 now" in capsys.readouterr().out


def test_the_page_shows_values_intervals_targets_and_what_was_before(tmp_path: Path) -> None:
    saved(tmp_path, 1, [row(0.9, low=0.8, high=0.95)])
    saved(tmp_path, 2, [row(0.4, low=0.3, high=0.5, met=False), row(None, met=False, metric="of a GPU")])
    page = tmp_path / "results.md"
    assert history.main(["page", "--results", str(tmp_path), "--page", str(page)]) == 0
    text = page.read_text()
    assert "| success | 0.4 | 0.3 to 0.5 | 0.1 | ≥ 0.5 | **no** | 25 | 0.9 |" in text
    assert "| of a GPU | not measured |" in text
    assert "`robot-wm bench pipeline size=full`" in text


def test_what_no_benchmark_wrote_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match="no saved result"):
        history.read_results(tmp_path)


def test_the_committed_page_is_that_of_the_committed_results(repository: Path) -> None:
    results = history.read_results(repository / history.RESULTS)
    assert (repository / history.PAGE).read_text() == history.page(results), "run: make results"
