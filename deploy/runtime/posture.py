"""What a robot's own measurements say of a fall and of a contact: numpy alone, no model of the body."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.safety import BASE_UP

_AHEAD_S = 0.1  # a lean that grows counts as it would be so much later
_POSITION = "_position"

Array = NDArray[np.float64]


class Lean:
    """How far a base leans, from the world's up direction as the base sees it."""

    def __init__(self, spec: ControllerSpec):
        """Find the three entries of proprio.

        Raises:
            UserError: they are not measured.
        """
        missing = [name for name in BASE_UP if name not in spec.proprio]
        if missing:
            raise UserError(
                f"safety has max_lean_rad, but {missing[0]} is not measured",
                f"Measure {', '.join(BASE_UP)} (the world's up direction in the base's frame), or leave it out",
            )
        self._rows = [spec.proprio.index(name) for name in BASE_UP]
        self._ticks_ahead = _AHEAD_S * spec.command.control_rate_hz
        self.reset()

    def reset(self) -> None:
        """Forget what was before."""
        self._before: float | None = None

    def ahead_rad(self, proprio_P: Array) -> float:
        """The lean a moment later if it goes on as since the tick before, and at least the lean now [rad]."""
        up = proprio_P[self._rows]
        now = float(np.arctan2(np.hypot(up[0], up[1]), up[2]))
        before, self._before = self._before, now
        growing = 0.0 if before is None else max(0.0, now - before)
        return now + growing * self._ticks_ahead


class Strain:
    """How far joints are from where they were told to be: what a servo that pushes against something shows.

    A joint follows its targets late. It strains by as much as it is away from all of those sent within `settle_s`.
    """

    def __init__(self, spec: ControllerSpec):
        """Pair commands with the joints that they are targets of.

        Raises:
            UserError: commands are no positions, or none of the joints is measured.
        """
        named = {name.removesuffix(_POSITION): row for row, name in enumerate(spec.proprio)}
        moved = spec.command.moved
        self._columns = [column for column, name in enumerate(moved) if name in named]
        self._rows = [named[moved[column]] for column in self._columns]
        if not spec.command.is_position or not self._rows:
            raise UserError(
                "safety has max_strain, but no joint that is measured is commanded by its position",
                "Give it for joint_position with proprio of the same names, or leave it out",
            )
        settle = spec.safety.settle_s + spec.delay_s
        self._sent: deque[Array] = deque(maxlen=max(1, round(settle * spec.command.control_rate_hz)))

    def reset(self, in_force_U: Array) -> None:
        """A flight begins, or goes on after a pause, at rest."""
        self._sent.clear()
        self.sent(in_force_U)

    def sent(self, command_U: Array) -> None:
        """What was sent in this tick."""
        self._sent.append(np.asarray(command_U, dtype=float)[self._columns])

    def most(self, proprio_P: Array) -> float:
        """The largest of the joints' strains [rad or m]."""
        targets, joints = np.stack(self._sent), proprio_P[self._rows]
        return float(np.maximum(targets.min(0) - joints, joints - targets.max(0)).max())
