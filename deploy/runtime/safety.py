"""What stands between a plan and the motors. On by default, counted by name, and the last word on every command."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.controller import Plan
from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.robot import Observation

STALE_FRAME = "stale_frame"  # older (or further in the future) than max_frame_age_s
UNCHANGED_FRAME = "unchanged_frame"  # not newer than the frame of the plan before
BAD_PROPRIO = "bad_proprio"  # NaN or infinite
BAD_PLAN = "bad_plan"  # a command or the cost is NaN or infinite
OVERRUN = "overrun"  # planning took longer than a model step, max_overruns times in a row
BAD_COMMAND = "bad_command"  # NaN or infinite
LIMIT = "limit"  # moved to the nearest limit
RATE = "rate"  # slowed to max_step

INTERVENTIONS = (STALE_FRAME, UNCHANGED_FRAME, BAD_PROPRIO, BAD_PLAN, OVERRUN, BAD_COMMAND, LIMIT, RATE)
_ROUNDING = 1e-6  # share of the range within which a difference is float32's, not an intervention


class Safety:
    """Guards of one control loop.

    A guard that trips before planning answers with *hold*: the last target for position interfaces, a slow-down to
    zero by at most `max_step` per tick for rate interfaces. Whatever happens, what `filter` and `hold` return is
    finite and within the limits.

    Attributes:
        counts: control ticks on which each guard stepped in, by name.
        period_s: one control tick [s].
    """

    def __init__(self, spec: ControllerSpec):
        self._space = spec.command
        self._limits = spec.safety
        self.period_s = 1 / spec.command.control_rate_hz
        self._step_s = spec.command.frame_skip * self.period_s
        self._low, self._high = np.asarray(spec.command.low), np.asarray(spec.command.high)
        self._max_step = np.asarray(spec.command.max_step)
        self.counts: Counter[str] = Counter()
        self.reset()

    def reset(self) -> None:
        """Start a new episode with all counts at zero."""
        self.counts = Counter()
        self._planned_frame_s = -np.inf
        self._overruns = 0

    def check_observation(self, observation: Observation, now_s: float, planning: bool) -> str | None:
        """Why the robot must hold instead of trusting `observation`, or None.

        Args:
            observation: the newest reading.
            now_s: the robot's clock [s].
            planning: a plan is about to be made from it; its frame must then be newer than that of the plan before.
        """
        age_s = now_s - observation.time_s
        if not abs(age_s) <= self._limits.max_frame_age_s:  # written so that NaN is stale
            return self._count(STALE_FRAME)
        if not np.isfinite(observation.proprio_P).all():
            return self._count(BAD_PROPRIO)
        if planning:
            # A clock that was set back would otherwise leave every later frame "old" for good.
            went_back = self._planned_frame_s > observation.time_s + self._limits.max_frame_age_s
            if observation.time_s <= self._planned_frame_s and not went_back:
                return self._count(UNCHANGED_FRAME)
            self._planned_frame_s = observation.time_s
        return None

    def check_plan(self, plan: Plan, elapsed_s: float) -> str | None:
        """Why the robot must hold instead of following `plan`, or None.

        Args:
            plan: what the controller decided.
            elapsed_s: how long that took on the robot's clock [s].
        """
        self._overruns = self._overruns + 1 if elapsed_s > self._step_s else 0
        if not plan.is_finite:
            return self._count(BAD_PLAN)
        return self._count(OVERRUN) if self._overruns >= self._limits.max_overruns else None

    def filter(self, command_U: NDArray[np.float64], previous_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """The command that may be sent, (U,) [the command's unit].

        Args:
            command_U: what the plan asks for; anything not finite becomes hold.
            previous_U: what was really sent last; the change from it is at most `max_step`.
        """
        if not np.isfinite(command_U).all():
            self._count(BAD_COMMAND)
            return self.hold(previous_U)
        clipped_U = np.clip(command_U, self._low, self._high)
        allowed_U = self._approach(clipped_U, previous_U)
        tolerance = _ROUNDING * (self._high - self._low)
        if (np.abs(clipped_U - command_U) > tolerance).any():
            self._count(LIMIT)
        if (np.abs(allowed_U - clipped_U) > tolerance).any():
            self._count(RATE)
        return allowed_U

    def hold(self, previous_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """The command that stays in place, or brakes towards it, (U,) [the command's unit]."""
        return self._approach(self._space.hold(self._within(previous_U)), previous_U)

    def is_holding(self, previous_U: NDArray[np.float64]) -> bool:
        """Whether sending hold again would change nothing."""
        return bool(np.array_equal(self.hold(previous_U), previous_U))

    def _approach(self, target_U: NDArray[np.float64], previous_U: NDArray[np.float64]) -> NDArray[np.float64]:
        start_U = self._within(previous_U)
        return np.clip(target_U, start_U - self._max_step, start_U + self._max_step)

    def _within(self, previous_U: NDArray[np.float64]) -> NDArray[np.float64]:
        rest_U = np.clip(0.0, self._low, self._high)
        return np.clip(np.where(np.isfinite(previous_U), previous_U, rest_U), self._low, self._high)

    def _count(self, name: str) -> str:
        self.counts[name] += 1
        return name
