"""The few-shot benchmark is measured in parts: what is kept counts, what does not fit into the minutes waits."""

from dataclasses import asdict
from pathlib import Path

import pytest

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


def test_parts_that_are_kept_are_read_and_none_begins_that_would_not_end_in_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = BenchConfig("few-shot", "full", out=str(tmp_path), minutes=0.5)
    folder = tmp_path / "bench" / "few-shot-full-0" / "parts"
    folder.mkdir(parents=True)
    for part, success in SUCCESS.items():
        kept = Outcome(part, (0.01, 0.02), (0.08, 0.18), success, success - 0.1, success + 0.02, 50, 60.0, "abc")
        files.write_json(folder / f"{part.name}.json", asdict(kept))
    rows = {row.metric: row for row in few_shot(config)}
    assert f"{len(SUCCESS)} of {len(parts('full'))} parts measured; the rest takes about" in capsys.readouterr().err
    assert rows["fetch-50-pretrained: success"].value == 0.8 and rows["so101-500-pretrained: success"].value is None
    assert rows["fetch: success with 500 over that with 5,000"].value == pytest.approx(0.9375)
    fewer = rows["fetch: times fewer labels than from scratch for the same success"]
    assert fewer.value == 10 and fewer.met, "500 from scratch do what 50 do"
    assert rows["severity 1: share of the gap closed"].value == pytest.approx(5 / 6)
    assert rows["panda: success with 500 over that with 5,000"].met is False, "not measured is not met"


def test_every_part_has_a_file_of_its_own_and_ends_in_a_window() -> None:
    every = parts("full")
    assert len({part.name for part in every}) == len(every)
    assert max(part.minutes for part in every) < 20
