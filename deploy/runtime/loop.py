"""The control loop: read, check, ask for a plan where one is due, filter, write, record; once per control tick."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.clock import TickClock
from deploy.runtime.controller import Controller, Plan
from deploy.runtime.interrupt import Interrupt
from deploy.runtime.recorder import FlightLog
from deploy.runtime.safety import OVERRUN, PLANNER_ERROR, Safety
from deploy.runtime.timeline import Timeline
from deploy.runtime.worker import Inline, PlannerError, Question, Reply, Worker
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation, Releasable, Robot
from robot_wm.contracts.safety import Answer

_PERCENTILES = (50, 95, 99)
_LONGEST_END_S = 60.0  # to brake, and to park where that is asked for

End = Literal["leave", "slow_stop", "park"]


@dataclass(frozen=True)
class Tick:
    """One control period.

    Attributes:
        index: counted from the start of the loop.
        observation: what was read at its start.
        plan: the plan that arrived in it; None on ticks between plans.
        held: the guard that took the robot out of the planner's hands, or None.
        command_U: what was asked of the robot [the command's unit].
        sent_U: what the robot says it sent [the command's unit].
        latency_s: from frame in to command out [s], or to the plan that a worker made; NaN on ticks without a plan.
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
        latencies_s: wall time from frame in to command out, or to a worker's plan; one per plan [s].
        interventions: ticks on which each guard stepped in, by name.
        late_plans: plans that took longer than a model step of wall time, whatever the robot's clock says.
        buffered_ticks: control periods in which the next plan was late and the rest of the one before was executed.
        ended_by: the guard whose answer ended the flight early, or None.
        error: what the planner raised, if that ended it.
    """

    num_ticks: int
    latencies_s: NDArray[np.float64]
    interventions: dict[str, int] = field(default_factory=dict)
    late_plans: int = 0
    buffered_ticks: int = 0
    ended_by: str | None = None
    error: str | None = None

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
    *,
    in_worker: bool = False,
    delay_s: float | None = None,
    at_end: End = "leave",
) -> LoopResult:
    """Control `robot` for `num_ticks` control periods.

    A plan is asked for once per model step and its commands are sent one per tick; one that is late finds the robot on
    the rest of the plan before. A tick on which a guard trips ends the plan: the next healthy observation starts a new
    one, with a fresh history, since the robot stood still. When anything fails (a driver, a full disk, Ctrl-C,
    SIGTERM) the robot is brought to rest before the error goes on.

    Args:
        controller: with a goal set.
        robot: a driver, a twin or a replay; its clock paces the loop.
        num_ticks: control periods to run.
        safety: the guards; counts start at zero here.
        recorder: a flight log with an episode begun; one row per tick.
        on_step: called after every tick.
        reference_U: the command in force at the start; None is what the controller was last told by `sent`, and at
            first zero, within the limits. For position interfaces give it: zero is hardly where the robot is.
        in_worker: plan in a thread beside the loop, for robots whose time passes by itself. Without it the loop waits
            for the plan, and simulated time comes out the same every time.
        delay_s: from a command to the first frame that shows its effect, for which a controller that looks ahead
            allows; None: as the bundle says.
        at_end: after the last tick leave the last command in force, brake to rest under the same guards (slow_stop),
            or go back slowly to where the flight began (park).

    Raises:
        UserError: the robot's frames or proprio are not what the bundle takes, it stands outside its limits, the
            delay is longer than the controller looks ahead, or the log cannot be written.
    """
    flight = _Flight(controller, robot, safety, reference_U, in_worker, delay_s)
    clock = TickClock(robot.now, safety.period_s)
    latencies_s: list[float] = []
    with Interrupt() as interrupt, contextlib.closing(flight.planner):
        try:
            while not flight.over(num_ticks, at_end):
                interrupt.check()
                tick = flight.tick()
                if tick.plan is not None:
                    latencies_s.append(tick.latency_s)
                if recorder is not None:
                    recorder.append(tick.observation, tick.command_U, tick.sent_U, tick.plan, tick.latency_s, tick.held)
                if on_step is not None:
                    on_step(tick)
                flight.missed(clock.wait())
        except BaseException:
            interrupt.stopping()
            stop(robot, safety)
            raise
    late = sum(latency > safety.step_s for latency in latencies_s)
    return LoopResult(
        flight.index,
        np.asarray(latencies_s),
        dict(safety.counts),
        late,
        flight.buffered_ticks,
        flight.ended_by,
        flight.error,
    )


def stop(robot: Robot, safety: Safety, max_ticks: int = 1000) -> None:
    """Bring a robot to rest within its limits, whatever it raises meanwhile.

    Args:
        robot: the robot.
        safety: guards that know what was sent last.
        max_ticks: gives up after so many.
    """
    with contextlib.suppress(Exception):
        clock = TickClock(robot.now, safety.period_s)
        for _ in range(max_ticks):
            if safety.limits.at_rest:
                return
            with contextlib.suppress(Exception):  # one command that is lost does not end the brake
                safety.sent(np.asarray(robot.write(safety.brake()), dtype=np.float64))
            clock.wait()


class _Flight:
    """State of a running loop: the plan under way, and whether the flight is coming to its end."""

    def __init__(
        self,
        controller: Controller,
        robot: Robot,
        safety: Safety,
        reference_U: NDArray[np.float64] | None,
        in_worker: bool,
        delay_s: float | None,
    ):
        self.robot, self.safety = robot, safety
        controller.reset(reference_U)
        _check_start(controller, safety)
        safety.reset(controller.reference_U)
        delay_s = controller.spec.delay_s if delay_s is None else delay_s
        self.timeline = Timeline(controller.spec, safety.limits.in_force_U, delay_s)
        self.planner = Worker(controller) if in_worker else Inline(controller)
        self.index = 0
        self.buffered_ticks = 0
        self.ended_by: str | None = None
        self.error: str | None = None
        self._ending: Answer | End | None = None
        self._ended_at = 0
        self._fresh = False
        self._moved = True
        self._written_s = 0.0

    def over(self, num_ticks: int, at_end: End) -> bool:
        """Whether no more ticks follow; from `num_ticks` on the robot is brought to its end, under the same guards."""
        if self._ending is None and self.index >= num_ticks:
            self._end(at_end)
        if self._ending is None:
            return False
        if self._ending == "leave":
            return True
        arrived = self.safety.limits.at_rest and not (self._ending == "park" and self._moved)
        gave_up = (self.index - self._ended_at) * self.safety.period_s > _LONGEST_END_S
        if (arrived or gave_up) and self._ending == "torque_off" and isinstance(self.robot, Releasable):
            self.robot.release()
        return arrived or gave_up

    def tick(self) -> Tick:
        """One control period."""
        observation = self.robot.read()
        read_s = time.perf_counter()
        due = self._ending is None and self.planner.waited_s is None and self.timeline.due
        held = self.safety.check_observation(observation, self.robot.now(), due)
        if held is None and due:
            self._ask(observation, read_s)
        reply, held = self._reply(held)
        if held is None and reply is not None:
            self.timeline.take(reply.plan, reply.question.from_rest)
        command_U, held = self._command(held)
        plan, latency_s = (None, float("nan")) if reply is None else (reply.plan, reply.latency_s)
        if reply is not None and reply.question.asked_s == read_s:  # planned while the loop waited
            latency_s = time.perf_counter() - read_s
        sent_U = self._write(command_U)
        self.index += 1
        return Tick(self.index - 1, observation, plan, held, command_U, sent_U, latency_s)

    def missed(self, late_s: float) -> None:
        """The next tick is late by so much on the robot's clock: whole ticks may have gone by without a command.

        They have if this computer's clock says so too; a clock that jumps is no pause, and simulated time has none.
        """
        own_s = time.perf_counter() - self._written_s - self.safety.period_s
        num_ticks = int(min(late_s, own_s) / self.safety.period_s + 1e-6)
        if num_ticks > 0:
            self.safety.paused()
        if num_ticks > 0 and isinstance(self.planner, Worker):  # a loop that plans itself has lost them before its plan
            self.timeline.skip(num_ticks)

    def _ask(self, observation: Observation, read_s: float) -> None:
        from_rest = self.timeline.empty and self.safety.limits.at_rest
        reference_U, pending_SKU = self.timeline.under_way()
        now_s = self.robot.now()
        self.planner.ask(Question(observation, reference_U, pending_SKU, self._fresh, read_s, now_s, from_rest))
        self._fresh = False

    def _reply(self, held: str | None) -> tuple[Reply | None, str | None]:
        """The plan that has arrived, if any, and the guard that has tripped until now."""
        try:
            reply = self.planner.reply()
        except PlannerError as error:
            self.error = str(error)
            return None, held or self.safety.count(PLANNER_ERROR)
        if held is None and reply is not None:
            held = self.safety.check_plan(reply.plan, self.robot.now() - reply.question.robot_s)
        waited_s = self.planner.waited_s
        if held is None and waited_s is not None:
            held = self.safety.check_waiting(waited_s)
        return reply, held

    def _command(self, held: str | None) -> tuple[NDArray[np.float64], str | None]:
        """What to send, and the guard that decided it."""
        if held is not None:
            self._fresh = True
            self.timeline.clear()
            self.planner.discard()
            answer = self.safety.answer(held)
            if answer != "hold" and self._ending is None:
                self.ended_by = held
                self._end(answer)
        if self._ending is not None:
            parks = self._ending == "park"
            return (self.safety.park() if parks else self.safety.brake()), held
        self.buffered_ticks += self.timeline.overdue
        wanted_U = self.timeline.next()
        if wanted_U is None and self.timeline.overdue:
            return self._command(self.safety.count(OVERRUN))
        return (self.safety.brake() if wanted_U is None else self.safety.filter(wanted_U)), held

    def _end(self, answer: Answer | End) -> None:
        self._ending, self._ended_at, self._moved = answer, self.index, True

    def _write(self, command_U: NDArray[np.float64]) -> NDArray[np.float64]:
        sent_U = np.asarray(self.robot.write(command_U), dtype=np.float64)
        sent_U = sent_U if np.isfinite(sent_U).all() else command_U
        self._written_s = time.perf_counter()
        self._moved = not np.array_equal(sent_U, self.safety.limits.in_force_U)
        self.safety.sent(sent_U)
        self.timeline.sent(sent_U)
        return sent_U


def _check_start(controller: Controller, safety: Safety) -> None:
    """A first command may not be a jump: raise UserError where the robot stands outside its limits."""
    space, start_U = controller.spec.command, controller.reference_U
    away_U = np.abs(start_U - np.clip(start_U, space.low, space.high))
    if space.is_position and (away_U > np.asarray(space.max_step)).any():
        worst = int(np.argmax(away_U / np.asarray(space.max_step)))
        raise UserError(
            f"{space.names[worst]} stands at {start_U[worst]:.4g} {space.unit}, its limits are"
            f" {space.low[worst]:.4g} to {space.high[worst]:.4g}",
            "Move the robot inside its limits by hand, then run again",
        )
