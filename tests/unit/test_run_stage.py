"""The run stage: twin and replay, resuming, and the flight log as a dataset that other stages read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from deploy.flights import CLOCK, COMMAND, HELD
from deploy.goals import GoalConfig, read_goals
from deploy.robots import FIRST_SEED, Arm
from deploy.runtime.controller import Controller
from deploy.stages.run import RunConfig, run
from robot_wm.contracts.bundle import read_bundle
from robot_wm.contracts.dataset import ACTION, STATE
from robot_wm.contracts.embodiment import Camera, Embodiment, Mjcf, Safety
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import read_run
from robot_wm.data.lerobot import LeRobotDataset
from sims.robots import load
from tests.handmade_bundle import SIDE, make_spec, write_bundle

MJCF = """
<mujoco><compiler angle="radian"/><option timestep="0.01" integrator="implicitfast"/>
  <default><joint damping="2" armature="0.05"/><geom type="capsule" size="0.03" contype="0" conaffinity="0"/></default>
  <worldbody><light pos="0 0 2"/>
    <body pos="0 0 0.2"><joint name="left" axis="0 0 1" range="-1.5 1.5"/><geom fromto="0 0 0 0.3 0 0"/>
      <body pos="0.3 0 0"><joint name="right" axis="0 0 1" range="-1.5 1.5"/><geom fromto="0 0 0 0.25 0 0"/>
        <site name="tip" pos="0.25 0 0"/></body></body></worldbody>
  <actuator><velocity name="left" joint="left" kv="5" ctrlrange="-2 2"/>
    <velocity name="right" joint="right" kv="5" ctrlrange="-2 2"/></actuator></mujoco>
