"""The control loop: read, check, plan where one is due, filter, write, record; once per control tick."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.clock import TickClock
from deploy.runtime.controller import Controller, Plan
from deploy.runtime.recorder import FlightLog
from deploy.runtime.safety import Safety
from robot_wm.contracts.robot import Observation, Robot

_PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Tick:
    """One control period.

    Attributes:
        index: counted from the start of the loop.
        observation: what was read at its start.
        plan: what was planned in it; None on ticks between plans.
        held: the guard that made the robot hold, or None.
        command_U: what was asked of the robot [the command's unit].
        sent_U: what the robot says it sent [the command's unit].
        latency_s: from frame in to command out [s]; NaN on ticks without a plan.
    """

    index: int
    observation: Observation
    plan: Plan | None
    held: str | None
    command_U: NDArray[np.float64]
    sent_U: NDArray[np.float64]
    latency_s: float


@dataclass(frozen=True)
class LoopResult:
    """What a loop did.

    Attributes:
        num_ticks: control periods that passed.
        latencies_s: wall time from frame in to command out, one per plan [s].
        interventions: ticks on which each guard stepped in, by name.
        late_plans: plans that took longer than a model step of wall time, whatever the robot's clock says.
    """

    num_ticks: int
    latencies_s: NDArray[np.float64]
    interventions: dict[str, int] = field(default_factory=dict)
    late_plans: int = 0

    @property
    def num_plans(self) -> int:
        return len(self.latencies_s)


def latency_percentiles_ms(latencies_s: NDArray[np.float64]) -> dict[str, float]:
    """`p50_ms`, `p95_ms` and `p99_ms` of latencies [s]; empty when there are none."""
    if not len(latencies_s):
        return {}
    values = np.percentile(latencies_s, _PERCENTILES) * 1e3
    return {f"p{p}_ms": float(v) for p, v in zip(_PERCENTILES, values, strict=True)}


def run_loop(
    controller: Controller,
    robot: Robot,
    num_ticks: int,
    safety: Safety,
    recorder: FlightLog | None = None,
    on_step: Callable[[Tick], None] | None = None,
    reference_U: NDArray[np.float64] | None = None,
) -> LoopResult:
    """Control `robot` for `num_ticks` control periods.

    A plan is made every `frame_skip` ticks and its commands are sent one per tick. A tick on which a guard holds ends
    the plan: the next healthy observation starts a new one, with a fresh history, since the robot stood still. When
    anything fails (a driver, a full disk, Ctrl-C) the robot is brought to a hold before the error goes on. After the
    last tick the last command stays in force; what comes next is the caller's choice (see `stop`).

    Args:
        controller: with a goal set.
        robot: a driver, a twin or a replay; its clock paces the loop.
        num_ticks: control periods to run.
        safety: the guards; counts start at zero here.
        recorder: a flight log with an episode begun; one row per tick.
        on_step: called after every tick.
        reference_U: the command in force at the start; None is what the controller was last told by `sent`, and at
            first zero, within the limits. For position interfaces give it: zero is hardly where the robot is.

    Raises:
        UserError: the robot's frames or proprio are not what the bundle takes, or the log cannot be written.
    """
    flight = _Flight(controller, robot, safety, reference_U)
    clock = TickClock(robot.now, 1 / controller.spec.command.control_rate_hz)
    latencies_s: list[float] = []
    try:
        for index in range(num_ticks):
            tick = flight.tick(index)
            if tick.plan is not None:
                latencies_s.append(tick.latency_s)
            if recorder is not None:
                recorder.append(tick.observation, tick.command_U, tick.sent_U, tick.plan, tick.latency_s, tick.held)
            if on_step is not None:
                on_step(tick)
            clock.wait()
    except BaseException:
        stop(robot, safety, flight.sent_U)
        raise
    step_s = controller.spec.command.frame_skip / controller.spec.command.control_rate_hz
    late = sum(latency > step_s for latency in latencies_s)
    return LoopResult(num_ticks, np.asarray(latencies_s), dict(safety.counts), late)


def stop(robot: Robot, safety: Safety, sent_U: NDArray[np.float64], max_ticks: int = 1000) -> None:
    """Bring a robot to a hold at its own pace of `max_step` per tick, whatever it raises meanwhile.

    Args:
        robot: the robot.
        safety: guards with the limits.
        sent_U: what was sent last.
        max_ticks: gives up after so many.
    """
    with contextlib.suppress(Exception):
        clock = TickClock(robot.now, safety.period_s)
        for _ in range(max_ticks):
            sent_U = robot.write(safety.hold(sent_U))
            if safety.is_holding(sent_U):
                return
            clock.wait()


class _Flight:
    """State of a running loop: the chunk being sent, and what was sent last."""

    def __init__(self, controller: Controller, robot: Robot, safety: Safety, reference_U: NDArray[np.float64] | None):
        self.controller, self.robot, self.safety = controller, robot, safety
        controller.reset(reference_U)
        safety.reset()
        self.sent_U = controller.reference_U
        self.chunk_KU = np.empty((0, controller.spec.command.dim))
        self.row = 0

    def tick(self, index: int) -> Tick:
        observation = self.robot.read()
        started = time.perf_counter()
        planning = self.row >= len(self.chunk_KU)
        held = self.safety.check_observation(observation, self.robot.now(), planning)
        plan = None
        if planning and held is None:
            before_s = self.robot.now()
            plan = self.controller.step(observation.frame_YXC, observation.proprio_P)
            held = self.safety.check_plan(plan, self.robot.now() - before_s)
            self.chunk_KU, self.row = plan.command_KU, 0
        if held is None:
            command_U = self.safety.filter(self.chunk_KU[self.row], self.sent_U)
            self.row += 1
        else:
            command_U = self.safety.hold(self.sent_U)
            self.row = len(self.chunk_KU)
            self.controller.reset()
        latency_s = time.perf_counter() - started if plan is not None else float("nan")
        sent_U = np.asarray(self.robot.write(command_U), dtype=np.float64)
        self.sent_U = sent_U if np.isfinite(sent_U).all() else command_U
        self.controller.sent(self.sent_U)
        return Tick(index, observation, plan, held, command_U, self.sent_U, latency_s)
