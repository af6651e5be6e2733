"""Benchmark rows: verdicts are computed, and the JSON has the promised shape."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from deploy import cli
from deploy.bench import bench
from deploy.bench.result import COLUMNS, Row, table
from robot_wm.contracts.errors import UserError


@pytest.mark.parametrize(
    ("value", "target", "better", "met"),
    [
        (0.5, 0.5, "higher", True),
        (0.49, 0.5, "higher", False),
        (0.49, 0.5, "lower", True),
        (0.51, 0.5, "lower", False),
        (np.float64(0.5), np.float64(0.4), "higher", True),  # NumPy's own truth cannot be written as JSON
        (0.5, None, "higher", None),
        (None, 0.5, "higher", False),
        (None, None, "lower", None),
    ],
)
def test_met_follows_from_value_target_and_direction(
    value: float | None, target: float | None, better: str, met: bool | None
) -> None:
    assert Row("x", value, target=target, better=better).met is met  # type: ignore[arg-type]


def test_met_cannot_be_typed() -> None:
    with pytest.raises(TypeError):
        Row("x", 1.0, met=True)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["value", "low", "high", "reference", "target"])
def test_numbers_are_finite(name: str) -> None:
    with pytest.raises(UserError, match=name):
        Row(**{"metric": "x", "value": 1.0, name: float("nan")})


def test_table_shows_direction_and_verdict() -> None:
    shown = table([Row("latency", 12.3456, unit="ms", n=50, target=20, better="lower"), Row("count", 3)]).splitlines()
    assert shown[0].split() == ["metric", "value", "target", "met", "n", "unit"]
    assert shown[2].split() == ["latency", "12.35", "≤", "20", "yes", "50", "ms"]
    assert shown[3].split() == ["count", "3", "1"]


def measured(config: bench.BenchConfig) -> list[Row]:
    return [Row("success", 0.8, n=25, low=0.6, high=0.9, reference=0.1, target=0.5), Row("wall time", 61.5, unit="s")]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setitem(sys.modules, "toy_benchmark", sys.modules[__name__])
    monkeypatch.setitem(bench.BENCHMARKS, "toy", ("toy_benchmark", "measured"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_json_has_rows_of_exactly_these_keys_and_the_circumstances(
    toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", "toy", "size=full", "seed=3", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [tuple(row) for row in shown["rows"]] == [COLUMNS, COLUMNS]
    assert shown["rows"][0]["met"] is True
    assert shown["rows"][1]["target"] is None
    assert shown["rows"][1]["met"] is None
    assert (shown["size"], shown["seed"]) == ("full", 3)
    assert {"machine", "versions", "revision", "command"} <= set(shown)
    assert not (toy / "benchmarks").exists()


def test_saved_result_is_what_was_measured(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "toy", "save=true"]) == 0
    saved = toy / capsys.readouterr().out.splitlines()[-1]
    assert json.loads(saved.read_text())["rows"][0] == measured(bench.BenchConfig("toy"))[0].to_json()


def test_unknown_benchmark_names_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "speed"]) == 2
    assert "pipeline, parity" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(bench.BENCHMARKS))
def test_every_benchmark_is_where_the_table_says(name: str) -> None:
    module, function = bench.BENCHMARKS[name]
    assert callable(getattr(__import__(module, fromlist=[function]), function))
