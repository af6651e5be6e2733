"""Whatever is asked, by whatever state before: what leaves the guards is finite, within limits, and no jump."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deploy.drivers.monitor import Monitor
from deploy.runtime.controller import Plan
from deploy.runtime.limits import Limits
from deploy.runtime.safety import (
    ACCELERATION,
    BAD_PLAN,
    BAD_PROPRIO,
    FROZEN_IMAGE,
    INTERVENTIONS,
    JERK,
    LIMIT,
    OUT_OF_BOUNDS,
    OVERRUN,
    PLANNER_STALL,
    RATE,
    STALE_FRAME,
    STALE_PROPRIO,
    UNCHANGED_FRAME,
    Safety,
)
from robot_wm.contracts import safety as contract
from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation
from tests.handmade_bundle import colour, make_spec

SPECS = {interface: make_spec(interface) for interface in ("joint_velocity", "joint_position")}
LOW, HIGH, MAX_STEP = (np.asarray(getattr(SPECS["joint_velocity"].command, k)) for k in ("low", "high", "max_step"))
RATE_HZ = SPECS["joint_velocity"].command.control_rate_hz

interfaces = st.sampled_from(sorted(SPECS))
anything = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), min_size=2, max_size=2).map(np.array)
inside = st.tuples(st.floats(-1, 1), st.floats(-0.5, 1.5)).map(np.array)
shares = st.none() | st.floats(0.1, 3.0)


def bounded(interface: str, acceleration: float | None, jerk: float | None) -> tuple[CommandSpace, contract.Safety]:
    """Limits as shares of those that `max_step` amounts to within one tick."""
    order = 2 if interface == "joint_position" else 1
    most = contract.Safety(
        0.5,
        max_acceleration=None if acceleration is None else acceleration * 0.5 * RATE_HZ**order,
        max_jerk=None if jerk is None else jerk * 0.5 * RATE_HZ ** (order + 1),
    )
    return make_spec(interface).command, most


@given(interfaces, shares, shares, inside, st.lists(st.tuples(st.sampled_from("fffbp"), anything), max_size=40))
@settings(max_examples=100)
def test_no_stream_of_commands_breaks_a_bound(
    interface: str, acceleration: float | None, jerk: float | None, start_U: np.ndarray, asked: list[Any]
) -> None:
    """Plans of any kind, brakes and ways back in any order; then a brake to rest. Judged from outside."""
    space, most = bounded(interface, acceleration, jerk)
    safety = Safety(replace(SPECS[interface], command=space, safety=most))
    monitor = Monitor(space, most)
    safety.reset(start_U)
    monitor.reset(start_U)
    for what, command_U in asked:
        calls = {"f": lambda wanted_U=command_U: safety.filter(wanted_U), "b": safety.brake, "p": safety.park}
        sent_U = calls[what]()
        monitor.judge(sent_U, 0.0)
        safety.sent(sent_U)
    for _ in range(safety.limits.brake_ticks + 2):
        sent_U = safety.brake()
        monitor.judge(sent_U, 0.0)
        safety.sent(sent_U)
    assert safety.limits.at_rest
    assert monitor.breaches == []


@given(interfaces, shares, shares, anything, st.lists(st.tuples(anything, anything), min_size=1, max_size=20))
@settings(max_examples=40)
def test_a_driver_that_sends_something_else_cannot_push_commands_out_of_range(
    interface: str, acceleration: float | None, jerk: float | None, start_U: np.ndarray, asked: list[Any]
) -> None:
    space, most = bounded(interface, acceleration, jerk)
    limits = Limits(space, most)
    limits.reset(start_U)
    for wanted_U, sent_U in asked:
        for command_U in (limits.filter(np.nan_to_num(wanted_U)), limits.brake(), limits.toward(np.zeros(2))):
            assert np.isfinite(command_U).all()
            assert (command_U >= LOW).all()
            assert (command_U <= HIGH).all()
        limits.sent(sent_U)


@given(inside, inside, shares, shares)
@settings(max_examples=50)
def test_the_way_back_arrives_and_does_not_overshoot(
    start_U: np.ndarray, away_U: np.ndarray, acceleration: float | None, jerk: float | None
) -> None:
    space, most = bounded("joint_position", acceleration, jerk)
    limits = Limits(space, most)
    limits.reset(away_U)
    low, high = np.minimum(start_U, away_U), np.maximum(start_U, away_U)
    for _ in range(2000):
        limits.sent(limits.toward(start_U))
        assert (limits.in_force_U >= low - 1e-9).all()
        assert (limits.in_force_U <= high + 1e-9).all()
        if np.abs(limits.in_force_U - start_U).max() < 2e-3:
            return
    raise AssertionError(f"{limits.in_force_U} instead of {start_U}")


@given(inside)
@settings(max_examples=100)
def test_braking_takes_rates_to_zero_and_keeps_positions(start_U: np.ndarray) -> None:
    braking, resting = Safety(SPECS["joint_velocity"]), Safety(SPECS["joint_position"])
    braking.reset(start_U)
    resting.reset(start_U)
    for _ in range(10):
        braking.sent(braking.brake())
    assert np.array_equal(braking.limits.in_force_U, [0.0, 0.0])
    assert braking.limits.at_rest
    assert np.array_equal(resting.brake(), start_U)


@given(inside, st.floats(-1, 1))
@settings(max_examples=100)
def test_what_is_allowed_passes_untouched_and_uncounted(sent_U: np.ndarray, share: float) -> None:
    safety = Safety(SPECS["joint_velocity"])
    safety.reset(sent_U)
    command_U = np.clip(sent_U + share * MAX_STEP * 0.999, LOW, HIGH)
    assert np.array_equal(safety.filter(command_U), command_U)
    assert not safety.counts


@given(st.lists(st.sampled_from([-0.9, -0.3, 0.0, 0.4, 0.9]), min_size=5, max_size=40))
@settings(max_examples=100)
def test_a_plan_within_its_limits_is_followed_to_the_bit(speeds: list[float]) -> None:
    """Targets that move at speeds which change by no more than the bounds: no rounding creeps in."""
    safety = Safety(SPECS["joint_position"])
    sent_U = np.zeros(2)
    safety.reset(sent_U)
    speed_U = np.zeros(2)
    for share in speeds:
        speed_U = speed_U + np.clip(share * MAX_STEP - speed_U, -0.5 * MAX_STEP, 0.5 * MAX_STEP)
        command_U = sent_U + 0.1 * speed_U
        assume((command_U > LOW + MAX_STEP).all() and (command_U < HIGH - MAX_STEP).all())
        assert np.array_equal(safety.filter(command_U), command_U)
        safety.sent(command_U)
        sent_U = command_U
    assert not safety.counts


def test_each_intervention_is_counted_by_name() -> None:
    safety = Safety(SPECS["joint_velocity"])
    safety.filter(np.array([np.nan, 0.0]))
    safety.filter(np.array([0.9, 0.0]))
    safety.reset(np.array([0.9, 0.0]))
    assert not safety.counts
    safety.filter(np.array([3.0, 0.0]))
    assert safety.counts == {LIMIT: 1}


def test_bounds_of_acceleration_and_jerk_are_counted_as_such() -> None:
    space, most = bounded("joint_position", 0.1, None)
    safety = Safety(replace(SPECS["joint_position"], command=space, safety=most))
    assert safety.filter(np.array([0.4, 0.0]))[0] == pytest.approx(0.05), "a tenth of the step in the first tick"
    assert safety.counts == {ACCELERATION: 1}
    space, most = bounded("joint_position", None, 0.1)
    safety = Safety(replace(SPECS["joint_position"], command=space, safety=most))
    assert safety.filter(np.array([0.4, 0.0]))[0] == pytest.approx(0.05)
    assert safety.counts == {JERK: 1}
    safety.reset()
    safety.filter(np.array([0.9, 0.0]))
    assert safety.counts == {RATE: 1}


def test_limits_too_tight_to_stop_are_refused() -> None:
    with pytest.raises(UserError, match=r"braking takes up to \d+ s.*Raise them"):
        Safety(replace(SPECS["joint_position"], safety=contract.Safety(0.5, max_acceleration=1e-3)))


def test_rounding_of_single_precision_is_no_intervention() -> None:
    safety = Safety(SPECS["joint_velocity"])
    safety.reset(np.array([0.9, 0.0]))
    safety.filter(np.array([np.nextafter(np.float32(1), np.float32(2)), 0.0]))
    assert not safety.counts


def test_logs_can_name_every_guard_that_has_an_answer() -> None:
    assert set(contract.ANSWERS) <= set(INTERVENTIONS)
    assert len(set(INTERVENTIONS)) == len(INTERVENTIONS) < 128, "the log keeps one signed byte"


def observation(time_s: float = 0.0, proprio: float = 0.0) -> Observation:
    return Observation(colour(0, 0, 0), np.full(4, proprio, np.float32), time_s)


@pytest.mark.parametrize("time_s", [-1.0, 0.69, 1.31, np.nan, np.inf, -np.inf])
def test_frame_from_too_far_in_past_or_future_is_stale(time_s: float) -> None:
    assert Safety(SPECS["joint_velocity"]).check_observation(observation(time_s), 1.0, True) == STALE_FRAME


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_proprio_that_is_no_number_is_refused(value: float) -> None:
    assert Safety(SPECS["joint_velocity"]).check_observation(observation(1.0, value), 1.0, True) == BAD_PROPRIO


def test_unchanged_frame_is_stale_for_a_plan_and_fine_between_plans() -> None:
    safety = Safety(SPECS["joint_velocity"])
    assert safety.check_observation(observation(1.0), 1.0, True) is None
    assert safety.check_observation(observation(1.0), 1.05, False) is None
    assert safety.check_observation(observation(1.0), 1.1, True) == UNCHANGED_FRAME
    assert safety.check_observation(observation(1.1), 1.1, True) is None


def test_clock_set_back_is_survived() -> None:
    safety = Safety(SPECS["joint_velocity"])
    assert safety.check_observation(observation(1000.0), 1000.0, True) is None
    assert safety.check_observation(observation(5.0), 5.0, True) is None


def test_watchdog_waits_for_overruns_in_a_row() -> None:
    safety = Safety(SPECS["joint_velocity"])  # a model step is 0.2 s, two overruns are allowed
    plan = Plan(np.zeros((4, 2)), 0.0, 0.0, 0.0, 0.0, np.zeros(3, np.float32))
    found = [safety.check_plan(plan, elapsed_s) for elapsed_s in (0.3, 0.1, 0.3, 0.3, 0.3, 0.1, 0.3)]
    assert found == [None, None, None, OVERRUN, OVERRUN, None, None]


@pytest.mark.parametrize("bad", [{"command_KU": np.full((4, 2), np.inf)}, {"cost": np.nan}])
def test_plan_that_rests_on_no_number_is_refused(bad: dict[str, Any]) -> None:
    """A search among costs that are NaN still returns commands, and they mean nothing."""
    plan = Plan(np.zeros((4, 2)), 0.0, 0.0, 0.0, 0.0, np.zeros(3, np.float32))
    assert Safety(SPECS["joint_velocity"]).check_plan(replace(plan, **bad), 0.1) == BAD_PLAN


def test_stale_proprio_is_noticed_where_the_driver_tells_its_time() -> None:
    safety = Safety(SPECS["joint_velocity"])
    assert safety.check_observation(replace(observation(1.0), proprio_time_s=0.9), 1.0, True) is None
    assert safety.check_observation(replace(observation(1.1), proprio_time_s=0.7), 1.1, True) == STALE_PROPRIO


def test_picture_that_never_changes_is_frozen_only_while_the_robot_is_told_to_move() -> None:
    safety = Safety(SPECS["joint_velocity"])
    found = []
    for tick in range(60):
        safety.sent(np.array([0.0, 0.5 if tick >= 30 else 0.0]))
        found.append(safety.check_observation(observation(tick / 20), tick / 20, False))
    assert found[:49] == [None] * 49, "20 ticks of motion are one second"
    assert set(found[52:]) == {FROZEN_IMAGE}
    blind = Safety(SPECS["joint_velocity"], sees=False)
    for tick in range(60):
        blind.sent(np.array([0.0, 0.5]))
        assert blind.check_observation(observation(tick / 20), tick / 20, False) is None


def test_leaving_the_bounds_is_noticed_before_it_happens() -> None:
    bounds = contract.Safety(0.5, bounds={"left_position": (-1.0, 1.0)})
    safety = Safety(replace(SPECS["joint_velocity"], safety=bounds))
    for _ in range(2):
        safety.sent(np.array([1.0, 0.0]))  # braking takes 2 ticks and one to rest
    assert safety.check_observation(observation(0.0, 0.8), 0.0, False) is None
    assert safety.check_observation(observation(0.05, 0.9), 0.05, False) == OUT_OF_BOUNDS
    assert safety.check_observation(observation(0.1, 0.9), 0.1, False) is None, "it stands still there"
    assert safety.check_observation(observation(0.15, 1.1), 0.15, False) == OUT_OF_BOUNDS
    with pytest.raises(UserError, match=r"'tip_x', which is not measured"):
        Safety(replace(SPECS["joint_velocity"], safety=contract.Safety(0.5, bounds={"tip_x": (-1.0, 1.0)})))


def test_planner_that_says_nothing_has_stalled() -> None:
    safety = Safety(SPECS["joint_velocity"])
    assert safety.check_waiting(1.9) is None
    assert safety.check_waiting(2.1) == PLANNER_STALL
