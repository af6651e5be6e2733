"""Whatever is asked, by whatever state before: what leaves the guards is finite, within limits, and no jump."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.runtime.controller import Plan
from deploy.runtime.safety import (
    BAD_COMMAND,
    BAD_PLAN,
    BAD_PROPRIO,
    LIMIT,
    OVERRUN,
    RATE,
    STALE_FRAME,
    UNCHANGED_FRAME,
    Safety,
)
from robot_wm.contracts.robot import Observation
from tests.handmade_bundle import colour, make_spec

SPECS = {interface: make_spec(interface) for interface in ("joint_velocity", "joint_position")}
LOW, HIGH, MAX_STEP = (np.asarray(getattr(SPECS["joint_velocity"].command, k)) for k in ("low", "high", "max_step"))

interfaces = st.sampled_from(sorted(SPECS))
anything = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), min_size=2, max_size=2).map(np.array)
inside = st.tuples(st.floats(-1, 1), st.floats(-0.5, 1.5)).map(np.array)


def check(command_U: np.ndarray) -> None:
    assert np.isfinite(command_U).all()
    assert (command_U >= LOW).all()
    assert (command_U <= HIGH).all()


@given(interfaces, anything, anything)
@settings(max_examples=300, deadline=None)
def test_nothing_leaves_the_limits(interface: str, command_U: np.ndarray, previous_U: np.ndarray) -> None:
    safety = Safety(SPECS[interface])
    check(safety.filter(command_U, previous_U))
    check(safety.hold(previous_U))


@given(interfaces, st.lists(anything, min_size=1, max_size=30), inside)
@settings(max_examples=200, deadline=None)
def test_a_stream_of_commands_never_jumps(interface: str, commands: list[np.ndarray], sent_U: np.ndarray) -> None:
    safety = Safety(SPECS[interface])
    for command_U in commands:
        next_U = safety.filter(command_U, sent_U)
        check(next_U)
        assert (np.abs(next_U - sent_U) <= MAX_STEP * (1 + 1e-9)).all()
        sent_U = next_U


@given(inside)
@settings(max_examples=100, deadline=None)
def test_hold_brakes_rates_to_zero_and_keeps_positions(start_U: np.ndarray) -> None:
    braking, sent_U = Safety(SPECS["joint_velocity"]), start_U
    for _ in range(10):
        sent_U = braking.hold(sent_U)
    assert np.array_equal(sent_U, [0.0, 0.0])
    assert braking.is_holding(sent_U)
    assert np.array_equal(Safety(SPECS["joint_position"]).hold(start_U), start_U)


@given(inside, st.floats(-1, 1))
@settings(max_examples=100, deadline=None)
def test_what_is_allowed_passes_untouched_and_uncounted(sent_U: np.ndarray, share: float) -> None:
    safety = Safety(SPECS["joint_velocity"])
    command_U = np.clip(sent_U + share * MAX_STEP * 0.999, LOW, HIGH)
    assert np.array_equal(safety.filter(command_U, sent_U), command_U)
    assert not safety.counts


def test_each_intervention_is_counted_by_name() -> None:
    safety, rest = Safety(SPECS["joint_velocity"]), np.zeros(2)
    safety.filter(np.array([np.nan, 0.0]), rest)
    safety.filter(np.array([3.0, 0.0]), np.array([0.9, 0.0]))
    safety.filter(np.array([0.9, 0.0]), rest)
    assert safety.counts == {BAD_COMMAND: 1, LIMIT: 1, RATE: 1}
    safety.reset()
    assert not safety.counts


def test_rounding_of_single_precision_is_no_intervention() -> None:
    safety = Safety(SPECS["joint_velocity"])
    safety.filter(np.array([np.nextafter(np.float32(1), np.float32(2)), 0.0]), np.array([0.9, 0.0]))
    assert not safety.counts


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
