"""label: the original stays what it was, and each row gets what the model sees from its frame to a step later."""

import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from deploy.compose import compose
from robot_wm.contracts.config import from_mapping
from robot_wm.contracts.dataset import (
    ACTION,
    END_EFFECTOR_MOTION,
    LATENT_ACTION,
    LATENT_ACTION_STD,
    LATENT_ACTION_VALID,
    STATE,
    Feature,
    image_key,
)  # fmt: skip
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.files import sha256
from robot_wm.contracts.run import open_run, read_run
from robot_wm.data import lerobot_extend
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.lerobot_writer import LeRobotWriter
from robot_wm.data.scales import Scales
from robot_wm.models.world_model import WorldModel
from robot_wm.stages.label import LabelConfig, label
from robot_wm.stages.pretrain import PretrainConfig
from robot_wm.training.checkpoint import load_world_model, save_world_model

FRONT = image_key("front")


@pytest.fixture
def pretrained(tmp_path: Path, tiny_model: tuple[str, ...]) -> Callable[[float], Path]:
    """Makes a run of pretraining whose model knows nothing, with the scales of one that does."""

    def make(hand_r2: float) -> Path:
        torch.manual_seed(0)
        model = WorldModel(from_mapping(PretrainConfig, compose("pretrain", [*tiny_model, "data=[x]"])).model)
        scales = Scales(1.0, (1.0,) * 4, (0.0, 0.0, 0.5), (0.1, 0.2, 0.4), 5.0)
        with open_run(tmp_path, "pretrain", "tiny", {"hand_r2": hand_r2}) as run:
            run.finish(save_world_model(run.path, model, scales, 0.2), metrics={"hand_r2": hand_r2})
        return run.path

    return make


@pytest.fixture
def dataset(tmp_path: Path, film) -> Path:
    """Two episodes at 10 Hz: one of 12 rows, one shorter than a model step."""
    features = {
        FRONT: Feature("video", (40, 56, 3)),
        ACTION: Feature("float32", (2,)),
        STATE: Feature("float64", (2, 2)),
    }
    with LeRobotWriter(tmp_path / "set", 10.0, features, "arm") as writer:
        for episode, length in enumerate((12, 2)):
            columns = {ACTION: np.arange(2 * length).reshape(-1, 2), STATE: np.arange(4.0 * length).reshape(-1, 2, 2)}
            writer.add_episode(columns, {FRONT: film(length, 40, 56, seed=episode)}, f"task {episode}")
    return tmp_path / "set"


def test_the_original_and_more(dataset: Path, tmp_path: Path, pretrained) -> None:
    run = label(LabelConfig(str(dataset), str(pretrained(0.7)), out=str(tmp_path)))
    before, after = LeRobotDataset(dataset), LeRobotDataset(run / "dataset")
    assert after.info.version == "v3.0"
    assert (after.robot_type, after.info.fps, after.num_episodes) == ("arm", 10.0, 2)
    for episode in range(2):
        columns = after.columns(episode)
        for key, values in before.columns(episode).items():
            assert np.array_equal(columns[key], values), key
        assert after.tasks(episode) == before.tasks(episode)
        old, new = before.video_place(episode, FRONT), after.video_place(episode, FRONT)
        assert old is not None and new is not None
        assert sha256(before.path / old.file) == sha256(after.path / new.file)
        assert columns[LATENT_ACTION_VALID].ravel().tolist() == [True] * (len(columns["index"]) - 2) + [False] * 2
        assert not columns[LATENT_ACTION][-2:].any()
    assert before.info.features.items() <= after.info.features.items()
    stats = after.stats()
    assert stats[ACTION] == before.stats()[ACTION]
    assert stats[FRONT] == before.stats()[FRONT]
    rows = np.concatenate([after.columns(e)[LATENT_ACTION] for e in range(2)])
    assert np.ravel(stats[LATENT_ACTION]["mean"]) == pytest.approx(rows.mean(axis=0), abs=1e-6)
    assert read_run(run).metrics == {"episodes": 2, "frames": 14, "hand_r2": 0.7}


