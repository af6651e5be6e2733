"""Ticks at a fixed rate, on the robot's own clock."""

import time
from collections.abc import Callable


class TickClock:
    """Waits for the next tick of a clock that is read, never set.

    A twin's time moves with its commands, so the next tick has always come and nothing sleeps; on hardware the loop
    sleeps for what is left of the period. Missed ticks are dropped, not caught up with in a burst, and a clock that
    jumps costs at most one period.
    """

    def __init__(self, now: Callable[[], float], period_s: float, sleep: Callable[[float], None] = time.sleep):
        self._now, self._period_s, self._sleep = now, period_s, sleep
        self._next_s = now() + period_s

    def wait(self) -> float:
        """Sleep until the next tick; returns by how much it was missed [s], 0 when in time."""
        left_s = self._next_s - self._now()
        if 0 < left_s <= 1.001 * self._period_s:
            self._sleep(left_s)
            self._next_s += self._period_s
            return 0.0
        if -1e-6 * self._period_s <= left_s <= 0:
            self._next_s += self._period_s
            return 0.0
        if left_s > 0:  # the clock went backwards
            self._sleep(self._period_s)
        self._next_s = self._now() + self._period_s
        return max(0.0, -left_s)
