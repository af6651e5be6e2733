"""The few-shot benchmark is measured in parts: what is kept counts, and answers the questions."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from deploy.bench import few_shot as few_shots
from deploy.bench import parts as in_parts
from deploy.bench.bench import BenchConfig
from deploy.bench.few_shot import Outcome, Part, few_shot, parts
from robot_wm.contracts import files

SUCCESS = {
    Part("fetch", 50): 0.8, Part("fetch", 500): 0.9, Part("fetch", 5000): 0.96,
    Part("fetch", 50, pretrained=False): 0.1, Part("fetch", 200, pretrained=False): 0.5,
    Part("fetch", 500, pretrained=False): 0.9,
    Part("fetch", 500, log="model", severity=1): 0.2, Part("fetch", 500, log="twin", severity=1): 0.7,
    Part("fetch", 2000, log="twin", severity=1): 0.8,
}  # fmt: skip


ADAPTERS = {"learned": 0.05, "kinematic": 0.04}


def keep(folder: Path, parts: dict[Part, float]) -> None:
    (folder / "parts").mkdir(parents=True)
    for part, success in parts.items():
        kept = Outcome(
            part, (0.01, 0.02), (0.08, 0.18), success, success - 0.1, success + 0.02, 50, 60.0, "abc", ADAPTERS
        )
        files.write_json(folder / "parts" / f"{part.name}.json", asdict(kept))


def test_parts_that_are_kept_are_read_and_answer_the_questions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_parts, "_begin", ends_at_once)
    keep(tmp_path / "bench" / "few-shot-full-0", SUCCESS)
    rows = {row.metric: row for row in few_shot(BenchConfig("few-shot", "full", out=str(tmp_path), minutes=1))}
    said = " ".join(capsys.readouterr().err.split())
    assert f"{len(SUCCESS)} of {len(parts('full'))} parts measured; the rest takes about" in said
    assert "so101-500-pretrained failed: no such robot" in said
    compared = rows["fetch-50-pretrained: kinematic adapter after a short fit, beside the learned one"]
    assert (compared.value, compared.reference) == (0.04, 0.05)
    assert rows["fetch-50-pretrained: success"].value == 0.8 and "so101-500-pretrained: success" not in rows
    assert rows["fetch: success with 500 over that with 5,000"].value == pytest.approx(0.9375)
    fewer = rows["fetch: times fewer labels than from scratch for the same success"]
    assert fewer.value == 10 and fewer.met, "500 from scratch do what 50 do"
    assert rows["severity 1: share of the gap closed"].value == pytest.approx(5 / 6)
    assert rows["panda: success with 500 over that with 5,000"].met is False, "not measured is not met"


def ends_at_once(module: str, folder: Path, part: Part, config: BenchConfig) -> "subprocess.Popen[bytes]":
    with (folder / "parts" / f"{part.name}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.exit('no such robot')"], stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip


def test_while_the_largest_log_is_not_measured_the_share_is_a_lower_bound(tmp_path: Path) -> None:
    few = {part: success for part, success in SUCCESS.items() if part.transitions < 5000}
    outcomes = {p: Outcome(p, (0.0, 0.0), (0.0, 0.0), s, s - 0.1, s + 0.02, 50, 1.0, None) for p, s in few.items()}
    row = few_shots._share("fetch", outcomes)
    assert row.value == 0.9 and "at least" in row.metric


def test_what_is_not_measured_from_scratch_counts_as_if_it_had_the_success() -> None:
    few = {Part("fetch", 50): 0.8, Part("fetch", 500, pretrained=False): 0.9, Part("fetch", 50, pretrained=False): 0.1}
    outcomes = {p: Outcome(p, (0.0, 0.0), (0.0, 0.0), s, s - 0.1, s + 0.02, 50, 1.0, None) for p, s in few.items()}
    row = few_shots._times_fewer("fetch", outcomes)
    assert row.value == 4 and "at least" in row.metric and not row.met, "200 might have done"


def test_every_part_has_a_file_of_its_own_and_a_body_is_done_before_the_next() -> None:
    every = parts("full")
    assert len({part.name for part in every}) == len(every)
    first = [part.body for part in every[:15]]
    assert first == sorted(first, key=("fetch", "so101", "panda").index)


def test_success_at_the_floor_compares_nothing() -> None:
    few = {Part("panda", 100): 0.1, Part("panda", 2000, pretrained=False): 0.08}
    outcomes = {p: Outcome(p, (0.0, 0.0), (0.0, 0.0), s, s - 0.1, s + 0.02, 50, 1.0, None) for p, s in few.items()}
    assert few_shots._times_fewer("panda", outcomes).value is None
