"""Killed in the middle: nothing that was acknowledged is lost, nothing half-written counts."""

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from robot_wm.contracts.dataset import STATE, Feature, image_key
from robot_wm.data import journal
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.lerobot_writer import LeRobotWriter
from robot_wm.data.pack import PackSpec, build_pack
from tests import children

FEATURES = {image_key("front"): Feature("video", (32, 32, 3)), STATE: Feature("float32", (1,))}
RECORDER = """
import sys
from pathlib import Path
import numpy as np
from robot_wm.contracts.dataset import STATE, Feature, image_key
from robot_wm.data.lerobot_writer import LeRobotWriter

features = {image_key("front"): Feature("video", (32, 32, 3)), STATE: Feature("float32", (1,))}
writer = LeRobotWriter(Path(sys.argv[1]), 5.0, features)
print("ready", writer.num_episodes, flush=True)
while True:
    episode = writer.num_episodes
    frames = np.full((6, 32, 32, 3), episode % 200, np.uint8)
    writer.add_episode({STATE: np.full(6, episode)}, {image_key("front"): frames}, f"task {episode % 3}")
    print(episode, flush=True)
"""


@pytest.mark.parametrize("kills", [3, pytest.param(6, marks=pytest.mark.slow)])
def test_killed_recorder_loses_nothing_that_it_acknowledged(tmp_path: Path, repository: Path, kills: int) -> None:
    path, acknowledged = tmp_path / "set", -1
    random = np.random.default_rng(kills)
    for _ in range(kills):
        with children.python(repository, "-c", RECORDER, str(path)) as process:
            assert process.stdout is not None
            assert int(process.stdout.readline().split()[1]) > acknowledged
            time.sleep(float(random.uniform(0.02, 0.3)))
            process.send_signal(signal.SIGKILL)
            lines = [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
            acknowledged = max([acknowledged, *map(int, lines)])
    with LeRobotWriter(path, 5.0, FEATURES) as writer:
        assert writer.num_episodes > acknowledged >= 0
    dataset = LeRobotDataset(path)
    for episode in range(dataset.num_episodes):
        assert (dataset.columns(episode)[STATE] == episode).all()
        assert abs(int(dataset.frames(episode).mean()) - episode % 200) < 4
        assert dataset.tasks(episode) == [f"task {episode % 3}"]


def test_killed_between_the_files_of_close(tmp_path: Path, film, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(writer: LeRobotWriter) -> None:
        writer.add_episode({STATE: np.ones(6)}, {image_key("front"): film(6, 32, 32)})

    with LeRobotWriter(tmp_path, 5.0, FEATURES) as writer:
        add(writer)
    writer = LeRobotWriter(tmp_path, 5.0, FEATURES)
    add(writer)
    with monkeypatch.context() as patch:
        patch.setattr("robot_wm.contracts.files.write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            writer.close()
    with LeRobotWriter(tmp_path, 5.0, FEATURES) as writer:
        assert writer.num_episodes == 2
        add(writer)
    assert LeRobotDataset(tmp_path).info.total_frames == 18


def test_torn_journal_line_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal.append(path, {"a": 1}, {"a": 2})
    with path.open("ab") as file:
        file.write(b'{"a": ')
    assert journal.read(path) == [{"a": 1}, {"a": 2}]
    journal.append(path, {"a": 3})
    assert [line["a"] for line in journal.read(path)] == [1, 2, 3]


def test_interrupted_pack_goes_on(tmp_path: Path, film, monkeypatch: pytest.MonkeyPatch) -> None:
    with LeRobotWriter(tmp_path / "set", 5.0, FEATURES) as writer:
        for episode in range(6):
            writer.add_episode({STATE: np.full(8, episode)}, {image_key("front"): film(8, 32, 32, episode)})
    spec, read = PackSpec(32, 0.2, 8), LeRobotDataset.frames_of
    decoded: list[int] = []

    def dies_at(limit: int):  # type: ignore[no-untyped-def]
        def frames_of(self: LeRobotDataset, episodes: list[int], *rest: object) -> object:
            if len(decoded) >= limit:
                raise KeyboardInterrupt
            decoded.extend(episodes)
            return read(self, episodes, *rest)  # type: ignore[arg-type]

        return frames_of

    expected = build_pack(tmp_path / "set", spec, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(LeRobotDataset, "frames_of", dies_at(3))
        with pytest.raises(KeyboardInterrupt):
            build_pack(tmp_path / "set", spec, tmp_path / "cache", workers=1)
        patch.setattr(LeRobotDataset, "frames_of", dies_at(99))
        pack = build_pack(tmp_path / "set", spec, tmp_path / "cache", workers=1)
    assert sorted(decoded) == list(range(6))
    assert np.array_equal(pack.frames_FYXC, expected.frames_FYXC)
    assert np.array_equal(pack.flow_F, expected.flow_F)
    assert np.array_equal(pack.columns[STATE], expected.columns[STATE])
