"""The loop against a robot made of a list: what is sent, when a plan is made, and what happens when things fail."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.runtime import safety as guards
from deploy.runtime.clock import TickClock
from deploy.runtime.controller import Controller
from deploy.runtime.flight import Tick
from deploy.runtime.loop import latency_percentiles_ms, run_loop, stop
from deploy.runtime.recorder import FlightLog, read_episodes
from deploy.runtime.safety import Safety
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation
from tests.handmade_bundle import colour, make_spec, write_bundle

PERIOD_S = 0.05
BLACK, RED = colour(0, 0, 0), colour(1, 0, 0)


class ListRobot:
    """Shows black frames in simulated time; `frame_times` and `proprios` replace readings by tick."""

    def __init__(
        self, frame_times: dict[int, float] | None = None, proprios: dict[int, float] | None = None, fails_at: int = -1
    ):
        self.sent: list[np.ndarray] = []
        self.reads = 0
        self._frame_times, self._proprios, self._fails_at = frame_times or {}, proprios or {}, fails_at

    def read(self) -> Observation:
        tick, self.reads = self.reads, self.reads + 1
        proprio = np.full(4, self._proprios.get(tick, 0.0), np.float32)
        return Observation(BLACK, proprio, self._frame_times.get(tick, self.now()))

    def write(self, command_U: np.ndarray) -> np.ndarray:
        if self.reads == self._fails_at:
            self._fails_at = -1
            raise ConnectionError("bus gone")
        self.sent.append(command_U.copy())
        return command_U

    def now(self) -> float:
        return len(self.sent) * PERIOD_S


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("loop") / "bundle")


@pytest.fixture
def controller(bundle: Path) -> Controller:
    found = Controller(bundle, num_threads=1)
    found.set_goal(RED)
    return found


def fly(controller: Controller, robot: ListRobot, num_ticks: int) -> tuple[list[Tick], dict[str, int]]:
    ticks: list[Tick] = []
    result = run_loop(controller, robot, num_ticks, Safety(controller.spec), on_step=ticks.append)
    assert result.num_ticks == len(ticks) == num_ticks
    assert result.num_plans == sum(tick.plan is not None for tick in ticks)
    return ticks, result.interventions


def test_plans_once_per_model_step_and_sends_one_command_per_tick(controller: Controller) -> None:
    robot = ListRobot()
    ticks, counts = fly(controller, robot, 10)
    assert [tick.index for tick in ticks if tick.plan is not None] == [0, 4, 8]
    assert robot.reads == len(robot.sent) == 10
    assert [command_U[0] for command_U in robot.sent[:3]] == pytest.approx([0.5, 1.0, 1.0]), "by max_step to the limit"
    assert counts[guards.LIMIT] == 10
    assert counts[guards.RATE] == 1
    assert all(np.isnan(tick.latency_s) == (tick.plan is None) for tick in ticks)


def test_what_the_robot_says_it_sent_is_what_the_next_plan_starts_from(controller: Controller) -> None:
    class Weak(ListRobot):
        def write(self, command_U: np.ndarray) -> np.ndarray:
            return super().write(np.minimum(command_U, 0.1))

    ticks, _ = fly(controller, Weak(), 5)
    assert ticks[4].plan is not None
    assert ticks[4].plan.cost == pytest.approx(0.1 + ticks[3].sent_U[1], abs=1e-6), "the sum of the reference"
    assert ticks[3].sent_U[0] == pytest.approx(0.1)
    assert ticks[3].command_U[0] == pytest.approx(0.6), "rate-limited from 0.1"


def test_stale_frame_brakes_and_a_fresh_one_plans_anew(controller: Controller) -> None:
    old = dict.fromkeys(range(2, 6), -1.0)
    ticks, counts = fly(controller, ListRobot(frame_times=old), 9)
    assert [tick.held for tick in ticks] == [None, None, *[guards.STALE_FRAME] * 4, None, None, None]
    assert [float(tick.sent_U[0]) for tick in ticks[1:5]] == pytest.approx([1.0, 0.5, 0.0, 0.0])
    assert [tick.index for tick in ticks if tick.plan is not None] == [0, 6]
    assert counts[guards.STALE_FRAME] == 4


def test_camera_that_froze_is_held_at_the_next_plan(controller: Controller) -> None:
    ticks, counts = fly(controller, ListRobot(frame_times=dict.fromkeys(range(6), 0.0)), 8)
    assert [tick.held for tick in ticks[3:7]] == [None, guards.UNCHANGED_FRAME, guards.UNCHANGED_FRAME, None]
    assert counts[guards.UNCHANGED_FRAME] == 2


def test_nan_from_a_sensor_holds(controller: Controller) -> None:
    ticks, counts = fly(controller, ListRobot(proprios={5: np.nan}), 8)
    assert ticks[5].held == guards.BAD_PROPRIO
    assert np.isfinite([tick.sent_U for tick in ticks]).all()
    assert counts[guards.BAD_PROPRIO] == 1


def test_nan_from_the_driver_is_not_believed(controller: Controller) -> None:
    class Lying(ListRobot):
        def write(self, command_U: np.ndarray) -> np.ndarray:
            super().write(command_U)
            return np.full(2, np.nan)

    ticks, _ = fly(controller, Lying(), 6)
    assert np.isfinite([tick.sent_U for tick in ticks]).all()


def test_slow_planning_on_the_robots_own_clock_trips_the_watchdog(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot = ListRobot()
    lost_s = 0.0
    plan = controller.step

    def slow(frame: np.ndarray, proprio: np.ndarray) -> object:
        nonlocal lost_s
        lost_s += 0.25  # longer than the model step of 0.2 s
        return plan(frame, proprio)

    monkeypatch.setattr(controller, "step", slow)
    monkeypatch.setattr(robot, "now", lambda: len(robot.sent) * PERIOD_S + lost_s)
    ticks, counts = fly(controller, robot, 6)
    assert [tick.held for tick in ticks] == [None, None, None, None, guards.OVERRUN, guards.OVERRUN]
    assert counts[guards.OVERRUN] == 2


def test_driver_error_leaves_the_robot_at_rest_and_goes_on(controller: Controller) -> None:
    robot = ListRobot(fails_at=4)
    with pytest.raises(ConnectionError, match="bus gone"):
        fly(controller, robot, 10)
    assert [float(command_U[0]) for command_U in robot.sent[2:]] == pytest.approx([1.0, 1.0, 0.5, 0.0, 0.0]), (
        "the command that may have arrived is sent once more"
    )


def test_interrupt_in_a_callback_leaves_the_robot_at_rest(controller: Controller) -> None:
    robot = ListRobot()

    def interrupt(tick: Tick) -> None:
        if tick.index == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_loop(controller, robot, 10, Safety(controller.spec), on_step=interrupt)
    assert np.array_equal(robot.sent[-1], [0.0, 0.0])


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_both_signals_end_the_tick_and_leave_the_robot_at_rest(
    controller: Controller, number: int, error: type[BaseException]
) -> None:
    robot, before = ListRobot(), signal.getsignal(number)

    def interrupt(tick: Tick) -> None:
        if tick.index == 2:
            os.kill(os.getpid(), number)

    with pytest.raises(error):
        run_loop(controller, robot, 10, Safety(controller.spec), on_step=interrupt)
    assert robot.reads == 3
    assert np.array_equal(robot.sent[-1], [0.0, 0.0])
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("fails", [False, True])
def test_a_signal_at_the_very_end_or_while_an_error_is_under_way_is_not_lost(
    controller: Controller, fails: bool
) -> None:
    robot = ListRobot()

    def interrupt(tick: Tick) -> None:
        if tick.index == 4:
            os.kill(os.getpid(), signal.SIGTERM)
            if fails:
                raise ConnectionError("bus gone")

    with pytest.raises(SystemExit):
        run_loop(controller, robot, 5, Safety(controller.spec), on_step=interrupt)


@pytest.mark.parametrize("fails_at", [1, 3])
def test_a_command_that_arrived_although_the_driver_failed_is_braked_from(
    controller: Controller, fails_at: int
) -> None:
    class Unsure(ListRobot):
        def write(self, command_U: np.ndarray) -> np.ndarray:
            arrived_U = super().write(command_U)
            if len(self.sent) == fails_at:
                raise ConnectionError("no answer")
            return arrived_U

    robot = Unsure()
    with pytest.raises(ConnectionError, match="no answer"):
        run_loop(controller, robot, 10, Safety(controller.spec))
    sent_TU = np.vstack([np.zeros(2), *robot.sent])
    assert robot.sent[fails_at - 1].any(), "it moves"
    assert not robot.sent[-1].any(), "it is at rest again"
    assert (np.abs(np.diff(sent_TU, axis=0)) <= np.asarray(controller.spec.command.max_step) + 1e-9).all()


class Releasing(ListRobot):
    released = False

    def release(self) -> None:
        self.released = True


def answering(controller: Controller, guard: str, answer: str) -> Safety:
    limits = replace(controller.spec.safety, answers={guard: answer})
    return Safety(replace(controller.spec, safety=limits))


@pytest.mark.parametrize("answer", ["slow_stop", "torque_off", "park"])
def test_a_guard_may_end_the_flight(controller: Controller, answer: str) -> None:
    """Park is a slow stop here: a velocity has no way back."""
    robot = Releasing(proprios={3: np.nan})
    result = run_loop(controller, robot, 50, answering(controller, guards.BAD_PROPRIO, answer))
    assert result.ended_by == guards.BAD_PROPRIO
    assert [float(command_U[0]) for command_U in robot.sent[2:]] == pytest.approx([1.0, 0.5, 0.0, 0.0])
    assert result.num_ticks == len(robot.sent) == robot.reads == 6
    assert robot.released == (answer == "torque_off")


def test_parking_goes_back_to_where_the_flight_began(tmp_path: Path) -> None:
    controller = Controller(write_bundle(tmp_path / "bundle", make_spec("joint_position")))
    controller.set_goal(RED)
    robot = ListRobot(proprios={8: np.nan})
    start_U = np.array([0.3, 0.1])
    safety = answering(controller, guards.BAD_PROPRIO, "park")
    result = run_loop(controller, robot, 50, safety, reference_U=start_U)
    assert np.abs(robot.sent[7] - start_U).max() > 0.5
    assert robot.sent[-1] == pytest.approx(start_U, abs=2e-3)
    assert result.ended_by == guards.BAD_PROPRIO


def test_a_flight_that_goes_on_from_another_parks_where_that_began(tmp_path: Path) -> None:
    controller = Controller(write_bundle(tmp_path / "bundle", make_spec("joint_position")))
    controller.set_goal(RED)
    robot, start_U = ListRobot(), np.array([0.3, 0.1])
    safety = Safety(controller.spec)
    run_loop(controller, robot, 8, safety, reference_U=start_U, at_end="slow_stop")
    reached_U = safety.limits.in_force_U
    assert np.abs(reached_U - start_U).max() > 0.5
    run_loop(controller, robot, 8, safety, reference_U=reached_U, at_end="park", park_U=start_U)
    assert robot.sent[-1] == pytest.approx(start_U, abs=2e-3)


@pytest.mark.parametrize(("at_end", "ticks"), [("leave", 6), ("slow_stop", 9)])
def test_the_end_is_flown_under_the_same_guards_and_logged(controller: Controller, at_end: str, ticks: int) -> None:
    robot, seen = ListRobot(proprios={6: np.nan}), []
    safety = Safety(controller.spec)
    result = run_loop(controller, robot, 6, safety, on_step=seen.append, at_end=at_end)  # type: ignore[arg-type]
    assert result.num_ticks == len(seen) == len(robot.sent) == robot.reads == ticks
    assert (robot.sent[-1][0] == 0.0) == (at_end == "slow_stop")
    assert result.interventions.get(guards.BAD_PROPRIO, 0) == (at_end == "slow_stop")
    assert result.ended_by is None


def test_parking_ends_at_once_on_a_robot_that_does_not_move(tmp_path: Path) -> None:
    class Still(ListRobot):
        def write(self, command_U: np.ndarray) -> np.ndarray:
            super().write(command_U)
            return np.array([0.3, 0.1])

    controller = Controller(write_bundle(tmp_path / "bundle", make_spec("joint_position")))
    controller.set_goal(RED)
    reference_U = np.array([0.3, 0.1])
    result = run_loop(controller, Still(), 5, Safety(controller.spec), reference_U=reference_U, at_end="park")
    assert result.num_ticks == 6


def test_robot_outside_its_limits_is_not_moved(tmp_path: Path) -> None:
    controller = Controller(write_bundle(tmp_path / "bundle", make_spec("joint_position")))
    controller.set_goal(RED)
    with pytest.raises(UserError, match=r"left stands at 1.7 rad, its limits are -1 to 1. Move the robot"):
        run_loop(controller, ListRobot(), 5, Safety(controller.spec), reference_U=np.array([1.7, 0.1]))


def test_stop_survives_a_driver_that_loses_a_command() -> None:
    class Loses(ListRobot):
        def write(self, command_U: np.ndarray) -> np.ndarray:
            self.reads += 1
            return super().write(command_U)

    robot, safety = Loses(fails_at=2), Safety(make_spec())
    safety.reset(np.ones(2))
    stop(robot, safety)
    assert robot.sent[-1].tolist() == [0.0, 0.0]


def test_stop_gives_up_on_a_robot_that_does_not_listen() -> None:
    class Deaf(ListRobot):
        def write(self, command_U: np.ndarray) -> np.ndarray:
            super().write(command_U)
            return np.ones(2)

    robot, safety = Deaf(), Safety(make_spec())
    safety.reset(np.ones(2))
    stop(robot, safety, max_ticks=7)
    assert len(robot.sent) == 7


def test_position_interface_holds_its_last_target(tmp_path: Path) -> None:
    controller = Controller(write_bundle(tmp_path / "bundle", make_spec("joint_position")))
    controller.set_goal(RED)
    robot = ListRobot(frame_times=dict.fromkeys(range(2, 5), -1.0))
    start_U = np.array([0.3, 0.1])
    run_loop(controller, robot, 5, Safety(controller.spec), reference_U=start_U)
    assert robot.sent[0][0] == pytest.approx(0.8)
    assert np.array_equal(robot.sent[4], robot.sent[1])


def test_wrong_camera_is_a_user_error(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    robot = ListRobot()
    small = Observation(np.zeros((4, 4, 3), np.uint8), np.zeros(4, np.float32), 0.0)
    monkeypatch.setattr(robot, "read", lambda: small)
    with pytest.raises(UserError, match=r"\(4, 4, 3\)"):
        fly(controller, robot, 3)


def test_every_tick_is_in_the_flight_log(controller: Controller, tmp_path: Path) -> None:
    log = FlightLog(tmp_path, controller.spec)
    log.begin()
    robot = ListRobot(frame_times={3: -1.0})
    run_loop(controller, robot, 6, Safety(controller.spec), log)
    log.end({"success": True})
    (episode,) = read_episodes(tmp_path)
    assert np.array_equal(episode.rows_L["action"], np.stack(robot.sent))
    assert episode.outcome == {"success": True}
    assert guards.INTERVENTIONS[episode.rows_L["held"][3]] == guards.STALE_FRAME
    assert (episode.rows_L["held"][[0, 1, 2, 4, 5]] == -1).all()


def test_percentiles_name_their_unit() -> None:
    assert latency_percentiles_ms(np.array([0.01, 0.02, 0.03])) == pytest.approx(
        {"p50_ms": 20.0, "p95_ms": 29.0, "p99_ms": 29.8}
    )
    assert latency_percentiles_ms(np.zeros(0)) == {}


class WallTime:
    """A clock that only sleeping and working move."""

    def __init__(self) -> None:
        self.now_s, self.slept_s = 100.0, 0.0

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now_s += seconds
        self.slept_s += seconds


def test_clock_keeps_the_rate_and_drops_missed_ticks() -> None:
    time = WallTime()
    clock = TickClock(time.now, 0.05, time.sleep)
    starts = []
    for work_s in (0.01, 0.04, 0.12, 0.01, 0.01):
        starts.append(time.now_s)
        time.now_s += work_s
        clock.wait()
    assert np.diff(starts) == pytest.approx([0.05, 0.05, 0.12, 0.05])


@pytest.mark.parametrize("jump_s", [-1e6, 1e6])
def test_clock_that_jumps_costs_at_most_a_period(jump_s: float) -> None:
    time = WallTime()
    clock = TickClock(time.now, 0.05, time.sleep)
    time.now_s += jump_s
    clock.wait()
    assert time.slept_s <= 0.05 + 1e-9
    clock.wait()
    assert time.slept_s <= 0.10 + 1e-9


def test_simulated_time_is_never_slept_for() -> None:
    time = WallTime()
    clock = TickClock(time.now, 0.04, time.sleep)
    for tick in range(1, 200):
        time.now_s = 100.0 + sum([0.002] * 20) * tick
        clock.wait()
    assert time.slept_s < 1e-6
