"""The run stage: twin and replay, resuming, and the flight log as a dataset that other stages read."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.flights import CLOCK, COMMAND, HELD
from deploy.robots import FIRST_SEED, Arm
from deploy.runtime.controller import Controller
from deploy.stages.run import RunConfig, run
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
