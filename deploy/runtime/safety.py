"""What stands between a plan and the motors. On by default, counted by name, and the last word on every command."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.clearance import Clearance
from deploy.runtime.controller import Plan
from deploy.runtime.familiar import Expectations
from deploy.runtime.limits import ACCELERATION, JERK, LIMIT, RATE, Limits
from deploy.runtime.posture import Lean, Strain
from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation
from robot_wm.contracts.safety import Answer

STALE_FRAME = "stale_frame"  # older (or further in the future) than max_frame_age_s
UNCHANGED_FRAME = "unchanged_frame"  # not newer than the frame of the plan before
BAD_PROPRIO = "bad_proprio"  # NaN or infinite
BAD_PLAN = "bad_plan"  # a command or the cost is NaN or infinite
OVERRUN = "overrun"  # planning took longer than a model step, max_overruns times in a row
BAD_COMMAND = "bad_command"  # NaN or infinite
STALE_PROPRIO = "stale_proprio"  # older than max_proprio_age_s
FROZEN_IMAGE = "frozen_image"  # not one pixel differs while the robot is told to move, though frames claim to be new
OUT_OF_BOUNDS = "out_of_bounds"  # an entry of proprio, or a part of the body, is or would come to rest outside
SELF_COLLISION = "self_collision"  # two parts of the body are, or would come, nearer than self_clearance_m
UNFAMILIAR_IMAGE = "unfamiliar_image"  # further from the calibration log's images than max_surprise
UNEXPECTED_OUTCOME = "unexpected_outcome"  # a model step ended further from what the log makes expect: blocked, broken
PLANNER_STALL = "planner_stall"  # no answer for max_stall_s
PLANNER_ERROR = "planner_error"  # an exception instead of a plan
FALL = "fall"  # the base leans, or is about to lean, further than max_lean_rad
CONTACT = "contact"  # a joint is kept off its target by more than max_strain

# Flight logs hold indices into this: new names go to the end.
INTERVENTIONS = (
    STALE_FRAME, UNCHANGED_FRAME, BAD_PROPRIO, BAD_PLAN, OVERRUN, BAD_COMMAND, LIMIT, RATE,
    STALE_PROPRIO, FROZEN_IMAGE, OUT_OF_BOUNDS, PLANNER_STALL, PLANNER_ERROR, ACCELERATION, JERK,
    UNFAMILIAR_IMAGE, UNEXPECTED_OUTCOME, SELF_COLLISION, FALL, CONTACT,
)  # fmt: skip

_WAYPOINTS = np.linspace(0.0, 1.0, 5)[:, None]  # of the way to rest on which the parts of a body must stay apart
_MOVING = 0.05  # share of the full speed above which a picture should change


class Safety:
    """Guards of one control loop.

    A guard that trips takes the robot out of the planner's hands; its answer (see contracts.safety) says what happens
    instead. Whatever happens, what `filter`, `brake` and `park` return is finite and within the limits of range, step,
    acceleration and jerk, reckoned from what `sent` was told.

    Attributes:
        counts: control ticks on which each guard stepped in, by name.
        limits: the bounds of commands, and what was sent last.
        surprise, miss: what that comparison found in this control tick; NaN where it could not.
        expectations: the comparison with the calibration log; None where the bundle does not tell of it.
        period_s: one control tick [s].
        step_s: one model step [s].
    """

    def __init__(self, spec: ControllerSpec, sees: bool = True):
        """Resolve limits and bounds.

        Args:
            spec: of the controller.
            sees: whether the controller looks at what is observed; for one that does not, only limits, proprio's
                bounds and the times of frames are judged.

        Raises:
            UserError: bounds, a lean or a strain of something that is not in the controller's proprio, a clearance or
                workspace without the parts that should keep it, or limits too tight to brake.
        """
        self._settings, self._sees = spec.safety, sees
        known = spec.familiar if sees else None
        self.expectations = None if known is None else Expectations(known, spec.command.frame_skip)
        self.limits = Limits(spec.command, spec.safety)
        self.period_s = 1 / spec.command.control_rate_hz
        self.step_s = spec.command.frame_skip * self.period_s
        self._full_speed = np.asarray(spec.command.max_step if spec.command.is_position else spec.command.high)
        self._bounded = [_index(spec.proprio, name) for name in spec.safety.bounds]
        self._bounds = np.asarray(list(spec.safety.bounds.values()), dtype=float).reshape(-1, 2).T
        self._clearance = _clearance(spec)
        self._lean = None if spec.safety.max_lean_rad is None else Lean(spec)
        self._strain = None if spec.safety.max_strain is None else Strain(spec)
        self.counts: Counter[str] = Counter()
        self.reset()

    def reset(self, in_force_U: NDArray[np.float64] | None = None, park_U: NDArray[np.float64] | None = None) -> None:
        """Start a new flight with all counts at zero.

        Args:
            in_force_U: the command in force, at rest; None: what was sent last.
            park_U: where `park` goes; None: back to `in_force_U`.
        """
        self.limits.reset(self.limits.in_force_U if in_force_U is None else in_force_U)
        self._park_U = self.limits.in_force_U if park_U is None else np.asarray(park_U, dtype=float)
        self.counts = Counter()
        self.surprise = self.miss = float("nan")
        self._planned_frame_s = -np.inf
        self._overruns = 0
        if self.expectations:
            self.expectations.forget()
        self._picture: NDArray[np.uint8] | None = None
        self._frozen_s = 0.0
        self._place: NDArray[np.float64] | None = None
        if self._lean:
            self._lean.reset()
        if self._strain:
            self._strain.reset(self.limits.in_force_U)

    def answer(self, guard: str) -> Answer:
        """What happens when `guard` has tripped."""
        return self._settings.answer(guard)

    def check_observation(self, observation: Observation, now_s: float, planning: bool) -> str | None:
        """Why the robot must not go on from `observation`, or None. Asked once per control tick.

        Args:
            observation: the newest reading.
            now_s: the robot's clock [s].
            planning: a plan is about to be made from it; its frame must then be newer than that of the plan before.
        """
        settings = self._settings
        self.surprise = self.miss = float("nan")
        measured_s = now_s if observation.proprio_time_s is None else observation.proprio_time_s
        if not np.isfinite(observation.proprio_P).all():
            return self.count(BAD_PROPRIO)
        place_P = observation.proprio_P.astype(float)
        rests_at_P = self._rest(place_P)
        if (fault := self._posture(place_P)) is not None:
            return self.count(fault)
        if self._leaves_bounds(place_P, rests_at_P):
            return self.count(OUT_OF_BOUNDS)
        if self._clearance is not None:
            ways_SP = self._ways(place_P, rests_at_P)
            if settings.workspace_m and self._clearance.leaves(ways_SP, *np.asarray(settings.workspace_m)):
                return self.count(OUT_OF_BOUNDS)
            if settings.self_clearance_m is not None and self._clearance.least(ways_SP) < settings.self_clearance_m:
                return self.count(SELF_COLLISION)
        if not abs(now_s - observation.time_s) <= settings.max_frame_age_s:  # written so that NaN is stale
            return self.count(STALE_FRAME)
        if not abs(now_s - measured_s) <= settings.max_proprio_age_s:
            return self.count(STALE_PROPRIO)
        if self._is_frozen(observation.frame_YXC):
            return self.count(FROZEN_IMAGE)
        if self.expectations:
            self.miss = self.expectations.reach(observation.proprio_P)
        if self.expectations and self.miss > settings.max_unexpected:
            self.expectations.forget()  # the robot is stopped: what comes next is judged anew
            return self.count(UNEXPECTED_OUTCOME)
        if planning:
            # A clock that was set back would otherwise leave every later frame "old" for good.
            went_back = self._planned_frame_s > observation.time_s + settings.max_frame_age_s
            if observation.time_s <= self._planned_frame_s and not went_back:
                return self.count(UNCHANGED_FRAME)
            self._planned_frame_s = observation.time_s
        return None

    def check_plan(self, plan: Plan, elapsed_s: float) -> str | None:
        """Why the robot must not follow `plan`, or None.

        Args:
            plan: what the controller decided.
            elapsed_s: how long that took on the robot's clock [s].
        """
        self._overruns = self._overruns + 1 if elapsed_s > self.step_s else 0
        if not plan.is_finite:
            return self.count(BAD_PLAN)
        if self.expectations:
            self.surprise = self.expectations.look(plan.latent_D)
        if self.surprise > self._settings.max_surprise:
            return self.count(UNFAMILIAR_IMAGE)
        return self.count(OVERRUN) if self._overruns >= max(1, self._settings.max_overruns) else None

    def check_waiting(self, waited_s: float) -> str | None:
        """Why the robot must not wait any longer for a plan, or None.

        Args:
            waited_s: since the planner was asked, on this computer's clock [s].
        """
        return self.count(PLANNER_STALL) if waited_s > self._settings.max_stall_s else None

    def filter(self, command_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """The command that may be sent, (U,) [the command's unit]; anything not finite becomes a brake."""
        if not np.isfinite(command_U).all():
            self.count(BAD_COMMAND)
            return self.brake()
        allowed_U = self.limits.filter(command_U)
        for name in self.limits.touched:
            self.count(name)
        return allowed_U

    def brake(self) -> NDArray[np.float64]:
        """The next command of the fastest way to rest, (U,) [the command's unit]."""
        return self.limits.brake()

    def park(self) -> NDArray[np.float64]:
        """The next command of the slow way back to where the flight began; a brake for all but positions."""
        return self.limits.toward(self._park_U) if self.limits.is_position else self.limits.brake()

    def sent(self, command_U: NDArray[np.float64]) -> None:
        """What was really sent in this tick."""
        self.limits.sent(command_U)
        if self._strain:
            self._strain.sent(self.limits.in_force_U)
        if self.expectations:
            self.expectations.sent(self.limits.in_force_U)

    def paused(self) -> None:
        """Control ticks went by without a command: a position came to rest, a velocity stayed in force."""
        self.limits.reset(self.limits.in_force_U)
        if self.expectations:
            self.expectations.forget()

    def count(self, name: str) -> str:
        """Count one intervention; returns its name."""
        self.counts[name] += 1
        return name

    def _rest(self, place_P: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where proprio would come to rest if the robot braked now, from how it moved since the tick before."""
        before, self._place = self._place, place_P
        moved = 0.0 if before is None else place_P - before
        rests_at_P: NDArray[np.float64] = place_P + moved * self.limits.brake_ticks / 2  # braking halves the way
        return rests_at_P

    def _posture(self, place_P: NDArray[np.float64]) -> str | None:
        settings = self._settings
        if self._lean and self._lean.ahead_rad(place_P) > (settings.max_lean_rad or np.inf):
            return FALL
        if self._strain and self._strain.most(place_P) > (settings.max_strain or np.inf):
            return CONTACT
        return None

    def _leaves_bounds(self, place_P: NDArray[np.float64], rests_at_P: NDArray[np.float64]) -> bool:
        if not self._bounded:
            return False
        place, rests_at = place_P[self._bounded], rests_at_P[self._bounded]
        low, high = self._bounds
        return bool((np.minimum(place, rests_at) < low).any() or (np.maximum(place, rests_at) > high).any())

    def _ways(self, place_P: NDArray[np.float64], rests_at_P: NDArray[np.float64]) -> NDArray[np.float64]:
        """Poses from where the body is to where it would come to rest if it braked now, (S, P)."""
        ways = [place_P + _WAYPOINTS * (rests_at_P - place_P)]
        if self.limits.is_position:  # a servo goes on to the target that it was sent, and this to where it would brake
            target_U = self.limits.in_force_U + self.limits.speed_U * self.limits.brake_ticks / 2
            ahead_P = np.concatenate([target_U, place_P[len(target_U) :]])
            ways.append(place_P + _WAYPOINTS * (ahead_P - place_P))
        return np.concatenate(ways)

    def _is_frozen(self, frame_YXC: NDArray[np.uint8]) -> bool:
        if not self._sees:
            return False
        same = self._picture is not None and np.array_equal(frame_YXC, self._picture)
        moving = (np.abs(self.limits.speed_U) > _MOVING * self._full_speed).any()
        self._frozen_s = self._frozen_s + self.period_s if same and moving else 0.0
        if not same:
            self._picture = frame_YXC.copy()
        return self._frozen_s > self._settings.max_frozen_s


def _index(proprio: tuple[str, ...], name: str) -> int:
    if name not in proprio:
        raise UserError(f"safety.bounds names {name!r}, which is not measured", f"Proprio has: {', '.join(proprio)}")
    return proprio.index(name)


def _clearance(spec: ControllerSpec) -> Clearance | None:
    if not spec.safety.needs_solids:
        return None
    if spec.solids is None:
        raise UserError(
            "safety has self_clearance_m or workspace_m, but the bundle does not know the body's parts",
            "Export again where MuJoCo is installed, or leave it out",
        )
    return Clearance(spec.solids)
