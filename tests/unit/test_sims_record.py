"""record: what it writes, that it resumes, and that it does not matter which process recorded what."""

import os
import sys
from dataclasses import replace

import numpy as np
import pytest

from robot_wm.contracts.dataset import ACTION, HAND, OBJECT, STATE, depth_key, is_depth
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import read_run
from robot_wm.data.inspection import inspect as look_over
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.lerobot_shards import LeRobotShards
from sims import robots
from sims.behaviours import babble
from sims.filming import SceneVideo
from sims.recording import BodyLog
from sims.stages import record as stage
from sims.stages.record import RecordConfig, record
from tests.small_bodies import fetch, planar_arm

INTERFACES = ("joint_position", "joint_velocity", "joint_torque")


def test_arms_are_filmed_without_actions_and_a_second_run_says_so(tmp_path):
    config = RecordConfig(out=str(tmp_path), episodes=3, frames_per_episode=5, size=32, workers=2)
    path = record(config)
    dataset = LeRobotDataset(path / "dataset")
    assert dataset.num_episodes == 3
    assert dataset.info.fps == 5
    assert not {ACTION, STATE} & set(dataset.info.features)
    assert dataset.frames(2).shape == (5, 32, 32, 3)
    direct = SceneVideo(config.seed, 32, 0.2).episode(2, 5)  # recorded here, not in a worker
    np.testing.assert_array_equal(dataset.columns(2)[HAND], direct.columns[HAND])
    assert dataset.columns(2)[OBJECT].shape == (5, 3)
    metrics = read_run(path, "record").metrics
    assert metrics["frames"] == 15
    assert record(config) == path


def test_interrupted_recording_goes_on_with_the_shards_that_are_missing(tmp_path, monkeypatch):
    config = RecordConfig(out=str(tmp_path), episodes=3, frames_per_episode=3, size=32, workers=1)
    written, write = [], LeRobotShards.write

    def stop_after_one(shards, number, record):
        if written:
            raise KeyboardInterrupt
        written.append(number)
        write(shards, number, record)

    with monkeypatch.context() as patch:
        patch.setattr(LeRobotShards, "write", stop_after_one)
        patch.setattr(stage, "_record", in_this_process)
        with pytest.raises(KeyboardInterrupt):
            record(config)
        patch.setattr(LeRobotShards, "write", lambda s, n, r: (written.append(n), write(s, n, r)))
        path = record(config)
    assert written == [0, 1, 2]
    dataset = LeRobotDataset(path / "dataset")
    for index in range(3):
        expected = SceneVideo(0, 32, 0.2).episode(index, 3).columns[HAND]
        np.testing.assert_array_equal(dataset.columns(index)[HAND], expected)


def in_this_process(config, shards):
    recorder = stage.Recorder(config)
    for number in shards.missing():
        recorder.record(shards, number)
    return {}


def test_depth_is_recorded_to_the_millimetre_for_the_cameras_that_are_named(tmp_path):
    path = record(
        RecordConfig(
            out=str(tmp_path), episodes=2, frames_per_episode=4, size=32, cameras=2, workers=1, depth=("second",)
        )
    )
    dataset = LeRobotDataset(path / "dataset")
    assert [key for key in dataset.info.features if is_depth(key)] == [depth_key("second")]
    assert depth_key("second") not in dataset.columns(1)  # it is a picture: only who asks for it reads it
    stored_FYX = dataset.columns(1, [depth_key("second")])[depth_key("second")]
    assert (stored_FYX.dtype, stored_FYX.shape) == (np.dtype(np.uint16), (4, 32, 32))
    direct = SceneVideo(0, 32, 0.2, 2, depth=("second",)).episode(1, 4)
    np.testing.assert_array_equal(stored_FYX, direct.columns[depth_key("second")])
    assert dataset.stats()[depth_key("second")]["max"][0][0] >= stored_FYX.max() > 0
    [depth] = look_over(path / "dataset").depths
    assert (depth.key, depth.height, depth.width) == (depth_key("second"), 32, 32)
    assert 0.02 < depth.near_m < depth.far_m < 65


def test_a_bodys_log_carries_its_cameras_depth(tmp_path):
    embodiment = planar_arm(tmp_path)
    log = BodyLog(embodiment, 0, depth=True)
    episode = log.episode(0, 1)
    key = depth_key(embodiment.camera.name)
    assert log.features[key].shape == (embodiment.camera.height, embodiment.camera.width)
    log.simulation.reset(int(np.random.default_rng([0, 0]).integers(2**31)))
    np.testing.assert_array_equal(episode.columns[key][0], log.simulation.depth_mm())
    assert (episode.columns[key][0] > 0).mean() > 0.3
    log.simulation.close()


def test_depth_of_a_camera_that_is_not_recorded_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"depth names 'third'.*front, second"):
        record(RecordConfig(out=str(tmp_path), cameras=2, depth=("third",)))


