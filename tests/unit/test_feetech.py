"""The arm's driver against servos that speak the protocol byte by byte, under the maker's library."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.drivers.feetech import Feetech, read_calibration
from deploy.runtime.controller import Controller
from deploy.runtime.loop import run_loop
from deploy.runtime.safety import STALE_FRAME, Safety
from robot_wm.contracts.errors import UserError
from tests.feetech_bus import CALIBRATION, PRESENT, SPEED, TORQUE, SerialBus
from tests.feetech_bus import bus as bus
from tests.feetech_bus import calibration as calibration
from tests.handmade_bundle import colour, make_spec, write_bundle

pytest.importorskip("scservo_sdk", reason="needs pip install 'robot-wm[feetech]'")

SPEC = make_spec("joint_position")
TICK_RAD = 2 * np.pi / 4096


class Pictures:
    """A camera that is as old as it is told to be."""

    age_s = 0.0

    def newest(self) -> tuple[np.ndarray, float]:
        return colour(0, 0, 0), time.monotonic() - self.age_s

    def close(self) -> None:
        pass


def arm(calibration: Path, execute: bool = False) -> Feetech:
    return Feetech("/dev/none", read_calibration(calibration, SPEC.command.names), Pictures(), SPEC, execute)


def test_positions_and_speeds_are_in_radians_about_the_middle_of_the_range(bus: SerialBus, calibration: Path) -> None:
    bus.servos[3].put(PRESENT, 2148)
    bus.servos[3].put(SPEED, 50 | 1 << 15)
    bus.servos[5].put(SPEED, 20)
    seen = arm(calibration).read()
    assert seen.proprio_P == pytest.approx([100 * TICK_RAD, -100 * TICK_RAD, -50 * TICK_RAD, -20 * TICK_RAD])
    assert seen.proprio_time_s is not None
    assert abs(time.monotonic() - seen.proprio_time_s) < 5


def test_a_dry_run_sends_nothing_and_says_where_the_arm_is(bus: SerialBus, calibration: Path) -> None:
    robot = arm(calibration)
    assert robot.write(np.array([0.5, 0.5])) == pytest.approx([0.0, -100 * TICK_RAD])
    assert not bus.goals
    assert not any(servo.registers[TORQUE] for servo in bus.servos.values())


def test_commands_become_goals_that_are_told_back_as_rounded(bus: SerialBus, calibration: Path) -> None:
    robot = arm(calibration, execute=True)
    assert bus.torque_before_goal == [], "the goal was where the arm is before it got torque"
    assert all(servo.registers[TORQUE] for servo in bus.servos.values())
    sent_U = robot.write(np.array([0.1, 0.2]))
    assert bus.goals[-1] == {3: 2048 + round(0.1 / TICK_RAD), 5: 1948 - round(0.2 / TICK_RAD)}
    assert sent_U == pytest.approx([0.1, 0.2], abs=TICK_RAD)
    assert robot.read().proprio_P[:2] == pytest.approx(sent_U)
    robot.write(np.array([3.0, 0.2]))
    assert bus.goals[-1][3] == 3048, "never beyond the calibrated range"
    robot.release()
    assert not any(servo.registers[TORQUE] for servo in bus.servos.values())


def test_one_spoilt_answer_is_asked_for_again_and_silence_is_an_error(bus: SerialBus, calibration: Path) -> None:
    robot = arm(calibration)
    bus.corrupt = 1
    robot.read()
    bus.silent = {5}
    with pytest.raises(OSError, match="no status packet"):
        robot.read()


def test_torque_goes_off_wherever_it_can(bus: SerialBus, calibration: Path) -> None:
    robot = arm(calibration, execute=True)
    bus.silent = {3}
    with pytest.raises(OSError, match=r"\[3\] do not confirm torque off"):
        robot.release()
    assert not bus.servos[5].registers[TORQUE]


def test_a_flight_on_the_bus_keeps_limits_and_stops_when_the_camera_does(
    bus: SerialBus, calibration: Path, tmp_path: Path
) -> None:
    spec = replace(SPEC, command=replace(SPEC.command, control_rate_hz=100.0, max_step=(0.02, 0.02)))
    spec = replace(spec, safety=replace(spec.safety, max_step=0.02))
    controller = Controller(write_bundle(tmp_path / "bundle", spec), num_threads=1)
    controller.set_goal(colour(1, 0, 0))
    camera = Pictures()
    robot = Feetech("/dev/none", read_calibration(calibration, spec.command.names), camera, spec, execute=True)
    safety = Safety(spec)

    def stop_camera(tick: object) -> None:
        camera.age_s = 0.0 if safety.counts[STALE_FRAME] or robot.in_force()[0] < 0.2 else 1.0

    result = run_loop(
        controller, robot, 40, safety, on_step=stop_camera, reference_U=robot.in_force(), in_worker=True,
        at_end="slow_stop",
    )  # fmt: skip
    goals = np.array([[goal[3], goal[5]] for goal in bus.goals])
    assert np.abs(np.diff(goals, axis=0)).max() <= np.ceil(0.02 / TICK_RAD) + 1
    assert goals[-1][0] > 2048 + 0.15 / TICK_RAD
    assert result.interventions[STALE_FRAME]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"left": None}, "lacks joint 'left'. It has: right"),
        ({"left": CALIBRATION["right"]}, "two joints the same id"),
        ({"left": {**CALIBRATION["left"], "range_min": 4000}}, "range_min < range_max"),
        ({"left": {"id": 3}}, "'drive_mode' is missing"),
    ],
)
def test_calibrations_that_make_no_sense(tmp_path: Path, change: dict[str, object], words: str) -> None:
    path = tmp_path / "arm.json"
    path.write_text(json.dumps({k: v for k, v in {**CALIBRATION, **change}.items() if v is not None}))
    with pytest.raises(UserError) as caught:
        read_calibration(path, SPEC.command.names)
    assert words in str(caught.value)


def test_what_is_not_there_is_one_line(bus: SerialBus, calibration: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not exist. Give the JSON that lerobot-calibrate wrote"):
        read_calibration(tmp_path / "none.json", SPEC.command.names)
    bus.silent = {5}
    with pytest.raises(UserError, match=r"servo 5 \(right\) does not answer at /dev/none"):
        arm(calibration)
    assert bus.closed
    motors = read_calibration(calibration, SPEC.command.names)
    with pytest.raises(UserError, match="servos take joint_position"):
        Feetech("/dev/none", motors, Pictures(), make_spec(), False)


def test_a_port_that_is_not_there_is_one_line(calibration: Path) -> None:
    with pytest.raises(UserError, match=r"port /dev/none does not open .* Give the arm's"):
        arm(calibration)
