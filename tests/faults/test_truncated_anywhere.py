"""A file cut off at any byte is refused, mended or read up to the cut: never taken for a whole one."""

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from deploy.runtime.recorder import read_episodes
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import artifact, read_run
from robot_wm.data import video
from robot_wm.data.lerobot import LeRobotDataset
from tests.property.hostile import READERS, make_bundle, make_dataset, make_flight, make_model, make_run, make_video
from tests.recovery import test_cache_recovery as cache

ANY = settings(max_examples=25)


def whole_dataset(folder: Path) -> None:
    dataset = LeRobotDataset(folder)
    for episode in range(dataset.num_episodes):
        dataset.columns(episode)
        dataset.frames(episode)


def whole_video(folder: Path) -> None:
    assert len(video.decode(folder / "film.mp4")) == 8
    raise UserError("every frame is there", "the cut took nothing that is needed")


def whole_run(folder: Path) -> None:
    artifact(folder / "run", next(iter(read_run(folder / "run").outputs)), "record")


CASES = {
    "weights": (make_model, "model.safetensors", READERS["model.safetensors"].read),
    "model.json": (make_model, "model.json", READERS["model.json"].read),
    "controller.json": (make_bundle, "controller.json", READERS["controller.json"].read),
    "graph": (make_bundle, "plan.onnx", READERS["plan.onnx"].read),
    "rows": (make_dataset, "data/chunk-000/file-000.parquet", whole_dataset),
    "list of episodes": (make_dataset, "meta/episodes/chunk-000/file-000.parquet", whole_dataset),
    "info.json": (make_dataset, "meta/info.json", whole_dataset),
    "video": (make_video, "film.mp4", whole_video),
    "manifest": (make_run, "run/manifest.json", whole_run),
    "output of a run": (make_run, "run/a.txt", whole_run),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str, tmp_path: Path) -> None:
    make, file, read = CASES[name]
    make(tmp_path / "x")
    path = tmp_path / "x" / file
    data = path.read_bytes()
    whole = data.rstrip(b"\n") if path.suffix == ".json" else data  # without its last line break JSON is whole

    @ANY
    @given(st.integers(0, len(whole) - 1))
    def cut(size: int) -> None:
        path.write_bytes(data[:size])
        with pytest.raises(UserError):
            read(tmp_path / "x")

    cut()


def test_flight_log_is_read_up_to_the_cut(tmp_path: Path) -> None:
    make_flight(tmp_path)
    (episode,) = read_episodes(tmp_path)
    path, rows = episode.path, np.array(episode.rows_L)
    data, start = path.read_bytes(), path.stat().st_size - rows.nbytes

    @ANY
    @given(st.integers(0, len(data) - 1))
    def cut(size: int) -> None:
        path.write_bytes(data[:size])
        found = read_episodes(tmp_path)
        kept = max(0, size - start) // rows.itemsize
        assert [len(e.rows_L) for e in found] == ([kept] if kept else [])
        assert all(np.array_equal(e.rows_L["action"], rows["action"][:kept]) for e in found)

    cut()


@pytest.mark.parametrize("file", ["000.npy", "digests.npy", "index.json"])
def test_cache_is_mended(file: str, tmp_path: Path) -> None:
    assert cache.again(tmp_path / "cache")[0]
    path = tmp_path / "cache" / file
    data = path.read_bytes()

    @settings(max_examples=8)
    @given(st.integers(0, len(data) - 2))
    def cut(size: int) -> None:
        path.write_bytes(data[:size])
        assert cache.again(tmp_path / "cache")[0]
        assert cache.again(tmp_path / "cache") == (True, [])

    cut()
