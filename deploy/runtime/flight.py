"""One flight, a control period at a time: the plan under way, the guard that holds it, and how it comes to its end."""

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.controller import Plan, Planner
from deploy.runtime.safety import OVERRUN, PLANNER_ERROR, Safety
from deploy.runtime.timeline import Timeline
from deploy.runtime.worker import Inline, PlannerError, Question, Reply, Worker
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation, Releasable, Robot
from robot_wm.contracts.safety import Answer

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
        surprise: of the image that was planned from, and
        miss: of the last model step, both 1 at the calibration log's extremes; NaN where they are not known.
    """

    index: int
    observation: Observation
    plan: Plan | None
    held: str | None
    command_U: NDArray[np.float64]
    sent_U: NDArray[np.float64]
    latency_s: float
    surprise: float = float("nan")
    miss: float = float("nan")


class Flight:
    """State of a running loop: the plan under way, and whether the flight is coming to its end.

    Attributes:
        unconfirmed_U: a command whose `write` has not come back: the robot may have it or not.
    """

    def __init__(
        self,
        controller: Planner,
        robot: Robot,
        safety: Safety,
        reference_U: NDArray[np.float64] | None,
        in_worker: bool,
        delay_s: float | None,
        park_U: NDArray[np.float64] | None,
    ):
        self.robot, self.safety = robot, safety
        controller.reset(reference_U)
        _check_start(controller, safety)
        safety.reset(controller.reference_U, park_U)
        delay_s = controller.spec.delay_s if delay_s is None else delay_s
        self.timeline = Timeline(controller.spec, safety.limits.in_force_U, delay_s)
        self.planner = Worker(controller) if in_worker else Inline(controller)
        self.index = 0
        self.buffered_ticks = 0
        self.ended_by: str | None = None
        self.error: str | None = None
        self.unconfirmed_U: NDArray[np.float64] | None = None
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
        signs = self.safety.surprise, self.safety.miss
        return Tick(self.index - 1, observation, plan, held, command_U, sent_U, latency_s, *signs)

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
        self.unconfirmed_U = command_U
        sent_U = np.asarray(self.robot.write(command_U), dtype=np.float64)
        self.unconfirmed_U = None
        sent_U = sent_U if np.isfinite(sent_U).all() else command_U
        self._written_s = time.perf_counter()
        self._moved = not np.array_equal(sent_U, self.safety.limits.in_force_U)
        self.safety.sent(sent_U)
        self.timeline.sent(sent_U)
        return sent_U


def _check_start(controller: Planner, safety: Safety) -> None:
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