def test_cameras_see_one_motion_each_in_its_own_frame(tmp_path):
    path = record(RecordConfig(out=str(tmp_path), episodes=2, frames_per_episode=4, size=32, cameras=3, workers=1))
    dataset = LeRobotDataset(path / "dataset")
    assert dataset.info.cameras == ("front", "second", "third")
    columns = dataset.columns(0)
    hands, things = ([columns[key], columns[f"{key}.second"], columns[f"{key}.third"]] for key in (HAND, OBJECT))
    between = [np.linalg.norm(hand - thing, axis=1) for hand, thing in zip(hands, things, strict=True)]
    np.testing.assert_allclose(between[1], between[0], atol=1e-5)  # a camera's frame keeps distances
    np.testing.assert_allclose(between[2], between[0], atol=1e-5)
    assert np.abs(hands[1] - hands[0]).max() > 0.05
    np.testing.assert_array_equal(columns[HAND], SceneVideo(0, 32, 0.2, 3).episode(0, 4).columns[HAND])


def test_calibration_log_has_exactly_the_transitions_asked_for(tmp_path):
    body = planar_arm(tmp_path)
    path = record(RecordConfig(out=str(tmp_path), embodiment=body, transitions=7, transitions_per_episode=3, workers=1))
    dataset = LeRobotDataset(path / "dataset")
    rows = [dataset.episode_length(i) for i in range(dataset.num_episodes)]
    assert rows == [13, 13, 5]
    assert sum((n - 1) // body.frame_skip for n in rows) == 7
    assert dataset.info.fps == body.control_rate_hz
    assert dataset.info.features[STATE].names[0] == "shoulder_position"
    assert np.abs(np.diff(dataset.columns(0)[ACTION], axis=0)).max() <= body.safety.max_step + 1e-6
    run = read_run(path)
    assert run.embodiment_sha256 == body.digest()
    assert 0 < run.metrics["workspace_share"] < 0.5  # so short a log has not been everywhere
    assert "object_moves_share" not in run.metrics


def test_rows_pair_what_was_seen_with_the_command_sent_next(tmp_path):
    log = BodyLog(planar_arm(tmp_path), seed=4)
    columns = log.episode(0, 3).columns
    with robots.load(planar_arm(tmp_path)) as arm:
        rng = np.random.default_rng([4, 0])
        arm.reset(int(rng.integers(2**31)))
        for state, command in zip(columns[STATE], columns[ACTION], strict=True):
            np.testing.assert_allclose(arm.proprio(), state, atol=1e-5)
            arm.step(command.astype(np.float64))


@pytest.mark.parametrize("interface", INTERFACES)
def test_babble_keeps_its_limits_and_moves(tmp_path, interface):
    with robots.load(planar_arm(tmp_path, interface)) as arm:
        command, places, before = arm.command, [], arm.reference()
        for command_U in babble(arm, 200, np.random.default_rng(0)):
            assert (command_U >= np.asarray(command.low) - 1e-12).all()
            assert (command_U <= np.asarray(command.high) + 1e-12).all()
            assert (np.abs(command_U - before) <= np.asarray(command.max_step) + 1e-12).all()
            before = arm.step(command_U)
            places.append(arm.end_effector())
        assert np.ptp(places, axis=0)[:2].min() > 0.15


def test_babble_covers_the_goals_of_fetch_reach_and_stops_now_and_then():
    with robots.load(fetch()) as simulation:
        places, commands = [], []
        for episode in range(6):
            simulation.reset(episode)
            for command_U in babble(simulation, 125, np.random.default_rng(episode)):
                commands.append(simulation.step(command_U))
                places.append(simulation.end_effector() - simulation.start_m)
    octants = {tuple(p > 0) for p in np.array(places) if (np.abs(p) < 0.15).all() and (np.abs(p) > 0.05).all()}
    assert len(octants) == 8
    assert np.abs(places).max() < 0.3
    speeds = np.abs(commands).max(1)
    assert 0.02 < (speeds == 0).mean() < 0.4
    assert speeds.max() > 1.0


def test_a_recording_process_that_dies_is_reported_and_can_be_resumed(tmp_path, monkeypatch):
    config = RecordConfig(out=str(tmp_path), episodes=2, frames_per_episode=2, size=16, workers=1)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_record_shard", _die)
        with pytest.raises(UserError, match="recording processes died"):
            record(config)
    path = record(replace(config, workers=2))
    assert LeRobotDataset(path / "dataset").num_episodes == 2
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("guarded", [True, False])
def test_a_script_that_its_recording_processes_would_run_again_is_told_so(tmp_path, monkeypatch, guarded):
    script, body = tmp_path / "mine.py", "record(config)"
    script.write_text(f'if __name__ == "__main__":\n    {body}' if guarded else body)
    monkeypatch.setattr(
        sys.modules["__main__"], "__file__", str(script), raising=False
    )  # a worker of pytest-xdist has none
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None, raising=False)
    config = RecordConfig(out=str(tmp_path / "runs"), episodes=1, frames_per_episode=2, size=16, workers=1)
    if guarded:
        monkeypatch.setattr(stage, "_record", in_this_process)
        assert read_run(record(config), "record").metrics["frames"] == 2
    else:
        with pytest.raises(UserError, match=r"mine\.py records without .*__main__.*run all of it again"):
            record(config)
        assert not (tmp_path / "runs").exists()


def _die(number):
    os._exit(9)
