"""Datasets in shards: killed anywhere, written by anyone in any order, they come out the same."""

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from robot_wm.contracts import limits
from robot_wm.contracts.dataset import STATE, Feature, depth_key, image_key
from robot_wm.contracts.errors import UserError
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.lerobot_files import Episode, Format
from robot_wm.data.lerobot_shards import LeRobotShards
from robot_wm.data.lerobot_writer import LeRobotWriter
from tests import children

KEY = image_key("front")
FORM = Format(5.0, {KEY: Feature("video", (32, 32, 3)), STATE: Feature("float32", (2,))})
LENGTHS, TASKS = [7, 3, 5, 9, 1, 6, 4] * 5, ("push", "reach")
RECORDER = """
import sys
from pathlib import Path
from tests.recovery.test_shards import open_shards, episode

shards = open_shards(Path(sys.argv[1]))
for number in shards.missing():
    shards.write(number, episode)
    print(number, flush=True)
"""


def open_shards(path: Path) -> LeRobotShards:
    return LeRobotShards(path, FORM, LENGTHS, TASKS)


def episode(index: int) -> Episode:
    random = np.random.default_rng(index)
    frames = random.integers(0, 256, (LENGTHS[index], 1, 1, 3), dtype=np.uint8) * np.ones((1, 32, 32, 1), np.uint8)
    return Episode({STATE: random.normal(size=(LENGTHS[index], 2))}, {KEY: frames}, TASKS[index % 2])


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written without interruption by one process, in order."""
    path = tmp_path_factory.mktemp("whole") / "set"
    shards = open_shards(path)
    for number in range(len(shards.shards)):
        shards.write(number, episode)
    shards.close()
    return path


def test_killed_at_random_points_it_goes_on_and_comes_out_the_same(
    tmp_path: Path, repository: Path, whole: Path
) -> None:
    path, acknowledged, random = tmp_path / "set", set[int](), np.random.default_rng(0)
    kills = 0
    while open_shards(path).missing():
        with children.python(repository, "-c", RECORDER, str(path)) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            if kills < 4:
                time.sleep(float(random.uniform(0, 0.1)))
                process.send_signal(signal.SIGKILL)
                kills += 1
            lines = [first, *process.stdout.read().splitlines(keepends=True)]
            written = {int(line) for line in lines if line.endswith("\n")}
        assert not written & acknowledged  # what was acknowledged is never done again
        acknowledged |= written
        assert not acknowledged & set(open_shards(path).missing())
    assert kills > 1
    open_shards(path).close()
    assert contents(path) == contents(whole)


def test_order_and_writer_make_no_difference(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "set"
    for number in np.random.default_rng(1).permutation(len(open_shards(path).shards)):
        open_shards(path).write(int(number), episode)
    open_shards(path).close()
    assert contents(path) == contents(whole)


def test_shards_hold_what_a_single_writer_holds(tmp_path: Path, whole: Path) -> None:
    with LeRobotWriter(tmp_path / "set", FORM.fps, dict(FORM.features)) as writer:
        for index in range(16):
            given = episode(index)
            writer.add_episode(given.columns, given.videos, given.task)
    single, shards = LeRobotDataset(tmp_path / "set"), LeRobotDataset(whole)
    assert shards.info.features == single.info.features
    assert shards.info.total_frames == sum(LENGTHS)
    for index in [*range(16), len(LENGTHS) - 1]:
        assert shards.tasks(index) == [TASKS[index % 2]]
        expected = episode(index)
        np.testing.assert_array_equal(shards.columns(index)[STATE], expected.columns[STATE].astype(np.float32))
        assert np.abs(shards.frames(index).astype(int) - expected.videos[KEY]).max() < 12
        if index < 16:
            for key, values in single.columns(index).items():
                np.testing.assert_array_equal(shards.columns(index)[key], values)


def test_killed_while_it_is_closed(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "set"
    shards = open_shards(path)
    for number in shards.missing():
        shards.write(number, episode)
    for victim in ("robot_wm.contracts.files.write_json", "shutil.rmtree"):
        with monkeypatch.context() as patch:
            patch.setattr(victim, lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                open_shards(path).close()
    assert not open_shards(path).missing()
    assert len(open_shards(path).close()) == len(LENGTHS)
    assert contents(path) == contents(whole)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    shards = open_shards(tmp_path / "set")
    for number in shards.missing()[:-1]:
        shards.write(number, episode)
    with pytest.raises(UserError, match=f"lacks 1 of {len(shards.shards)} shards"):
        shards.close()


def test_an_episode_of_another_length_is_refused(tmp_path: Path) -> None:
    shards = open_shards(tmp_path / "set")
    with pytest.raises(ValueError, match="has 3 rows, not 7"):
        shards.write(0, lambda index: episode(1))
    assert 0 in shards.missing()


def test_shards_with_depth_stay_within_what_can_be_read_again(tmp_path: Path) -> None:
    depth = {depth_key("front"): Feature("uint16", (480, 640))}
    shards = LeRobotShards(tmp_path / "set", Format(25.0, depth), [100] * 10_000, TASKS)
    assert max(len(shard) * 100 for shard in shards.shards) * 480 * 640 < limits.TABLE_VALUES
