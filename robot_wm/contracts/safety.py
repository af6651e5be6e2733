"""Limits and guards of a running robot, as its yaml names them."""

from dataclasses import dataclass, field
from typing import Literal

from robot_wm.contracts.errors import UserError

Answer = Literal["hold", "slow_stop", "park", "torque_off"]

# Guards that take the robot out of the planner's hands, and what each answers unless the yaml says otherwise.
ANSWERS: dict[str, Answer] = {
    "stale_frame": "hold",
    "unchanged_frame": "hold",
    "bad_proprio": "hold",
    "bad_plan": "hold",
    "overrun": "hold",
    "stale_proprio": "hold",
    "frozen_image": "hold",
    "unfamiliar_image": "hold",
    "unexpected_outcome": "hold",
    "out_of_bounds": "slow_stop",
    "self_collision": "slow_stop",
    "fall": "slow_stop",
    "contact": "slow_stop",
    "planner_stall": "slow_stop",
    "planner_error": "slow_stop",
}
BASE_UP = ("base_up_x", "base_up_y", "base_up_z")  # of proprio: the world's up direction in the base's frame


@dataclass(frozen=True)
class Safety:
    """Limits that the runtime adds to those of the MJCF.

    Speed, acceleration and jerk are those of the motion that is commanded. For commanded positions `max_step` bounds
    the speed; for commanded velocities the range does, and `max_step` the acceleration; torques know `max_step` alone.
    A command dimension with a `max_step` of its own, such as a gripper's, has all of them in proportion.

    Attributes:
        max_step: largest change of a command between two control ticks [the command's unit]; one value for all.
        margin: share of the command range kept free at both ends.
        max_frame_age_s: an older frame is stale and the robot holds.
        max_overruns: model steps in a row that may go by on the plan before, or take too long to plan.
        max_acceleration: [rad/s² or m/s²]; None: what max_step amounts to, so that a position reaches full speed, but
            does not reverse it, within one control tick.
        max_jerk: [rad/s³ or m/s³]; None: acceleration turns round within one control tick.
        max_proprio_age_s: as max_frame_age_s, for drivers that say when they measured.
        max_frozen_s: a picture that stays the same to the last pixel for longer, while the robot is told to move, is
            frozen, whatever its time says.
        bounds: proprio entries that must stay in [low, high], by name: a joint's position, or the end effector's for a
            box that it works in. Where the entry would come to rest if the robot braked now has to be inside as well.
        self_clearance_m: two parts of the body that could touch must stay further apart than this, where they are and
            on the way to where braking now would end; None: not watched. Parts come from the MJCF's collision geoms, at
            export; neighbours, and bodies that are nearer than this at home, are left out.
        workspace_m: two corners, [low, high] of x, y and z in the MJCF's world, of a box that every part which a joint
            moves must stay in, now and on the way to where braking would end; None: no box. For bodies that measure
            their joints and whose base stands where the MJCF has it.
        max_lean_rad: a base that leans further, or will in a tenth of a second, falls; None: not watched. Proprio has
            to measure `base_up_x`, `_y` and `_z`: the world's up direction in the base's frame.
        max_strain: a joint that is further from all targets of the last `settle_s` pushes against something [rad or m];
            None: not watched. Give more than gravity pulls the joints off their targets. For commanded positions.
        settle_s: how long joints take to arrive at a target.
        max_surprise: an image that is so many times further from the calibration log than `Familiar.farthest`. 1: one
            false alarm in 500 images like the log's (docs/trust.md); more to let unfamiliar light and views pass.
        max_unexpected: a model step that misses what the log makes expect by so many times the log's largest miss.
        max_stall_s: a planner that gives no answer for longer has stalled.
        answers: what a guard does, by its name: hold (brake, go on when all is well), slow_stop (brake and end), park
            (brake, go back slowly to where the flight began, end; positions only) or torque_off (brake, end, release).
    """

    max_step: float
    margin: float = 0.0
    max_frame_age_s: float = 0.5
    max_overruns: int = 3
    max_acceleration: float | None = None
    max_jerk: float | None = None
    max_proprio_age_s: float = 0.2
    max_frozen_s: float = 1.0
    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)
    self_clearance_m: float | None = None
    workspace_m: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    max_lean_rad: float | None = None
    max_strain: float | None = None
    settle_s: float = 0.3
    max_surprise: float = 1.0
    max_unexpected: float = 3.5
    max_stall_s: float = 2.0
    answers: dict[str, Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (
            "max_step",
            "max_frame_age_s",
            "max_proprio_age_s",
            "max_frozen_s",
            "max_stall_s",
            "settle_s",
            "max_surprise",
            "max_unexpected",
        ):
            _require(name, getattr(self, name), getattr(self, name) > 0, "It must be positive")
        for name in ("max_acceleration", "max_jerk", "max_lean_rad", "max_strain"):
            value = getattr(self, name)
            _require(name, value, value is None or value > 0, "It must be positive, or left out")
        clearance = self.self_clearance_m
        _require("self_clearance_m", clearance, clearance is None or clearance >= 0, "Give it in m, or leave it out")
        if self.workspace_m is not None:
            corners = [list(corner) for corner in self.workspace_m]
            valid = all(a < b for a, b in zip(*corners, strict=True))
            _require("workspace_m", corners, valid, "Give [[x, y, z], [x, y, z]], low below high")
        _require("margin", self.margin, 0 <= self.margin < 0.5, "It must be in [0, 0.5)")
        _require("max_overruns", self.max_overruns, self.max_overruns >= 0, "It may not be negative")
        for name, (low, high) in self.bounds.items():
            _require(f"bounds.{name}", [low, high], low < high, "Give [low, high], low below high")
        for name in self.answers:
            _require(f"answers.{name}", self.answers[name], name in ANSWERS, f"Guards are: {', '.join(ANSWERS)}")

    @property
    def needs_solids(self) -> bool:
        """Whether a guard has to know where the body's parts are."""
        return self.self_clearance_m is not None or self.workspace_m is not None

    def answer(self, guard: str) -> Answer:
        """What `guard` does when it trips."""
        return self.answers.get(guard, ANSWERS[guard])


def _require(name: str, value: object, valid: bool, wanted: str) -> None:
    if not valid:
        raise UserError(f"safety: {name} is {value}", wanted)