"""


@pytest.fixture(scope="module")
def embodiment(tmp_path_factory: pytest.TempPathFactory) -> Embodiment:
    mjcf = tmp_path_factory.mktemp("body") / "arm.xml"
    mjcf.write_text(MJCF)
    camera = Camera("front", SIDE, SIDE, position_m=(0.3, 0.0, 1.5), target_m=(0.3, 0.01, 0.0))
    return Embodiment("arm", Mjcf(str(mjcf)), "joint_velocity", "tip", camera, 20.0, 4, Safety(0.5))


@pytest.fixture(scope="module")
def bundle(embodiment: Embodiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with load(embodiment) as simulation:
        spec = make_spec(
            embodiment="arm",
            embodiment_sha256=embodiment.digest(),
            command=simulation.command,
            proprio=simulation.proprio_names,
        )
    return write_bundle(tmp_path_factory.mktemp("run") / "bundle", spec)


@pytest.fixture
def config(bundle: Path, embodiment: Embodiment, tmp_path: Path) -> RunConfig:
    return RunConfig(str(bundle), embodiment, episodes=2, threads=1, out=str(tmp_path / "runs"))


def test_flight_log_is_a_dataset_and_can_be_replayed(config: RunConfig) -> None:
    path = run(config)
    manifest = read_run(path, "run")
    assert manifest.metrics["episodes"] == 2
    assert 0 <= manifest.metrics["successes"] <= 2
    assert 0 < manifest.metrics["p50_ms"] <= manifest.metrics["p99_ms"]
    assert manifest.embodiment_sha256 == config.embodiment.digest()
    dataset = LeRobotDataset(path / "dataset")
    assert dataset.num_episodes == 2
    assert dataset.episode_length(0) == 50
    assert dataset.info.fps == 20
    columns = dataset.columns(0)
    assert set(columns) >= {STATE, ACTION, COMMAND, HELD, CLOCK}
    assert dataset.info.features[ACTION].names == ("left", "right")
    assert np.abs(columns[ACTION]).max() <= 2
    assert np.diff(columns[CLOCK].ravel()) == pytest.approx(0.05)
    assert run(config) == path, "the same again finds itself"

    replayed = run(replace(config, robot="replay", log=str(path)))
    assert read_run(replayed, "run").metrics["difference_from_log"] >= 0
    again = LeRobotDataset(replayed / "dataset").columns(0)
    assert np.array_equal(again[ACTION], columns[ACTION]), "what was really sent is the log"


def test_goals_of_ones_own_are_flown_one_after_the_other(config: RunConfig, tmp_path: Path) -> None:
    goals = (GoalConfig(joints=(0.5, -0.5), tell=False), GoalConfig(hand_m=(0.4, 0.2, 0.2), tell=False))
    path = run(replace(config, goals=goals, episodes=1))
    assert LeRobotDataset(path / "dataset").episode_length(0) == 100, "two goals in one episode"
    assert "successes" not in read_run(path, "run").metrics
    again = run(replace(config, goals=(GoalConfig(episode=str(path), tell=False),), episodes=1))
    assert LeRobotDataset(again / "dataset").episode_length(0) == 50


def test_a_goal_shows_what_it_says(config: RunConfig, tmp_path: Path) -> None:
    spec, body = read_bundle(Path(config.bundle)).spec, config.embodiment
    posed, reached = read_goals([GoalConfig(joints=(0.5, -0.5)), GoalConfig(hand_m=(0.4, 0.2, 0.2))], spec, body)
    with load(body) as simulation:
        simulation.reset(0)
        simulation.pose(np.array([0.5, -0.5]))
        assert np.array_equal(posed.frame_YXC, simulation.frame())
        assert posed.proprio_P is not None and reached.proprio_P is not None
        assert posed.proprio_P[:2] == pytest.approx([0.5, -0.5], abs=1e-6)
        assert np.isnan(posed.proprio_P[2:]).all(), "velocities are left open"
        assert simulation.hand_at(reached.proprio_P[:2].astype(float)) == pytest.approx([0.4, 0.2, 0.2], abs=0.01)
    cv2.imwrite(str(tmp_path / "goal.png"), posed.frame_YXC[..., ::-1])
    (pictured,) = read_goals([GoalConfig(image=str(tmp_path / "goal.png"))], spec, body)
    assert np.array_equal(pictured.frame_YXC, posed.frame_YXC)
    assert pictured.proprio_P is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "a goal has nothing"),
        ({"image": "a.png", "episode": "b"}, "a goal has image, episode"),
        ({"hand_m": (0.1, 0.2, 0.3), "joints": (0.0, 0.0)}, "a goal has state"),
        ({"image": "nowhere.png"}, "nowhere.png is no picture"),
        ({"joints": (9.0, 0.0)}, r"joints are \[9.0, 0.0\].*-1.5 to 1.5"),
        ({"hand_m": (0.1, float("nan"), 0.3)}, "a goal has hand_m .*three numbers"),
        ({"hand_m": (0.9, 0.0, 0.2)}, r"no nearer to hand_m \[0.9, 0.0, 0.2\] than 0.35"),
        ({"object_m": (0.1, 0.2, 0.3)}, "arm has no object"),
    ],
)
def test_goals_that_cannot_be_are_refused(config: RunConfig, values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_goals([GoalConfig(**values)], read_bundle(Path(config.bundle)).spec, config.embodiment)


@pytest.mark.slow
def test_twin_in_its_own_process_flies_in_real_time_and_leaves_the_same_kind_of_dataset(config: RunConfig) -> None:
    path = run(replace(config, robot="twin_process", severity=0.5))
    manifest = read_run(path, "run")
    assert 0 <= manifest.metrics["successes"] <= 2
    dataset = LeRobotDataset(path / "dataset")
    assert dataset.num_episodes == 2
    assert dataset.episode_length(0) >= 50
    assert not dataset.columns(0)[ACTION][-1].any(), "at rest at the end"
    assert json.loads((path / "truth.json").read_text())["delay_s"] > 0


def test_same_seed_same_flight(config: RunConfig, tmp_path: Path) -> None:
    first, second = run(config), run(replace(config, out=str(tmp_path / "other")))
    for episode in range(2):
        assert np.array_equal(
            LeRobotDataset(first / "dataset").columns(episode)[ACTION],
            LeRobotDataset(second / "dataset").columns(episode)[ACTION],
        )


def test_interrupted_run_goes_on_with_the_next_episode(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, steps = Controller.step, 0

    def interrupt(self: Controller, *args: np.ndarray) -> object:
        nonlocal steps
        steps += 1
        if steps == 20:  # in the second episode: 13 plans make one
            raise KeyboardInterrupt
        return step(self, *args)

    monkeypatch.setattr(Controller, "step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(config)
    (left,) = Path(config.out).glob("run/*/dataset")
    assert [LeRobotDataset(left).episode_length(i) for i in range(2)] == [50, 24], "what was flown is a dataset already"
    path = run(config)
    assert steps == 20 + 13, "the first episode was not flown again"
    dataset = LeRobotDataset(path / "dataset")
    assert [dataset.episode_length(i) for i in range(dataset.num_episodes)] == [50, 24, 50], "no row was lost"
    whole = run(replace(config, out=str(tmp_path / "other")))
    assert np.array_equal(dataset.columns(2)[ACTION], LeRobotDataset(whole / "dataset").columns(1)[ACTION])
    assert read_run(path).metrics["episodes"] == 2


def test_severity_changes_what_the_controller_meets(config: RunConfig) -> None:
    mild, hard = run(config), run(replace(config, severity=1.0))
    frames = [LeRobotDataset(path / "dataset").frames(0).astype(int) for path in (mild, hard)]
    assert np.abs(frames[0] - frames[1]).mean() > 2


def test_bundle_of_another_body_is_refused_before_anything_is_written(config: RunConfig) -> None:
    other = replace(config.embodiment, name="other")
    with pytest.raises(UserError, match=r"another body \(arm\) than embodiment other"):
        run(replace(config, embodiment=other))
    assert not Path(config.out).exists()


def test_changed_mjcf_is_noticed(config: RunConfig) -> None:
    mjcf = Path(config.embodiment.mjcf.path)
    mjcf.write_text(MJCF.replace("-2 2", "-3 3"))
    try:
        with pytest.raises(UserError, match="MJCF has changed"):
            run(config)
    finally:
        mjcf.write_text(MJCF)
    assert not list(Path(config.out).rglob("*-*")), "no half-written run"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"robot": "replay"}, "no log"),
        ({"log": "somewhere"}, "robot=twin reads none"),
        ({"robot": "remote"}, "robot=remote has no address"),
        ({"robot": "remote", "address": "127.0.0.1:1"}, "no robot answers at 127.0.0.1:1"),
        ({"robot": "remote", "address": "robot.example:5555"}, "not this computer"),
        ({"robot": "feetech"}, "robot=feetech has no arm.calibration"),
        ({"robot": "feetech", "arm": Arm(calibration="a", goal="none.png")}, "goal none.png is no picture"),
        ({"episodes": 0}, "episodes is 0"),
        ({"threads": -1}, "threads is -1"),
        ({"severity": 2.0}, "severity is 2"),
        ({"robot": "replay", "log": "nowhere"}, "nowhere"),
    ],
)
def test_bad_values_are_one_line(config: RunConfig, changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        run(replace(config, **changes))  # type: ignore[arg-type]
    assert not list(Path(config.out).rglob("*-*")), "no half-written run"


def test_goals_are_not_those_of_an_evaluation() -> None:
    from deploy.stages.evaluate import goal_seed

    assert goal_seed(10_000) < FIRST_SEED


def test_outcomes_are_strict_json(config: RunConfig) -> None:
    path = run(config)
    for outcome in sorted((path / "flight").glob("*.json")):
        assert json.loads(outcome.read_text())["guards"] is not None
