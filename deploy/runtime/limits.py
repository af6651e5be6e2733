"""Which command may follow those that were sent: limits, and at any time room to brake within them.

A command stream is bounded in its values and its derivatives. What may be sent next is what leaves room for a brake
that keeps every bound; the brake from where the robot is has always been checked one tick before, so that there always
is an answer. In units of one control tick, with s the speed (the change of a commanded position; a commanded velocity
or torque itself), a its change and J the largest change of a.

Braking has a closed form. A speed that changes by m and then by m − J, m − 2J, … until it stops changing has gone
G(m) = m + (m − J) + (m − 2J) + …, which is piecewise linear and has an inverse. The largest m with G(m) ≤ s is the
change with which a speed s comes to rest exactly; the one with G(m) ≤ high − s is the largest that stays below `high`.
"""

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.safety import Safety

LIMIT = "limit"  # moved to the nearest limit, or slowed to stop in front of one
RATE = "rate"  # slowed to max_step
ACCELERATION = "acceleration"
JERK = "jerk"

_ROUNDING = 1e-6  # share of the range within which a difference is float32's, not an intervention
_LONGEST_BRAKE = 2000  # control ticks
_SHARES = np.linspace(1.0, 0.0, 33)[:, None]

Array = NDArray[np.float64]


class Limits:
    """The bounds of one body's commands, and what it was sent last.

    Attributes:
        in_force_U: the command sent last [the command's unit].
        touched: which bounds changed the last `filter`, in the order of their names above.
    """

    def __init__(self, space: CommandSpace, safety: Safety):
        """Resolve the bounds per tick.

        Raises:
            UserError: limits so tight that braking takes more than 2,000 control ticks, or acceleration of a torque.
        """
        self._space = space
        self._low, self._high = np.asarray(space.low), np.asarray(space.high)
        step, rate_hz = np.asarray(space.max_step), space.control_rate_hz
        own = step / safety.max_step  # a dimension with a step of its own has all bounds in proportion
        acceleration, jerk = safety.max_acceleration, safety.max_jerk
        if space.interface == "joint_torque" and (acceleration, jerk) != (None, None):
            raise UserError("safety: max_acceleration and max_jerk of torques mean nothing", "Give max_step alone")
        order = 2 if space.is_position else 1  # of the difference of commands that is an acceleration
        self._slowest, self._fastest = (-step, step) if space.is_position else (self._low, self._high)
        self._rest = np.zeros(space.dim) if space.is_position else np.clip(0.0, self._low, self._high)
        most = 2 * step if space.is_position else step
        self._accel = step if acceleration is None else np.minimum(own * acceleration / rate_hz**order, most)
        most = 2 * self._accel
        self._jerk = most if jerk is None else np.minimum(own * jerk / rate_hz ** (order + 1), most)
        self._longest = self._check_brake()
        self.touched: tuple[str, ...] = ()
        self.reset(np.where(space.is_position, np.clip(0.0, self._low, self._high), self._rest))

    def reset(self, in_force_U: Array) -> None:
        """Nothing moved for a while: a position rests at `in_force_U`, a velocity keeps it."""
        self.in_force_U = self._within(in_force_U)
        self._speed = np.zeros_like(self.in_force_U) if self._space.is_position else self.in_force_U.copy()
        self._change = np.zeros_like(self.in_force_U)

    def sent(self, command_U: Array) -> None:
        """What was really sent in this tick; what is not a number counts as what was in force."""
        command_U = self._within(np.where(np.isfinite(command_U), command_U, self.in_force_U))
        speed = command_U - self.in_force_U if self._space.is_position else command_U
        speed = np.clip(speed, self._slowest, self._fastest)
        self._change = np.clip(speed - self._speed, -self._accel, self._accel)
        self._speed, self.in_force_U = speed, command_U

    def filter(self, wanted_U: Array) -> Array:
        """The allowed command that is nearest to `wanted_U` (finite), (U,) [the command's unit]."""
        clipped_U = np.clip(wanted_U, self._low, self._high)
        speed = clipped_U - self.in_force_U if self._space.is_position else clipped_U
        change = self._allowed(self._speed, self._change, speed - self._speed)
        if self._space.is_position:
            change = self._leaving_room(change, self._low, self._high)
        allowed_U = np.where(change == speed - self._speed, clipped_U, self._after(change))
        self.touched = self._names(wanted_U, allowed_U, speed - self._speed)
        return np.clip(allowed_U, self._low, self._high)

    def brake(self) -> Array:
        """The next command of the fastest way to rest: a position's that stays, or a velocity's or torque's of zero."""
        return np.clip(self._after(self._braking(self._speed, self._change)), self._low, self._high)

    def toward(self, target_U: Array, share: float = 0.25) -> Array:
        """The next command of the way to a position, which it does not overshoot, at a share of the full speed."""
        target_U = np.clip(target_U, self._low, self._high)
        wanted = np.clip(target_U - self.in_force_U, share * self._slowest, share * self._fastest)
        change = self._allowed(self._speed, self._change, wanted - self._speed)
        ahead = target_U > self.in_force_U
        low, high = np.where(ahead, self._low, target_U), np.where(ahead, target_U, self._high)
        return np.clip(self._after(self._leaving_room(change, low, high)), self._low, self._high)

    @property
    def is_position(self) -> bool:
        """Whether commands are positions, so that there is a way back."""
        return self._space.is_position

    @property
    def speed_U(self) -> Array:
        """How fast a commanded position moves [its unit per tick], or the velocity or torque that was sent."""
        return self._speed

    @property
    def at_rest(self) -> bool:
        """Whether braking would change nothing any more."""
        return bool(np.array_equal(self._speed, self._rest) and not self._change.any())

    @property
    def brake_ticks(self) -> int:
        """Control ticks until rest, if the robot braked now."""
        speed, change = self._speed, self._change
        for tick in range(self._longest):
            if np.array_equal(speed, self._rest) and not change.any():
                return tick
            change = self._braking(speed, change)
            speed = speed + change
        return self._longest

    def _after(self, change: Array) -> Array:
        speed = self._speed + change
        return self.in_force_U + speed if self._space.is_position else speed

    def _allowed(self, speed: Array, before: Array, wanted: Array) -> Array:
        """The change nearest to `wanted` within all bounds of speed, its change and its jerk."""
        lower = np.maximum(-self._accel, -self._largest(speed - self._slowest))
        upper = np.minimum(self._accel, self._largest(self._fastest - speed))
        return np.clip(np.clip(wanted, before - self._jerk, before + self._jerk), lower, upper)

    def _braking(self, speed: Array, before: Array) -> Array:
        away = speed - self._rest
        return self._allowed(speed, before, -np.sign(away) * self._largest(np.abs(away)))

    def _largest(self, distance: Array) -> Array:
        """The inverse of G."""
        distance = np.maximum(distance, 0.0)
        whole = np.floor((np.sqrt(1 + 8 * distance / self._jerk) - 1) / 2)
        return distance / (whole + 1) + self._jerk * whole / 2

    def _leaving_room(self, change: Array, low: Array, high: Array) -> Array:
        """`change`, or as much of the way to it from the brake as leaves room to stop within `low` and `high`."""
        braking = self._braking(self._speed, self._change)
        if self._stops_within(change[None], low, high).all():
            return change
        best, width = np.zeros(change.shape), 1.0
        for _ in range(2):
            shares = np.clip(best + width * _SHARES, 0.0, 1.0)
            fits = self._stops_within(braking + shares * (change - braking), low, high)
            first = np.argmax(fits, axis=0)  # shares fall, so that the first that fits is the largest
            best = np.where(fits.any(axis=0), np.take_along_axis(shares, first[None], axis=0)[0], 0.0)
            width = 1.0 / (len(_SHARES) - 1)
        return braking + best * (change - braking)

    def _stops_within(self, change_NU: Array, low: Array, high: Array) -> NDArray[np.bool_]:
        """For each of several next changes: whether the position stays within `low` and `high` until it rests."""
        speed = self._speed + change_NU
        place = self.in_force_U + speed
        slack = 1e-12 * (self._high - self._low)
        fits: NDArray[np.bool_] = (place >= low - slack) & (place <= high + slack)
        for _ in range(self._longest):
            if not (speed.any() or change_NU.any()):
                break
            change_NU = self._braking(speed, change_NU)
            speed = speed + change_NU
            place = place + speed
            fits &= (place >= low - slack) & (place <= high + slack)
        return fits

    def _names(self, wanted_U: Array, allowed_U: Array, change: Array) -> tuple[str, ...]:
        spare = _ROUNDING * (self._high - self._low)
        touched = np.abs(allowed_U - wanted_U) > spare
        outside = (wanted_U < self._low - spare) | (wanted_U > self._high + spare)
        step = np.clip(wanted_U, self._low, self._high) - self.in_force_U
        fast = np.abs(step) > np.asarray(self._space.max_step) + spare
        sudden = ~fast & (np.abs(change) > self._accel + spare)
        jerky = ~fast & ~sudden & (np.abs(change - self._change) > self._jerk + spare)
        found = ((LIMIT, outside | ~(fast | sudden | jerky)), (RATE, fast), (ACCELERATION, sudden), (JERK, jerky))
        return tuple(name for name, which in found if (which & touched).any())

    def _within(self, command_U: Array) -> Array:
        rest_U = np.clip(0.0, self._low, self._high)
        return np.clip(np.where(np.isfinite(command_U), command_U, rest_U), self._low, self._high)

    def _check_brake(self) -> int:
        """Control ticks that the longest brake takes, from any speed and while it is still growing."""
        worst = (self._fastest - self._slowest) / self._accel + 2 * self._accel / self._jerk + 2
        worst = worst + np.sqrt(8 * (self._fastest - self._slowest) / self._jerk)
        longest = float(np.max(worst))
        if longest > _LONGEST_BRAKE:
            raise UserError(
                f"safety: braking takes up to {longest / self._space.control_rate_hz:.0f} s with max_acceleration and"
                " max_jerk as they are",
                "Raise them: a robot that cannot stop is not safe",
            )
        return int(longest) + 2
