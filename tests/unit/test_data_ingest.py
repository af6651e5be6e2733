"""ingest: what becomes of a user's video."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robot_wm.contracts.dataset import ACTION, STATE, Feature, image_key
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import read_run
from robot_wm.data import journal, video
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.lerobot_writer import LeRobotWriter
from robot_wm.data.shots import Screening
from robot_wm.stages.ingest import IngestConfig, ingest


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Where run folders go."""
    return tmp_path / "runs"


@pytest.fixture
def bottle(real_data: Path, tmp_path: Path) -> Path:
    """The first four episodes of a real humanoid's dataset."""
    source, path = real_data / "g1_bottle", tmp_path / "bottle"
    shutil.copytree(
        source, path, ignore=lambda _, names: [n for n in names if n.startswith("episode_") and n[8:14] > "000003"]
    )
    lines = (source / "meta/episodes.jsonl").read_text().splitlines()[:4]
    (path / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")
    info = json.loads((source / "meta/info.json").read_text())
    info |= {"total_episodes": 4, "total_frames": sum(json.loads(line)["length"] for line in lines)}
    (path / "meta/info.json").write_text(json.dumps(info))
    return path


def test_video_becomes_a_small_dataset_at_the_models_rate(tmp_path: Path, runs: Path, film) -> None:
    frames = film(61, 96, 160)
    video.encode(tmp_path / "kitchen.mp4", frames, 30.0)
    run = ingest(IngestConfig(str(tmp_path / "kitchen.mp4"), size=48, out=str(runs)))
    dataset = LeRobotDataset(run / "dataset")
    assert (dataset.info.fps, dataset.num_episodes, dataset.info.cameras) == (5.0, 1, ("video",))
    found = dataset.frames(0)
    assert found.shape == (11, 48, 80, 3)
    expected = np.stack([cv2.resize(f, (80, 48), interpolation=cv2.INTER_AREA) for f in frames[::6]])
    assert np.abs(found.astype(int) - expected).mean(axis=(1, 2, 3)).max() < 6
    metrics = read_run(run, "ingest").metrics
    assert (metrics["episodes"], metrics["frames"], metrics["left_out"]) == (1, 11, 0)
    assert cv2.imread(str(run / "contact_sheet.png")) is not None
    assert ingest(IngestConfig(str(tmp_path / "kitchen.mp4"), size=48, out=str(runs))) == run


def test_folder_is_cut_into_shots_and_what_is_useless_is_left_out(
    tmp_path: Path, runs: Path, film, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    black = np.zeros((10, 64, 64, 3), np.uint8)
    scenes = np.concatenate([film(12, seed=1) // 2, 255 - film(9, seed=2) // 2, black])
    video.encode(folder / "a.mp4", scenes, 5.0)
    (folder / "b.mp4").write_bytes(b"not a video at all")
    video.encode(folder / "c.mp4", film(20, 48, 96), 10.0)
    video.encode(folder / "d.mp4", film(30), 2.0)
    run = ingest(IngestConfig(str(folder), size=64, out=str(runs)))
    dataset = LeRobotDataset(run / "dataset")
    assert [dataset.episode_length(e) for e in range(dataset.num_episodes)] == [12, 9, 10]
    assert dataset.frames(2).shape[1:] == (64, 64, 3)  # cropped to the shape of the others
    metrics = read_run(run, "ingest").metrics
    assert (metrics["sources"], metrics["left_out"], metrics["black_frames"]) == (4, 2, 10)
    said = " ".join(capsys.readouterr().err.split())
    assert "b.mp4 cannot be read as video" in said
    assert "2 frames/s" in said


def test_dataset_loses_its_labels_unless_they_are_wanted(bottle: Path, runs: Path) -> None:
    run = ingest(IngestConfig(str(bottle), size=64, out=str(runs)))
    dataset = LeRobotDataset(run / "dataset")
    assert dataset.info.cameras == ("cam_high",)
    assert not {ACTION, STATE} & set(dataset.info.features)
    assert dataset.num_episodes == 4
    assert dataset.frames(0).shape[1:3] == (64, 86)
    assert dataset.tasks(0) == ["Pick up the yellow bottle on the table."]
    assert dataset.columns(0).keys() == {"timestamp", "frame_index", "episode_index", "index", "task_index"}
    labelled = LeRobotDataset(ingest(IngestConfig(str(bottle), keep_labels=True, out=str(runs))) / "dataset")
    source = LeRobotDataset(bottle)
    for episode in range(4):
        for key in (ACTION, STATE):
            assert np.array_equal(labelled.columns(episode)[key], source.columns(episode)[key][::6])


def test_a_run_is_taken_in_again_with_another_screening(tmp_path: Path, runs: Path, film) -> None:
    video.encode(tmp_path / "a.mp4", film(20), 5.0)
    video.encode(tmp_path / "b.mp4", film(40), 5.0)
    first = ingest(IngestConfig(str(tmp_path), out=str(runs)))
    second = ingest(IngestConfig(str(first), size=32, out=str(runs), screening=Screening(min_frames=30)))
    dataset = LeRobotDataset(second / "dataset")
    assert [dataset.episode_length(e) for e in range(dataset.num_episodes)] == [40]
    assert read_run(second).metrics["short_frames"] == 20


def test_labels_stay_with_their_frames(tmp_path: Path, runs: Path, film) -> None:
    features = {image_key("front"): Feature("video", (64, 64, 3)), ACTION: Feature("float32", (1,))}
    with LeRobotWriter(tmp_path / "set", 10.0, features) as writer:
        writer.add_episode({ACTION: np.arange(21)}, {image_key("front"): film(21)}, "push")
    run = ingest(IngestConfig(str(tmp_path / "set"), keep_labels=True, out=str(runs)))
    assert LeRobotDataset(run / "dataset").columns(0)[ACTION].ravel().tolist() == list(range(0, 21, 2))


def test_episode_is_divided_where_rows_are_missing(tmp_path: Path, runs: Path, film) -> None:
    features = {image_key("front"): Feature("video", (64, 64, 3)), ACTION: Feature("float32", (1,))}
    with LeRobotWriter(tmp_path / "set", 10.0, features) as writer:
        writer.add_episode({ACTION: np.arange(40)}, {image_key("front"): film(40)})
    place = tmp_path / "set/data/chunk-000/file-000.parquet"
    table = pq.read_table(place)
    kept = pa.concat_tables([table.slice(0, 17), table.slice(24)])  # rows of 0.7 s were lost, their frames were not
    pq.write_table(kept, place)
    episodes = tmp_path / "set/meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pa.Table.from_pylist([pq.read_table(episodes).to_pylist()[0] | {"length": 33}]), episodes)
    info = json.loads((tmp_path / "set/meta/info.json").read_text())
    (tmp_path / "set/meta/info.json").write_text(json.dumps(info | {"total_frames": 33}))
    run = ingest(IngestConfig(str(tmp_path / "set"), keep_labels=True, out=str(runs)))
    dataset = LeRobotDataset(run / "dataset")
    assert [dataset.columns(e)[ACTION].ravel().tolist() for e in range(2)] == [
        list(range(0, 17, 2)),
        list(range(24, 40, 2)),
    ]


def test_interrupted_ingest_writes_nothing_twice(
    tmp_path: Path, runs: Path, film, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in "abc":
        shots = [film(8, seed=1) // 2, 255 - film(9, seed=2) // 2, film(10, seed=1) // 2]
        video.encode(folder / f"{name}.mp4", np.concatenate(shots), 5.0)
    config = IngestConfig(str(folder), size=64, out=str(runs))
    real, calls = LeRobotWriter.add_episode, []

    def dies(self: LeRobotWriter, *arguments: object) -> None:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        real(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(LeRobotWriter, "add_episode", dies)
        with pytest.raises(KeyboardInterrupt):
            ingest(config)
    (interrupted,) = (runs / "ingest").iterdir()
    assert len(journal.read(interrupted / "sources.jsonl")) == 1
    run = ingest(config)
    assert run == interrupted
    dataset = LeRobotDataset(run / "dataset")
    assert [dataset.episode_length(e) for e in range(dataset.num_episodes)] == [8, 9, 10] * 3
    assert read_run(run).metrics["frames"] == 81


def test_nothing_usable_is_an_error_and_leaves_no_run(tmp_path: Path, runs: Path) -> None:
    video.encode(tmp_path / "night.mp4", np.zeros((20, 64, 64, 3), np.uint8), 5.0)
    with pytest.raises(UserError, match=r"nothing in .*night.mp4 can be used \(black_frames 20\)"):
        ingest(IngestConfig(str(tmp_path / "night.mp4"), out=str(runs)))
    assert not list((runs / "ingest").iterdir())
    with pytest.raises(UserError, match="does not exist"):
        ingest(IngestConfig(str(tmp_path / "none.mp4"), out=str(runs)))
    with pytest.raises(UserError, match="size is 0"):
        ingest(IngestConfig(str(tmp_path / "night.mp4"), size=0, out=str(runs)))
