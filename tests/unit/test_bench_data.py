"""The data benchmarks: every method yields what it counts, and a peer that is not there is a row, not a crash."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from deploy.bench import data, data_wait, windows
from deploy.bench.bench import BenchConfig
from deploy.bench.peers import lance
from robot_wm.data.loader import ClipSet


def test_the_interval_of_a_median_covers_it_in_95_of_100_cases() -> None:
    random = np.random.default_rng(0)
    for num in (9, 15):
        found = [data.median(random.exponential(size=num).tolist()) for _ in range(2000)]
        covered = np.mean([low <= np.log(2) <= high for _, low, high in found])
        assert 0.94 < covered < 0.995
    assert data.median([3.0]) == (3.0, 3.0, 3.0)


def test_methods_copy_windows_of_one_episode(tmp_path: Path) -> None:
    film = windows.film_of(3, 12, 64, 64, 0)
    pack = windows.mapped(film, 5_000_000, tmp_path / "frames.npy")
    assert len(pack.frames_FYXC) % 36 == 0
    assert np.array_equal(pack.frames_FYXC[36:72], film.reshape(36, 64, 64, 3))
    for method in windows.bare(pack, 8).values():
        assert method() == 8
    assert windows.loader(windows.with_flow(pack), 8)() == 8
    assert windows.pyav(film, tmp_path / "films")() == 16
    clips = ClipSet([pack], windows.WINDOW, "cpu", [np.ones(len(pack.valid_F), np.bool_)])
    batch = clips.batch(8, torch.Generator().manual_seed(0), augment=False)
    assert (batch.frames_BTYXC[:, 0] != batch.frames_BTYXC[:, -1]).flatten(1).any(1).all()


def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    amount = data._Amount(2, 8, 1_000_000, 2, 0.001, 1)
    monkeypatch.setattr(data, "_AMOUNTS", {"quick": amount, "full": amount})
    monkeypatch.setattr(data, "_SIZES", (64,))
    monkeypatch.setattr(data, "_BATCH", 4)


@pytest.mark.parametrize("failure", ["install", "script", "time"])
def test_a_peer_that_cannot_be_measured_says_why(monkeypatch: pytest.MonkeyPatch, failure: str, tmp_path: Path) -> None:
    def fails(*_: object, **__: object) -> Path:
        if failure == "time":
            raise subprocess.TimeoutExpired("pip", 5)
        raise subprocess.CalledProcessError(1, "pip", stderr="noise\nERROR: No matching distribution found")

    if failure == "script":
        monkeypatch.setattr(lance, "_environment", lambda: Path("python"))
        monkeypatch.setattr(subprocess, "run", fails)
    else:
        monkeypatch.setattr(lance, "_environment", fails)
    found = lance.measure({64: windows.film_of(1, 4, 64, 64, 0)}, 4, 4, tmp_path)
    assert not found.rates
    assert ("timed out" if failure == "time" else "No matching distribution") in found.reason


def test_every_number_has_its_row_and_a_missing_peer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny(monkeypatch)
    monkeypatch.setattr(lance, "measure", lambda *_: lance.Found(reason="not measured (no network)"))
    rows = {row.metric: row for row in data.data(BenchConfig("data", "full"))}
    (lacking,) = [row for name, row in rows.items() if "Lance" in name]
    assert lacking.value is None
    assert "no network" in lacking.metric
    assert rows["64 px: cached loader, share of the bare gather"].target == 0.8
    assert rows["cache from 64 × 64 at 5 Hz: building, share of bare decoding"].target == 0.9
    assert all(row.value > 0 for row in rows.values() if row.value is not None)
    monkeypatch.setattr(lance, "measure", lambda *_: lance.Found({64: [1.0, 2.0, 3.0]}))
    found = [row for row in data.data(BenchConfig("data", "full")) if "over" in row.metric]
    assert [(row.target, row.met) for row in found] == [(2.0, True)]


@pytest.mark.slow
def test_data_wait_compares_the_loader_with_a_batch_in_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data_wait, "_AMOUNTS", {"quick": data_wait._Amount({64: 2}, 4, 1_000_000, 1, 1)})
    rows = data_wait.data_wait(BenchConfig("data-wait", "quick", out=str(tmp_path)))
    assert rows[0].unit == "ms"
    assert rows[0].value is not None and rows[0].value > 0
    assert all(row.target == 0.05 and row.better == "lower" for row in rows[1:])
    (profile,) = [p for p in (tmp_path / "bench").iterdir() if p.name.endswith("-host.txt")]
    assert "training" in profile.read_text()
