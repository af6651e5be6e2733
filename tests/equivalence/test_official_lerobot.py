"""What we write is opened by the official reader, and what the official recorder writes is read by ours.

Off unless ROBOT_WM_LEROBOT_PYTHON names a Python with `lerobot`; `make test-lerobot` installs one and sets it.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from robot_wm.contracts.dataset import ACTION, STATE, Feature, depth_key, image_key
from robot_wm.data.lerobot import BOOKKEEPING, LeRobotDataset
from robot_wm.data.lerobot_extend import extend
from robot_wm.data.lerobot_writer import LeRobotWriter

FRONT, SIDE = image_key("front"), image_key("side")
FEATURES = {
    FRONT: Feature("video", (64, 96, 3)),
    SIDE: Feature("video", (47, 63, 3)),
    STATE: Feature("float32", (3,), ("x", "y", "z")),
    ACTION: Feature("float32", (2,)),
    "gripper": Feature("int64", (1,)),
    "matrix": Feature("float64", (2, 3)),
    "next.done": Feature("bool", (1,)),
    depth_key("front"): Feature("uint16", (12, 16), ("height", "width")),
}
LENGTHS = (7, 31, 12)


@pytest.fixture(scope="module")
def official() -> "Official":
    python = os.environ.get("ROBOT_WM_LEROBOT_PYTHON")
    if not python:
        pytest.skip("the official reader is off (run make test-lerobot, which installs about 8 GB)")
    return Official(python)


class Official:
    """The official package, in its own interpreter."""

    def __init__(self, python: str):
        self.python = python

    def __call__(self, what: str, dataset: Path, arrays: Path) -> None:
        script = Path(__file__).with_name("official_lerobot.py")
        offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(arrays.parent / "hf"), "PYTHONPATH": ""}
        command = [self.python, str(script), what, str(dataset), str(arrays)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, env={**os.environ, **offline})
        assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_official_reader_finds_what_we_wrote(official: Official, tmp_path: Path, film) -> None:
    random = np.random.default_rng(0)
    with LeRobotWriter(tmp_path / "set", 29.97, FEATURES, "arm") as writer:
        for episode, length in enumerate(LENGTHS):
            columns = {
                key: np.abs(random.normal(size=(length, *f.shape)) * 10).astype(f.dtype)
                for key, f in FEATURES.items()
                if not f.is_video
            }
            videos = {FRONT: film(length, 64, 96, seed=episode), SIDE: film(length, 47, 63, seed=9 + episode)}
            writer.add_episode(columns, videos, f"task {episode % 2}")
    official("read", tmp_path / "set", tmp_path / "read.npz")
    theirs, ours = np.load(tmp_path / "read.npz"), LeRobotDataset(tmp_path / "set")
    assert theirs["counts"].tolist() == pytest.approx([3, sum(LENGTHS), 29.97])
    episodes = range(len(LENGTHS))
    for key in (*FEATURES, *BOOKKEEPING):
        found = theirs[f"row/{key}"]
        if key in (FRONT, SIDE):
            assert np.array_equal(found, np.concatenate([ours.frames(e, key) for e in episodes])), key
        else:
            expected = np.concatenate([ours.columns(e, [key])[key] for e in episodes])
            # float64 comes back as float32
            assert np.array_equal(found.reshape(expected.shape), expected.astype(found.dtype)), key
    assert theirs["tasks"].tolist() == [t for e, n in enumerate(LENGTHS) for t in ours.tasks(e) * n]
    for key, stats in ours.stats().items():
        for name, value in stats.items():
            assert theirs[f"stats/{key}/{name}"] == pytest.approx(np.array(value)), (key, name)
    action = theirs[f"row/{ACTION}"].astype(np.float64)
    assert theirs[f"stats/{ACTION}/mean"] == pytest.approx(action.mean(axis=0), abs=1e-6)
    assert theirs[f"stats/{ACTION}/std"] == pytest.approx(action.std(axis=0), abs=1e-6)


@pytest.mark.slow
def test_our_reader_finds_what_the_official_recorder_wrote(official: Official, tmp_path: Path, film) -> None:
    frames = np.concatenate([film(length, seed=episode) for episode, length in enumerate(LENGTHS)])
    action = np.random.default_rng(0).normal(size=(len(frames), 4)).astype(np.float32)
    np.savez(tmp_path / "given.npz", frames=frames, action=action, lengths=LENGTHS)
    official("write", tmp_path / "set", tmp_path / "given.npz")
    dataset = LeRobotDataset(tmp_path / "set")
    assert len(list((tmp_path / "set").rglob("*.mp4"))) == 1  # the episodes share it
    row = 0
    for episode, length in enumerate(LENGTHS):
        part = slice(row, row + length)
        assert dataset.tasks(episode) == [f"task {episode % 2}"]
        assert np.array_equal(dataset.columns(episode)[ACTION], action[part])
        assert np.array_equal(dataset.frames(episode, "still"), frames[part])
        error_FF = np.abs(dataset.frames(episode, "front")[:, None].astype(int) - frames[None, part]).mean(
            axis=(2, 3, 4)
        )
        assert (error_FF.argmin(axis=1) == np.arange(length)).all()
        row += length
    assert dataset.stats()[ACTION]["mean"] == pytest.approx(action.mean(axis=0), abs=1e-5)
    extended_is_read(official, dataset, tmp_path)


def extended_is_read(official: Official, source: LeRobotDataset, folder: Path) -> None:
    """What label does to a dataset: more columns, and the videos that the official recorder wrote."""
    lengths = [source.episode_length(episode) for episode in range(source.num_episodes)]
    added = {"latent_action": Feature("float32", (3,)), "latent_action_valid": Feature("bool", (1,))}
    extend(
        source,
        folder / "extended",
        added,
        lambda e: {"latent_action": np.full((lengths[e], 3), e), "latent_action_valid": np.arange(lengths[e]) > 2},
    )
    official("read", folder / "extended", folder / "extended.npz")
    theirs = np.load(folder / "extended.npz")
    assert theirs["row/latent_action"][:, 1].tolist() == [e for e, length in enumerate(lengths) for _ in range(length)]
    assert theirs["row/latent_action_valid"].sum() == sum(lengths) - 3 * len(lengths)
    for camera in ("front", "still"):
        frames = np.concatenate([source.frames(e, camera) for e in range(source.num_episodes)])
        assert np.array_equal(theirs[f"row/{image_key(camera)}"], frames)
    assert theirs["stats/action/mean"] == pytest.approx(np.array(source.stats()["action"]["mean"]))