def test_values_are_those_of_frames_a_model_step_apart(dataset: Path, tmp_path: Path, pretrained) -> None:
    model_run = pretrained(0.7)
    seen = {"hand_distance_m": 1.2, "fov_deg": 90.0}  # shows 1.2 m in half its height, a standard picture 0.4 m
    run = label(LabelConfig(str(dataset), str(model_run), out=str(tmp_path), **seen))
    model, _ = load_world_model(model_run)
    found = LeRobotDataset(run / "dataset").columns(0)
    for phase in range(2):  # rows 0, 2, 4, ... and rows 1, 3, 5, ... are what the model would see at its own rate
        frames = torch.tensor(LeRobotDataset(dataset).frames(0, size=(32, 32))[phase::2])
        with torch.no_grad():
            mean, log_std = model.infer(model.encode(frames[None]))
            motion = model.state.displacement(torch.tanh(mean[0])) * torch.tensor([0.1, 0.2, 0.4]) / 5.0 * 3.0
        assert np.allclose(found[LATENT_ACTION][phase:-2:2], torch.tanh(mean[0]), atol=1e-5)
        assert np.allclose(found[LATENT_ACTION_STD][phase:-2:2], log_std[0].exp(), atol=1e-5)
        assert np.allclose(found[END_EFFECTOR_MOTION][phase:-2:2], motion, atol=1e-6)


def test_metres_only_where_the_labeler_is_grounded(dataset: Path, tmp_path: Path, pretrained) -> None:
    seen = {"hand_distance_m": 1.2, "fov_deg": 90.0}
    for model, view in ((pretrained(-0.1), seen), (pretrained(0.7), {})):
        run = label(LabelConfig(str(dataset), str(model), out=str(tmp_path), **view))
        assert END_EFFECTOR_MOTION not in LeRobotDataset(run / "dataset").info.features
    with pytest.raises(UserError, match=r"fov_deg 200"):
        label(LabelConfig(str(dataset), str(model), hand_distance_m=1.0, fov_deg=200.0, out=str(tmp_path)))
    with pytest.raises(UserError, match="has no camera 'side'"):
        label(LabelConfig(str(dataset), str(model), camera="side", out=str(tmp_path)))
    with pytest.raises(UserError, match="has a column latent_action already"):
        label(LabelConfig(str(run), str(pretrained(0.7)), out=str(tmp_path)))


def test_interrupted_labelling_goes_on(
    dataset: Path, tmp_path: Path, pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = LabelConfig(str(dataset), str(pretrained(0.7)), out=str(tmp_path))
    real = lerobot_extend.journal.append

    def dies(path: Path, *lines: dict) -> None:
        real(path, *lines)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lerobot_extend.journal, "append", dies)
        with pytest.raises(KeyboardInterrupt):
            label(config)
    run = label(config)
    assert LeRobotDataset(run / "dataset").info.total_frames == 14
    assert label(config) == run


def test_old_dataset_with_shared_and_uneven_parts(real_data: Path, tmp_path: Path) -> None:
    source = LeRobotDataset(real_data / "g1_bottle")
    added = {"half": Feature("float32", (1,))}
    lerobot_extend.extend(
        source, tmp_path / "set", added, lambda e: {"half": np.full((source.episode_length(e), 1), 0.5)}
    )
    copy = LeRobotDataset(tmp_path / "set")
    assert (copy.num_episodes, copy.info.total_frames) == (60, 21352)
    assert np.array_equal(copy.frames(59), source.frames(59))
    assert np.array_equal(copy.columns(31)[ACTION], source.columns(31)[ACTION])
    assert (copy.columns(31)["half"] == 0.5).all()
    assert copy.stats()[ACTION]["mean"] == pytest.approx(source.stats()[ACTION]["mean"])
    assert pq.read_table(tmp_path / "set/meta/tasks.parquet")["task"].to_pylist() == source.tasks(0)


def test_columns_of_text_and_images_come_along(dataset: Path, tmp_path: Path) -> None:
    place = dataset / "data/chunk-000/file-000.parquet"
    table = pq.read_table(place)
    for episode in range(2):
        place = dataset / f"data/chunk-000/file-{episode:03d}.parquet"
        table = pq.read_table(place)
        pq.write_table(table.append_column("note", pa.array([f"row {i}" for i in range(len(table))])), place)
    info = json.loads((dataset / "meta/info.json").read_text())
    info["features"]["note"] = {"dtype": "string", "shape": [1], "names": None}
    (dataset / "meta/info.json").write_text(json.dumps(info))
    lerobot_extend.extend(LeRobotDataset(dataset), tmp_path / "out", {}, lambda _: {})
    assert LeRobotDataset(tmp_path / "out").columns(1)["note"].tolist() == ["row 0", "row 1"]
    with av.open(str(tmp_path / f"out/videos/{FRONT}/chunk-000/file-001.mp4")) as container:
        assert container.streams.video[0].frames == 2
