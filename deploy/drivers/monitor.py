"""A judge beside the robot: reads the commands that arrive and knows nothing of the code that sends them."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.contracts.safety import Safety

_SLACK = 1e-6  # share of a bound that rounding may add
_KEPT = 100  # breaches told in full


@dataclass
class Monitor:
    """Compares each command with those before it, by plain differences.

    Attributes:
        space: the commands' range, step and rate.
        safety: acceleration and jerk where they are asked for.
        num_commands: how many were judged.
        breaches: the first hundred that broke a bound, in words.
        num_breaches: how many there were.
    """

    space: CommandSpace
    safety: Safety
    num_commands: int = 0
    num_breaches: int = 0
    breaches: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        step, rate_hz = np.asarray(self.space.max_step), self.space.control_rate_hz
        derivatives = {"joint_position": (2, 3), "joint_torque": (0, 0)}.get(self.space.interface, (1, 2))
        asked = zip(derivatives, (self.safety.max_acceleration, self.safety.max_jerk), strict=True)
        self._bounds = {1: step}  # of the differences between commands, by order
        for order, value in asked:
            if order and value is not None:
                bound = step / self.safety.max_step * value / rate_hz**order
                self._bounds[order] = np.minimum(bound, self._bounds.get(order, np.inf))
        self._last: NDArray[np.float64] = np.zeros((4, self.space.dim))
        self._last_s = 0.0

    def reset(self, in_force_U: NDArray[np.float64]) -> None:
        """Nothing moved for a while, with `in_force_U` in force."""
        self._last = np.tile(np.asarray(in_force_U, dtype=np.float64), (4, 1))

    def judge(self, command_U: NDArray[np.float64], now_s: float) -> None:
        """One command, as it arrived, at `now_s` on the robot's own clock; a pause before it ended the motion."""
        self.num_commands += 1
        if now_s - self._last_s > 1.5 / self.space.control_rate_hz:
            self.reset(self._last[-1])
        self._last_s = now_s
        if not np.isfinite(command_U).all():
            self._note("not finite", command_U)
            return
        low, high = np.asarray(self.space.low), np.asarray(self.space.high)
        slack = _SLACK * (high - low)
        if (command_U < low - slack).any() or (command_U > high + slack).any():
            self._note("range", command_U)
        self._last = np.vstack([self._last[1:], command_U])
        for order, bound in self._bounds.items():
            if (np.abs(np.diff(self._last, n=order, axis=0)[-1]) > (1 + _SLACK) * bound + slack).any():
                self._note(f"difference {order}", command_U)

    def _note(self, what: str, command_U: NDArray[np.float64]) -> None:
        self.num_breaches += 1
        if len(self.breaches) < _KEPT:
            self.breaches.append(f"command {self.num_commands}: {what}: {np.round(command_U, 6).tolist()}")
