"""The pack: frames, flow and columns of a dataset at the model's rate, in a cache that is checked."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from robot_wm.contracts.dataset import ACTION, HAND, Feature, image_key, position_key
from robot_wm.contracts.errors import UserError
from robot_wm.data.flow import flow, moments, pool
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.lerobot_writer import LeRobotWriter
from robot_wm.data.pack import POSITIONS, PackSpec, build_pack, build_views, motion

SPEC = PackSpec(size=32, step_s=0.2, flow_cells=8)
LENGTHS = (11, 7)


def written(path: Path, film, fps: float = 10.0) -> Path:
    features = {
        image_key("front"): Feature("video", (64, 64, 3)),
        ACTION: Feature("float32", (2,)),
        HAND: Feature("float32", (3,)),
        "done": Feature("bool", (1,)),
    }
    with LeRobotWriter(path, fps, features) as writer:
        for episode, length in enumerate(LENGTHS):
            rows = np.arange(length) + 100 * episode
            columns = {ACTION: np.stack([rows, -rows], 1), HAND: np.repeat(rows[:, None], 3, 1), "done": rows % 2 == 0}
            writer.add_episode(columns, {image_key("front"): film(length, seed=episode)})
    return path


def test_pack_holds_every_second_frame_with_flow_and_chunks(tmp_path: Path, film) -> None:
    path = written(tmp_path / "set", film)
    pack = build_pack(path, SPEC, tmp_path / "cache", workers=2)
    dataset = LeRobotDataset(path)
    assert (pack.every, pack.step_s) == (2, pytest.approx(0.2))
    assert pack.starts.tolist() == [0, 6, 10]
    assert pack.episode_F.tolist() == [0] * 6 + [1] * 4
    assert np.flatnonzero(~pack.valid_F).tolist() == [5, 9]
    for episode in range(2):
        part = slice(pack.starts[episode], pack.starts[episode + 1])
        frames = dataset.frames(episode, size=(32, 32), every=2)
        assert np.array_equal(pack.frames_FYXC[part], frames)
        pooled = pool(flow(frames), 8)
        assert pack.flow_F[part][:-1] == pytest.approx(pooled, abs=2e-3)
        assert np.array_equal(pack.moments_F[part][:-1], moments(pooled))
        assert not pack.flow_F[part][-1].any()
        assert not pack.moments_F[part][-1].any()
    assert pack.columns[HAND][:, 0].tolist() == [0, 2, 4, 6, 8, 10, 100, 102, 104, 106]
    assert pack.columns["done"].shape == (10, 1)
    action = pack.columns[ACTION]
    assert action.shape == (10, 2, 2)
    assert action[1].tolist() == [[2, -2], [3, -3]]
    assert action[5].tolist() == [[10, -10], [10, -10]]  # the episode ends inside this chunk
    assert not pack.frames_FYXC.flags.writeable


@pytest.mark.parametrize(
    ("fps", "every", "step_s", "kept"),
    [
        (5.0, 1, 0.2, [0, 1, 2, 3]),
        (30.0, 6, 0.2, [0, 6]),
        (24.0, 5, 5 / 24, [0, 5, 10]),  # 4.8 rows a step: 5 is near enough
        (12.0, 2, 0.2, [0, 2, 5, 7, 10]),  # 2.4 rows a step: the nearest rows
        (4.0, 1, 0.25, [0, 1, 2, 3]),  # slower than asked: every frame
    ],
)
def test_rate_is_brought_to_the_models(
    tmp_path: Path, film, fps: float, every: int, step_s: float, kept: list[int]
) -> None:
    pack = build_pack(written(tmp_path / "set", film, fps), SPEC, tmp_path / "cache")
    assert (pack.every, pack.step_s) == (every, pytest.approx(step_s))
    first = pack.columns[HAND][: pack.starts[1], 0]
    assert first[: len(kept)].tolist() == kept
    assert pack.columns[ACTION].shape[1] == every


def test_slow_video_is_announced(tmp_path: Path, film, capsys: pytest.CaptureFixture[str]) -> None:
    build_pack(written(tmp_path / "set", film, 4.0), SPEC, tmp_path / "cache")
    assert "slower than one frame per 0.2 s" in capsys.readouterr().err


def test_pack_is_built_once_and_again_when_damaged(
    tmp_path: Path, film, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, cache = written(tmp_path / "set", film), tmp_path / "cache"
    expected = np.array(build_pack(path, SPEC, cache).frames_FYXC)
    with monkeypatch.context() as patch:
        patch.setattr("robot_wm.data.cache._build", None)
        build_pack(path, SPEC, cache)
    folder = next(p for p in cache.iterdir() if p.is_dir())
    with (folder / "000.npy").open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff\x00\xff\x00")
    assert np.array_equal(build_pack(path, SPEC, cache).frames_FYXC, expected)
    assert "is damaged" in capsys.readouterr().err
    (folder / "index.json").write_text("{")
    assert np.array_equal(build_pack(path, SPEC, cache).frames_FYXC, expected)


def test_a_camera_has_its_own_pack_with_positions_in_its_frame(tmp_path: Path, film) -> None:
    cameras = ("front", "side")
    keys = {camera: position_key(HAND, camera, cameras) for camera in cameras}
    features = {image_key(c): Feature("video", (64, 64, 3)) for c in cameras}
    features |= {key: Feature("float32", (3,)) for key in keys.values()} | {ACTION: Feature("float32", (2,))}
    with LeRobotWriter(tmp_path / "set", 5.0, features, "two_eyes") as writer:
        for episode in range(2):
            hands = {key: np.full((6, 3), 10 * n + episode) for n, key in enumerate(keys.values())}
            videos = {image_key(c): film(6, seed=10 * n + episode) for n, c in enumerate(cameras)}
            writer.add_episode(hands | {ACTION: np.zeros((6, 2))}, videos)
    front, side = build_views(tmp_path / "set", replace(SPEC, columns=POSITIONS), tmp_path / "cache")
    dataset = LeRobotDataset(tmp_path / "set")
    for number, (pack, camera) in enumerate(((front, "front"), (side, "side"))):
        assert (pack.camera, pack.embodiment, pack.dataset) == (camera, "two_eyes", front.dataset)
        assert set(pack.columns) == {HAND}
        assert pack.columns[HAND][:, 0].tolist() == [10 * number] * 6 + [10 * number + 1] * 6
        assert np.array_equal(pack.frames_FYXC[6:], dataset.frames(1, camera, (32, 32)))
    assert set(build_pack(tmp_path / "set", SPEC, tmp_path / "cache").columns) == {HAND, ACTION}
    with pytest.raises(UserError, match="no camera 'top'"):
        build_pack(tmp_path / "set", SPEC, tmp_path / "cache", "top")


def test_without_flow_there_is_none(tmp_path: Path, film) -> None:
    pack = build_pack(written(tmp_path / "set", film), replace(SPEC, flow_cells=0), tmp_path / "cache")
    assert pack.flow_F.shape == (10, 0, 0, 2)
    assert not pack.moments_F.any()


def test_flow_of_large_frames_is_that_of_small_ones_in_their_own_pixels(film) -> None:
    small = film(4, 64, 64)
    large = np.stack([cv2.resize(f, (128, 128), interpolation=cv2.INTER_NEAREST) for f in small])
    pooled, found = motion(large, 16)
    expected = pool(flow(small), 16)
    assert np.abs(pooled - 2 * expected).max() < 1e-5
    assert found[:, :2] == pytest.approx(2 * moments(expected)[:, :2], abs=1e-5)
    assert found[:, 2:] == pytest.approx(moments(expected)[:, 2:], abs=1e-5)


def test_other_data_or_another_spec_is_another_pack(tmp_path: Path, film) -> None:
    path, cache = written(tmp_path / "set", film), tmp_path / "cache"
    build_pack(path, SPEC, cache)
    assert build_pack(path, PackSpec(64, 0.2, 8), cache).frames_FYXC.shape[1] == 64
    assert build_pack(path, PackSpec(32, 0.5, 8), cache).every == 5
    assert len([p for p in cache.iterdir() if p.is_dir()]) == 3


def test_spec_without_meaning_is_refused() -> None:
    with pytest.raises(UserError, match="does not divide"):
        PackSpec(size=64, flow_cells=10)
    with pytest.raises(UserError, match="step_s is 0"):
        PackSpec(step_s=0.0)


@pytest.mark.slow
def test_real_dataset_is_packed(real_data: Path, tmp_path: Path) -> None:
    pack = build_pack(real_data / "g1_bottle", PackSpec(), tmp_path)
    assert pack.frames_FYXC.shape[1:] == (64, 64, 3)
    assert pack.columns[ACTION].shape[1:] == (6, 26)
    assert len(pack.starts) == 61
    assert pack.moments_F[pack.valid_F].any(axis=1).mean() > 0.5


def test_a_pack_for_pretraining_never_looks_at_actions(tmp_path: Path, film, monkeypatch: pytest.MonkeyPatch) -> None:
    path, looked = written(tmp_path / "set", film), []
    read = LeRobotDataset._column

    def column(self: LeRobotDataset, table: object, episode: int, key: str, feature: Feature) -> object:
        looked.append(key)
        return read(self, table, episode, key, feature)  # type: ignore[arg-type]

    monkeypatch.setattr(LeRobotDataset, "_column", column)
    pack = build_pack(path, replace(SPEC, columns=POSITIONS), tmp_path / "cache")
    assert set(pack.columns) == {HAND}
    assert set(looked) == {"timestamp", HAND}
