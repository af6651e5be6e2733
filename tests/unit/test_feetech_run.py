"""The run stage on an arm: dry by default, moved when asked to, stopped by the first guard that ends a flight."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.robots import Arm
from deploy.stages.run import RunConfig, run
from robot_wm.contracts.dataset import ACTION
from robot_wm.contracts.embodiment import Camera, Embodiment, Mjcf, Safety
from robot_wm.contracts.errors import UserError
from robot_wm.data.lerobot import LeRobotDataset
from tests.feetech_bus import TORQUE, SerialBus
from tests.feetech_bus import bus as bus
from tests.feetech_bus import calibration as calibration
from tests.handmade_bundle import SIDE, make_spec, write_bundle

pytest.importorskip("scservo_sdk", reason="needs pip install 'robot-wm[feetech]'")


def bundle_of(path: Path, body: Embodiment) -> Path:
    """A controller of the arm at 50 Hz that goes 0.02 rad a tick."""
    command = replace(make_spec("joint_position").command, control_rate_hz=50.0, max_step=(0.02, 0.02))
    spec = make_spec(
        "joint_position", embodiment="arm", embodiment_sha256=body.digest(), command=command, safety=body.safety
    )
    return write_bundle(path, spec)


@pytest.fixture
def config(tmp_path: Path, calibration: Path) -> RunConfig:
    film = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    for _ in range(4):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    cv2.imwrite(str(tmp_path / "goal.png"), np.full((48, 64, 3), (0, 0, 255), np.uint8))
    camera = Camera("front", SIDE, SIDE)
    limits = Safety(0.02, max_frame_age_s=0.4)  # the film is over at once: flights end up on hold
    body = Embodiment("arm", Mjcf("none.xml"), "joint_position", "tip", camera, 50.0, 4, limits)
    arm = Arm("/dev/none", str(calibration), str(film), str(tmp_path / "goal.png"), 0.5)
    bundle = bundle_of(tmp_path / "bundle", body)
    out = str(tmp_path / "runs")
    return RunConfig(str(bundle), body, robot="feetech", arm=arm, episodes=1, threads=1, out=out)


def test_a_dry_run_reads_and_leaves_a_log(config: RunConfig, bus: SerialBus) -> None:
    dataset = LeRobotDataset(run(config) / "dataset")
    assert dataset.episode_length(0) >= 25
    stood_U = [0.0, -100 * 2 * np.pi / 4096]  # to the middle of each range
    assert dataset.columns(0)[ACTION] == pytest.approx(np.tile(stood_U, (dataset.episode_length(0), 1)), abs=1e-6)
    assert bus.goals == []
    assert not any(servo.registers[TORQUE] for servo in bus.servos.values())


def test_with_execute_the_arm_moves_within_its_steps(config: RunConfig, bus: SerialBus) -> None:
    run(replace(config, execute=True))
    goals = np.array([[goal[3], goal[5]] for goal in bus.goals])
    assert np.ptp(goals[:, 0]) > 20
    assert np.abs(np.diff(goals, axis=0)).max() <= 15, "0.02 rad are 13 ticks"


def test_a_guard_that_ends_a_flight_ends_the_run(config: RunConfig, bus: SerialBus) -> None:
    limits = replace(config.embodiment.safety, answers={"stale_frame": "torque_off"})
    body = replace(config.embodiment, safety=limits)
    bundle = bundle_of(Path(config.out).parent / "other", body)
    arm = replace(config.arm, seconds=5.0)
    with pytest.raises(UserError, match=r"stale_frame ended flight 0. See why"):
        run(replace(config, bundle=str(bundle), embodiment=body, arm=arm, execute=True, episodes=2))
    assert not any(servo.registers[TORQUE] for servo in bus.servos.values())
    assert len(list(Path(config.out).glob("run/*/dataset"))) == 1
