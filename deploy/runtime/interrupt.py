"""Ctrl-C and SIGTERM as a wish that a loop grants between two ticks, so that nothing is cut off half way."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """Within `with`, the first of either signal is noted, and `check` raises it; a second one is not waited for.

    In other threads than the main one, which alone gets signals, it does nothing.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._asked: int | None = None

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise what was asked for: KeyboardInterrupt for Ctrl-C, SystemExit for SIGTERM."""
        if self._asked is not None:
            number, self._asked = self._asked, None
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    def ignore(self) -> None:
        """From now on both signals are without effect: the robot is being stopped already."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked is not None:  # something hangs: do not wait for the tick to end
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        self._asked = number
