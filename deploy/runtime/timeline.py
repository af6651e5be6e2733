"""Commands by control tick: what was sent, what is committed, and what the newest plan asks for."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.controller import Plan
from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.errors import UserError

Array = NDArray[np.float64]


class Timeline:
    """When a plan is due, what is under way when it is made, and which of its commands is next.

    A frame shows the effect of commands up to `delay` ticks before it. A controller that looks S model steps ahead
    predicts what the S·K commands after those will do, and its plan begins behind them: `lead` = S·K − delay ticks
    after the frame, which is the time there is to plan. When its last row has been sent, a plan goes on with the
    commands that it had in mind for later, until the next one is there or `max_overruns` model steps have gone by.

    Attributes:
        lead: control ticks from a frame to the first command of the plan made from it; 0 if the controller does not
            look ahead.
    """

    def __init__(self, spec: ControllerSpec, in_force_U: Array, delay_s: float = 0.0):
        """Start at rest, with `in_force_U` sent for ever.

        Raises:
            UserError: a delay that the controller does not look far enough ahead for.
        """
        self._space, self._skip = spec.command, spec.command.frame_skip
        self._spare = spec.safety.max_overruns * self._skip
        self._ahead = spec.ahead
        self._delay = round(delay_s * spec.command.control_rate_hz) if self._ahead else 0
        self.lead = self._ahead * self._skip - self._delay
        if self.lead < 0:
            reach_s = self._ahead * self._skip / spec.command.control_rate_hz
            raise UserError(
                f"delay_s is {delay_s}, and the controller looks {reach_s:g} s ahead",
                "Export it with a larger ahead",
            )
        self._sent: deque[Array] = deque([in_force_U] * (self._delay + 1), self._delay + 1)
        self._tick = 0
        self.clear()

    @property
    def due(self) -> bool:
        """Whether the next plan has to be asked for now."""
        return self._chunk_end - self._tick <= self.lead

    @property
    def empty(self) -> bool:
        """Whether no plan is under way."""
        return self._start + len(self._rows) <= self._tick

    @property
    def overdue(self) -> bool:
        """Whether the next plan is late: commands come from what the one before had in mind for later."""
        return bool(len(self._rows)) and self._tick >= self._chunk_end

    def under_way(self) -> tuple[Array, Array | None]:
        """What a plan made from this tick's frame starts from.

        Returns:
            The command in force just before, (U,), and the chunks sent or committed since, (S, K, U); None if the
            controller does not look ahead.
        """
        self._asked = self._tick
        if not self._ahead:
            return self._sent[-1], None
        pending = np.vstack([*list(self._sent)[1:], self._committed(self.lead)])
        return self._sent[0], pending.reshape(self._ahead, self._skip, -1)

    def take(self, plan: Plan, from_rest: bool) -> None:
        """Follow `plan`; one that was made `from_rest` begins now, because nothing moves meanwhile."""
        start = self._tick if from_rest or not self._ahead else max(self._asked + self.lead, 0)
        before = self._committed(max(0, start - self._tick))
        rest = [] if plan.rest_LU is None else [plan.rest_LU[: self._spare]]
        rows = np.vstack([before, plan.command_KU, *rest])
        self._rows, self._start = rows, start - len(before)
        self._chunk_end = start + self._skip

    def next(self) -> Array | None:
        """This tick's command, (U,), or None without a plan."""
        return None if self.empty else self._rows[self._tick - self._start]

    def sent(self, command_U: Array) -> None:
        """What was really sent in this tick; the next one begins."""
        self._sent.append(command_U)
        self._tick += 1

    def skip(self, num_ticks: int) -> None:
        """Ticks went by in which nothing was sent: the last command stayed in force."""
        for _ in range(min(num_ticks, self._delay + 1)):
            self._sent.append(self._sent[-1])
        self._tick += num_ticks

    def clear(self) -> None:
        """Give the plan up."""
        self._rows = np.empty((0, self._space.dim))
        self._start = self._chunk_end = self._asked = self._tick

    def _committed(self, num: int) -> Array:
        """Commands of the next `num` ticks, (num, U), as far as they are known; what stays in place after that."""
        rows = self._rows[self._tick - self._start :][:num] if not self.empty else self._rows[:0]
        last_U = rows[-1] if len(rows) else self._sent[-1]
        return np.vstack([rows, np.tile(self._space.hold(last_U), (num - len(rows), 1))])
