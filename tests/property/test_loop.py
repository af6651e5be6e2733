"""Whatever is planned and observed, through the whole loop: no command breaks a bound, judged from outside."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.drivers.monitor import Monitor
from deploy.runtime.controller import Plan
from deploy.runtime.loop import run_loop
from deploy.runtime.safety import Safety
from robot_wm.contracts import safety as contract
from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.robot import Observation
from tests.handmade_bundle import colour, make_spec

PERIOD_S, SKIP = 0.05, 4
numbers = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-3, 3)
seen = st.fixed_dictionaries(
    {"age_s": st.sampled_from([0.0, 0.0, 0.0, 0.1, 1.0, -5.0, float("nan")]), "proprio": st.just(0.0) | numbers,
     "late_s": st.sampled_from([0.0, 0.0, 0.0, 0.25])}
)  # fmt: skip
plans = st.lists(st.lists(numbers, min_size=2, max_size=2), min_size=3 * SKIP, max_size=3 * SKIP)


class Told:
    """A controller that plans what it is told."""

    def __init__(self, spec: ControllerSpec, rows: list[np.ndarray]):
        self.spec, self.rows, self.asked = spec, rows, 0
        self.reference_U = np.zeros(2)

    def reset(self, reference_U: np.ndarray | None = None, seed: int | None = None) -> None:
        pass

    def sent(self, command_U: np.ndarray) -> None:
        pass

    def step(self, frame: np.ndarray, proprio: np.ndarray, pending: np.ndarray | None = None) -> Plan:
        rows = self.rows[self.asked % len(self.rows)]
        self.asked += 1
        return Plan(rows[:SKIP], 0.0, 0.0, 0.0, 0.0, np.zeros(0, np.float32), rows[SKIP:])


class Judged:
    """A robot that shows what it is told and judges what it is sent."""

    def __init__(self, script: list[dict[str, Any]], monitor: Monitor):
        self.script, self.monitor, self.ticks, self.lost_s = script, monitor, 0, 0.0

    def read(self) -> Observation:
        shown = self.script[self.ticks % len(self.script)]
        self.lost_s += shown["late_s"]
        with np.errstate(over="ignore"):
            proprio = np.full(4, shown["proprio"], np.float64).astype(np.float32)
        return Observation(colour(0, 0, 0), proprio, self.now() - shown["age_s"])

    def write(self, command_U: np.ndarray) -> np.ndarray:
        self.monitor.judge(command_U, self.ticks * PERIOD_S)
        self.ticks += 1
        return command_U

    def now(self) -> float:
        return self.ticks * PERIOD_S + self.lost_s


@given(
    st.sampled_from(["joint_position", "joint_velocity"]),
    st.none() | st.floats(0.1, 2),
    st.none() | st.floats(0.1, 2),
    st.integers(0, 2),
    st.lists(seen, min_size=1, max_size=12),
    st.lists(plans, min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(["stale_frame", "bad_proprio", "bad_plan", "overrun"]),
                    st.sampled_from(["hold", "slow_stop", "park", "torque_off"])),
    st.sampled_from(["slow_stop", "park"]),
)  # fmt: skip
@settings(max_examples=40)
def test_no_flight_breaks_a_bound(
    interface: str,
    acceleration: float | None,
    jerk: float | None,
    ahead: int,
    script: list[dict[str, Any]],
    rows: list[list[list[float]]],
    answers: dict[str, Any],
    at_end: str,
) -> None:
    order = 2 if interface == "joint_position" else 1
    most = contract.Safety(
        0.5,
        max_acceleration=None if acceleration is None else acceleration * 0.5 / PERIOD_S**order,
        max_jerk=None if jerk is None else jerk * 0.5 / PERIOD_S ** (order + 1),
        answers=answers,
    )
    spec = replace(make_spec(interface, ahead=ahead), safety=most)  # type: ignore[arg-type]
    monitor = Monitor(spec.command, most)
    monitor.reset(np.zeros(2))
    robot = Judged(script, monitor)
    controller = Told(spec, [np.array(plan) for plan in rows])
    result = run_loop(controller, robot, 30, Safety(spec), at_end=at_end)  # type: ignore[arg-type]
    assert monitor.breaches == []
    assert monitor.num_commands == result.num_ticks
