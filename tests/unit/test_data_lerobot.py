"""LeRobot datasets: both layouts are read right, and what we write has the official shape."""

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
from robot_wm.data import lerobot_meta, video
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.lerobot_writer import LeRobotWriter

FRONT, SIDE = image_key("front"), image_key("side")
FEATURES = {
    FRONT: Feature("video", (64, 64, 3)),
    SIDE: Feature("video", (48, 80, 3)),
    STATE: Feature("float32", (2,), ("x", "y")),
    "gripper": Feature("int64", (1,)),
}


def written(path: Path, film, lengths: tuple[int, ...] = (7, 12)) -> Path:
    with LeRobotWriter(path, 10.0, FEATURES, "arm") as writer:
        for episode, length in enumerate(lengths):
            columns = {
                STATE: np.arange(2 * length).reshape(length, 2) + 100 * episode,
                "gripper": np.arange(length) % 2,
            }
            videos = {FRONT: film(length, seed=episode), SIDE: film(length, 48, 80, seed=10 + episode)}
            writer.add_episode(columns, videos, task=f"task {episode % 2}")
    return path


def joined(path: Path, film) -> tuple[Path, list[np.ndarray]]:
    """A v3 dataset as the official recorder lays it out: all episodes in one parquet file and one mp4 per camera."""
    source = LeRobotDataset(written(path, film))
    tables = [pq.read_table(path / f"data/chunk-000/file-00{e}.parquet") for e in range(2)]
    pq.write_table(pa.concat_tables(tables), path / "data/chunk-000/file-000.parquet")
    films = {key: [source.frames(e, key) for e in range(2)] for key in (FRONT, SIDE)}
    episodes = pq.read_table(path / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    for key, parts in films.items():
        video.encode(path / f"videos/{key}/chunk-000/file-000.mp4", np.concatenate(parts), 10.0)
        episodes[1] |= {f"videos/{key}/file_index": 0, f"videos/{key}/from_timestamp": 0.7}
        episodes[1][f"videos/{key}/to_timestamp"] = 1.9
    episodes[1]["data/file_index"] = 0
    pq.write_table(pa.Table.from_pylist(episodes), path / "meta/episodes/chunk-000/file-000.parquet")
    return path, films[SIDE]


def test_episodes_that_share_files_are_told_apart(tmp_path: Path, film) -> None:
    path, expected = joined(tmp_path / "set", film)
    dataset = LeRobotDataset(path)
    for episode, length in enumerate((7, 12)):
        columns = dataset.columns(episode)
        assert columns[STATE][:, 0].tolist() == [100 * episode + 2 * i for i in range(length)]
        assert columns["timestamp"] == pytest.approx(np.arange(length) / 10)
        frames = dataset.frames(episode, "side").astype(int)
        assert np.abs(frames - expected[episode]).mean(axis=(1, 2, 3)).max() < 4
        assert np.array_equal(dataset.frames(episode, SIDE, every=3), frames[::3])
    assert dataset.tasks(1) == ["task 1"]


def as_v2(path: Path, version: str, film) -> Path:
    """The same dataset in the layout of v2.0 or v2.1: a file per episode, lists as lines of JSON."""
    source = LeRobotDataset(written(path.with_name("v3"), film))
    info = json.loads((source.path / "meta/info.json").read_text())
    info |= {
        "codebase_version": version,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    }
    info["video_path"] = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    (path / "meta").mkdir(parents=True)
    (path / "data/chunk-000").mkdir(parents=True)
    lines, stats = [], []
    for episode in range(2):
        shutil.copy(
            source.path / f"data/chunk-000/file-{episode:03d}.parquet",
            path / f"data/chunk-000/episode_{episode:06d}.parquet",
        )
        for key in (FRONT, SIDE):
            (path / f"videos/chunk-000/{key}").mkdir(parents=True, exist_ok=True)
            name = f"videos/chunk-000/{key}/episode_{episode:06d}.mp4"
            shutil.copy(source.path / f"videos/{key}/chunk-000/file-{episode:03d}.mp4", path / name)
        lines.append(
            {"episode_index": episode, "tasks": source.tasks(episode), "length": source.episode_length(episode)}
        )
        stats.append({"episode_index": episode, "stats": lerobot_meta.read_episode_stats(source.path)[episode]})
    tasks = [{"task_index": i, "task": task} for i, task in enumerate(lerobot_meta.read_tasks(source.path))]
    (path / "meta/info.json").write_text(json.dumps(info))
    (path / "meta/episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (path / "meta/tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    if version == "v2.1":
        (path / "meta/episodes_stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in stats))
    return path


@pytest.mark.parametrize("version", ["v2.0", "v2.1"])
def test_older_layouts_are_the_same_dataset(tmp_path: Path, film, version: str) -> None:
    old, new = LeRobotDataset(as_v2(tmp_path / "v2", version, film)), LeRobotDataset(tmp_path / "v3")
    assert (old.info.version, old.num_episodes, old.info.cameras) == (version, 2, ("front", "side"))
    for episode in range(2):
        for key, values in new.columns(episode).items():
            assert np.array_equal(old.columns(episode)[key], values)
        for camera in ("front", "side"):
            assert np.array_equal(old.frames(episode, camera), new.frames(episode, camera))
        assert old.tasks(episode) == new.tasks(episode)
    assert lerobot_meta.read_tasks(old.path) == lerobot_meta.read_tasks(new.path) == ["task 0", "task 1"]
    if version == "v2.0":
        assert old.stats() == {}  # none came with it
    else:
        assert old.stats()[STATE]["mean"] == pytest.approx(new.stats()[STATE]["mean"])
        assert old.stats().keys() == new.stats().keys()


def test_what_is_not_there_is_not_needed(tmp_path: Path, film) -> None:
    """No state, no action, no task, no statistics: a dataset of pictures alone."""
    with LeRobotWriter(tmp_path / "set", 10.0, {FRONT: FEATURES[FRONT]}) as writer:
        writer.add_episode({}, {FRONT: film(7)})
    (tmp_path / "set/meta/stats.json").unlink()
    (tmp_path / "set/meta/tasks.parquet").unlink()
    place = tmp_path / "set/meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(place)
    pq.write_table(
        table.drop_columns([name for name in table.column_names if name.startswith("stats/") or name == "tasks"]), place
    )
    dataset = LeRobotDataset(tmp_path / "set")
    assert dataset.frames(0).shape == (7, 64, 64, 3)
    assert (dataset.tasks(0), dataset.stats(), lerobot_meta.read_tasks(dataset.path)) == ([], {}, [])


def test_long_episodes_are_exact_although_float32_is_not(tmp_path: Path, film) -> None:
    with LeRobotWriter(tmp_path / "set", 30.0, {"x": Feature("float32", (1,))}) as writer:
        writer.add_episode({"x": np.zeros(200_000)}, {})
    times_s = LeRobotDataset(tmp_path / "set").times_s(0)
    assert np.abs(times_s - np.arange(200_000) / 30).max() < 1e-9
    stored = pq.read_table(tmp_path / "set/data/chunk-000/file-000.parquet")["timestamp"].to_numpy().astype(np.float64)
    assert np.abs(stored - np.arange(200_000) / 30).max() > video.TOLERANCE_S  # what was stored would not have done


def test_drift_in_a_shared_video_is_named(tmp_path: Path, film) -> None:
    path, _ = joined(tmp_path / "set", film)
    place = path / "meta/episodes/chunk-000/file-000.parquet"
    episodes = pq.read_table(place).to_pylist()
    episodes[1][f"videos/{FRONT}/from_timestamp"] = 0.71
    pq.write_table(pa.Table.from_pylist(episodes), place)
    with pytest.raises(UserError, match=r"file-000.mp4 has no frame at 0\.7100 s"):
        LeRobotDataset(path).frames(1)


def test_real_v21_dataset(real_data: Path) -> None:
    dataset = LeRobotDataset(real_data / "g1_bottle")
    assert (dataset.num_episodes, dataset.info.total_frames, dataset.info.cameras) == (60, 21352, ("cam_high",))
    assert dataset.tasks(3) == ["Pick up the yellow bottle on the table."]
    columns = dataset.columns(59)
    length = dataset.episode_length(59)
    assert columns[ACTION].shape == columns[STATE].shape == (length, 26)
    assert columns[ACTION].dtype == np.float32
    assert columns["frame_index"].tolist() == list(range(length))
    every_frame = video.decode(real_data / "g1_bottle/videos/chunk-000/observation.images.cam_high/episode_000059.mp4")
    assert len(every_frame) == length
    assert np.array_equal(dataset.frames(59), every_frame)
    assert dataset.frames(59, "cam_high", (64, 64), every=6).shape == (-(-length // 6), 64, 64, 3)


def test_images_inside_parquet_are_read(tmp_path: Path, film) -> None:
    path = written(tmp_path / "set", film, (5,))
    images = film(5, seed=3)
    cells = [{"bytes": cv2.imencode(".png", i[..., ::-1])[1].tobytes(), "path": None} for i in images]
    place = path / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(place).append_column("observation.image", pa.array(cells)), place)
    info = json.loads((path / "meta/info.json").read_text())
    info["features"]["observation.image"] = {"dtype": "image", "shape": [64, 64, 3], "names": None}
    (path / "meta/info.json").write_text(json.dumps(info))
    assert np.array_equal(LeRobotDataset(path).frames(0, "observation.image", every=2), images[::2])


def test_written_metadata_has_the_official_shape(tmp_path: Path, film) -> None:
    path = written(tmp_path / "set", film)
    info = json.loads((path / "meta/info.json").read_text())
    assert {k: info[k] for k in ("codebase_version", "fps", "total_episodes", "total_frames", "total_tasks")} == {
        "codebase_version": "v3.0",
        "fps": 10,
        "total_episodes": 2,
        "total_frames": 19,
        "total_tasks": 2,
    }
    assert info["splits"] == {"train": "0:2"}
    assert info["features"][STATE] == {"dtype": "float32", "shape": [2], "names": ["x", "y"]}
    assert info["features"][SIDE]["info"]["video.width"] == 80
    episodes = pq.read_table(path / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(e["dataset_from_index"], e["dataset_to_index"]) for e in episodes] == [(0, 7), (7, 19)]
    assert episodes[1][f"videos/{SIDE}/to_timestamp"] == pytest.approx(1.2)
    assert episodes[1]["tasks"] == ["task 1"]
    tasks = pq.read_table(path / "meta/tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0, 1], "task": ["task 0", "task 1"]}
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    data = pq.read_table(path / "data/chunk-000/file-001.parquet")
    assert data["index"].to_pylist() == list(range(7, 19))
    assert data.schema.field(STATE).type == pa.list_(pa.float32(), 2)
    assert data.schema.field("gripper").type == pa.int64()
    assert not (path / "meta/journal.jsonl").exists()


def test_statistics_are_those_of_all_rows(tmp_path: Path, film) -> None:
    path = written(tmp_path / "set", film)
    dataset, stats = LeRobotDataset(path), json.loads((path / "meta/stats.json").read_text())
    rows = np.concatenate([dataset.columns(e)[STATE] for e in range(2)]).astype(np.float64)
    assert stats[STATE]["mean"] == pytest.approx(rows.mean(axis=0))
    assert stats[STATE]["std"] == pytest.approx(rows.std(axis=0))
    assert (stats[STATE]["min"], stats[STATE]["max"]) == (rows.min(axis=0).tolist(), rows.max(axis=0).tolist())
    assert stats[STATE]["count"] == [19]
    images = np.concatenate([film(7, seed=0), film(12, seed=1)]) / 255
    for name in ("mean", "std", "min", "max"):
        assert np.shape(stats[FRONT][name]) == (3, 1, 1)
        assert np.ravel(stats[FRONT][name]) == pytest.approx(getattr(images, name)(axis=(0, 1, 2)), abs=1e-9)


def test_writer_goes_on_where_it_stopped(tmp_path: Path, film) -> None:
    path = written(tmp_path / "set", film)
    with LeRobotWriter(path, 10.0, FEATURES, "arm") as writer:
        assert writer.num_episodes == 2
        videos = {FRONT: film(4), SIDE: film(4, 48, 80)}
        writer.add_episode({STATE: np.ones((4, 2)), "gripper": np.ones((4, 1))}, videos, "task 1")
    dataset = LeRobotDataset(path)
    assert (dataset.num_episodes, dataset.info.total_frames) == (3, 23)
    assert dataset.columns(2)["task_index"].tolist() == [1] * 4
    assert dataset.columns(2)["index"].tolist() == [19, 20, 21, 22]
    with pytest.raises(UserError, match="another fps"):
        LeRobotWriter(path, 20.0, FEATURES)
    with pytest.raises(UserError, match="another features"):
        LeRobotWriter(path, 10.0, {FRONT: FEATURES[FRONT]})


def test_an_episode_that_does_not_fit_is_refused(tmp_path: Path, film) -> None:
    writer = LeRobotWriter(tmp_path / "set", 10.0, FEATURES)
    state, gripper = np.zeros((4, 2)), np.zeros(4)
    videos = {FRONT: film(4), SIDE: film(4, 48, 80)}
    with pytest.raises(ValueError, match="the dataset"):
        writer.add_episode({STATE: state}, videos)
    with pytest.raises(ValueError, match="has shape"):
        writer.add_episode({STATE: state, "gripper": gripper}, {FRONT: film(4), SIDE: film(5, 48, 80)})
    with pytest.raises(ValueError, match="added by the writer"):
        LeRobotWriter(tmp_path / "other", 10.0, {"timestamp": Feature("float32", (1,))})
    with pytest.raises(UserError, match="no episode"):
        writer.close()
    state[3, 1] = np.nan
    with pytest.raises(UserError, match=r"observation.state of episode 0 is not finite at row 3"):
        writer.add_episode({STATE: state, "gripper": gripper}, videos)
    assert writer.num_episodes == 0
