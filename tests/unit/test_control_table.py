"""The table of `bench control`: seeds are put together, what is not measured is not met, and failures are sorted."""

from pathlib import Path

import pytest

from deploy.bench.control_page import write_page
from deploy.bench.control_parts import Outcome, Part, parts
from deploy.bench.control_table import table_of
from deploy.bench.failure_modes import Evidence
from deploy.bench.flights import Found, film_folder
from deploy.bench.result import Row

AT, ELSEWHERE = (0.0, 0.0, 0.0), (0.2, 0.0, 0.0)


def misread(seed: int) -> Evidence:
    return Evidence(seed, 0.05, hand=ELSEWHERE, goal=AT, read=ELSEWHERE, predicted=ELSEWHERE, better=ELSEWHERE)


def found(way: str, reached: int, of: int = 10, first: int = 0, ms: float | None = None) -> Found:
    pairs = tuple(range(first, first + of))
    hit = tuple(index < reached for index in range(of))
    failures = tuple(misread(pair) for pair, there in zip(pairs, hit, strict=True) if not there)
    return Found(way, pairs, hit, hit, (0.0,) * of, ms, () if way in ("random", "hold", "oracle") else failures)


def outcome(part: Part, *rows: Found) -> tuple[Part, Outcome]:
    return part, Outcome(part, rows, (), 1.0, None)


def nominal(
    labels: int, reached: int, body: str = "fetch", pretrained: bool = True, seed: int = 0
) -> tuple[Part, Outcome]:
    part = Part(body, "reach", "nominal", labels, pretrained, seed)
    first = 100 * seed
    ways = [found("search", reached, first=first, ms=50.0), found("head", reached - 1, first=first, ms=5.0)]
    return outcome(part, *ways, found("told", 10, first=first))


REFERENCES = outcome(Part("fetch", "reach", "references"), found("random", 0), found("hold", 0), found("oracle", 9))


def rows_of(*outcomes: tuple[Part, Outcome], wanted: list[Part] | None = None) -> dict[str, Row]:
    there = dict(outcomes)
    return {row.metric: row for row in table_of(there, list(there) if wanted is None else wanted)}


def test_seeds_are_put_together_beside_the_oracle() -> None:
    rows = rows_of(nominal(1000, 8), nominal(1000, 6, seed=1), REFERENCES)
    row = rows["fetch reach, 1000 labels: search"]
    assert (row.value, row.n, row.reference, row.target, row.met) == (0.7, 20, 0.9, 0.98, False)
    assert row.low is not None and row.low < 0.7 < row.high  # type: ignore[operator]
    assert rows["fetch reach: oracle"].value == 0.9
    assert rows["fetch reach, 1000 labels: told"].met


def test_what_is_not_measured_is_not_met() -> None:
    missing = Part("heron", "reach", "nominal", 1000)
    rows = rows_of(nominal(1000, 10), wanted=[nominal(1000, 10)[0], missing])
    assert rows["heron reach, 1000 labels: search"].value is None
    assert rows["heron reach, 1000 labels: search"].met is False


def test_head_against_search() -> None:
    rows = rows_of(nominal(1000, 9))
    assert rows["fetch reach, 1000 labels: head alone less search"].value == pytest.approx(-0.1)
    assert rows["fetch reach, 1000 labels: head alone less search"].met is False
    assert rows["fetch reach, 1000 labels: time of a search over the head's"].value == 10


def test_pretraining_against_from_scratch() -> None:
    rows = rows_of(nominal(100, 6), *(nominal(n, k, pretrained=False) for n, k in ((100, 2), (300, 2), (1000, 7))))
    row = rows["fetch reach: times fewer labels than from scratch for the same success"]
    assert row.value == 10 and row.met


def test_conditions_and_far_goals_are_shares_of_what_they_were_without() -> None:
    unseen = outcome(Part("fetch", "reach", "unseen", 1000), found("light", 8), found("camera", 4))
    far = outcome(
        Part("fetch", "reach", "far", 1000),
        *(found(f"{distance} × horizon, search", reached) for distance, reached in ((1, 10), (2, 9), (4, 7))),
    )  # fmt: skip
    rows = rows_of(nominal(1000, 8), unseen, far)
    assert rows["fetch reach, 1000 labels: light unseen, share of nominal"].met
    assert rows["fetch reach, 1000 labels: camera unseen, share of nominal"].value == 0.5
    assert rows["fetch reach, 1000 labels: goals 2 × the horizon away, share of near"].met
    assert rows["fetch reach, 1000 labels: goals 4 × the horizon away, share of near"].met is False


def test_joint_commands_against_cartesian_ones() -> None:
    rows = rows_of(nominal(1000, 9), nominal(1000, 8, body="fetch_joints"))
    row = rows["fetch reach: by joint positions less by the gripper's velocity"]
    assert (row.value, row.reference) == (pytest.approx(-0.1), 0.9)


def test_failures_are_sorted_by_cause_and_the_oracle_is_asked() -> None:
    rows = rows_of(nominal(1000, 8), REFERENCES)  # the oracle misses the last of the pairs, the model the last two
    assert rows["fetch reach, 1000 labels: search: failures by perception"].value == 0.5
    assert rows["fetch reach, 1000 labels: search: failures by reach"].value == 0.5


def test_the_page_links_the_films_of_every_failure_under_its_cause(tmp_path: Path) -> None:
    part, what = nominal(1000, 8)
    films = film_folder(tmp_path / "films" / part.name, "search")
    films.mkdir(parents=True)
    for name in ("0-reached", "8-missed", "9-missed"):
        (films / f"{name}.mp4").write_bytes(b"film")
    text = write_page(tmp_path, dict([(part, what), REFERENCES])).read_text()
    assert "fetch reach, 1000 labels: search: 8 of 10" in text and "reach: random" not in text
    perceived, _, unreachable = text.partition("<strong>reach, 1</strong>")
    assert "<strong>perception, 1</strong> of 2 failures" in perceived
    assert f'href="films/{part.name}/search/8-missed.mp4"' in perceived
    assert f'href="films/{part.name}/search/9-missed.mp4"' in unreachable


@pytest.mark.parametrize("size", ["quick", "full"])
def test_every_part_has_a_file_of_its_own(size: str) -> None:
    every = parts(size, 0)
    assert len({part.name for part in every}) == len(every)
    assert all(part.minutes > 0 for part in every)


def test_each_row_of_the_table_is_measured_once_before_any_is_measured_again() -> None:
    every = parts("full", 5)
    first = [part for part in every if part.seed == 5]
    assert every[: len(first)] == first and {part.seed for part in every} == {5, 6, 7}
    assert {part.kind for part in first} == {"references", "nominal", "unseen", "far", "budget"}
    assert {(part.body, part.task) for part in first} >= {
        ("fetch_joints", "reach"),
        ("so101", "push"),
        ("ibis", "reach"),
    }
