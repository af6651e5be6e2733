"""The control loop: read, check, ask for a plan where one is due, filter, write, record; once per control tick."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.clock import TickClock
from deploy.runtime.controller import Planner
from deploy.runtime.flight import End, Flight, Tick
from deploy.runtime.interrupt import Interrupt
from deploy.runtime.recorder import FlightLog
from deploy.runtime.safety import Safety
from robot_wm.contracts.robot import Robot

_PERCENTILES = (50, 95, 99)


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
    controller: Planner,
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
    park_U: NDArray[np.float64] | None = None,
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
        park_U: where parking goes instead, for a flight that goes on from one before.

    Raises:
        UserError: the robot's frames or proprio are not what the bundle takes, it stands outside its limits, the
            delay is longer than the controller looks ahead, or the log cannot be written.
    """
    flight = Flight(controller, robot, safety, reference_U, in_worker, delay_s, park_U)
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
                    _record(recorder, tick)
                if on_step is not None:
                    on_step(tick)
                flight.missed(clock.wait())
        except BaseException:
            interrupt.stopping()
            stop(robot, safety, flight.unconfirmed_U)
            raise
    late = sum(latency > safety.step_s for latency in latencies_s)
    return LoopResult(
        flight.index, np.asarray(latencies_s), dict(safety.counts), late, flight.buffered_ticks, flight.ended_by,
        flight.error,
    )  # fmt: skip


def _record(log: FlightLog, tick: Tick) -> None:
    signs = tick.surprise, tick.miss
    log.append(tick.observation, tick.command_U, tick.sent_U, tick.plan, tick.latency_s, tick.held, *signs)


def stop(robot: Robot, safety: Safety, unconfirmed_U: NDArray[np.float64] | None = None, max_ticks: int = 1000) -> None:
    """Bring a robot to rest within its limits, whatever it raises meanwhile.

    Args:
        robot: the robot.
        safety: guards that know what was sent last.
        unconfirmed_U: what may have been sent after that; it is sent once more, so that the brake starts from what is
            in force in either case.
        max_ticks: gives up after so many.
    """
    with contextlib.suppress(Exception):
        clock = TickClock(robot.now, safety.period_s)
        for _ in range(max_ticks):
            if unconfirmed_U is None and safety.limits.at_rest:
                return
            command_U, unconfirmed_U = safety.brake() if unconfirmed_U is None else unconfirmed_U, None
            with contextlib.suppress(Exception):  # one command that is lost does not end the brake
                safety.sent(np.asarray(robot.write(command_U), dtype=np.float64))
            clock.wait()
