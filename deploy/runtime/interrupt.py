"""Ctrl-C and SIGTERM as a wish that a loop grants between two ticks, so that nothing is cut off half way."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """Within `with`, the first of either signal is noted, and `check` or the end of `with` raises it.

    A second one is not waited for, unless the robot is being stopped already. None is ever lost.
    In other threads than the main one, which alone gets signals, it does nothing.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._asked: int | None = None
        self._stopping = False

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
        if not isinstance(error, KeyboardInterrupt | SystemExit):  # an error does not swallow the wish to end
            self.check()

    def check(self) -> None:
        """Raise what was asked for: KeyboardInterrupt for Ctrl-C, SystemExit for SIGTERM."""
        if self._asked is not None:
            number, self._asked = self._asked, None
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    def stopping(self) -> None:
        """From now on signals are noted only: the robot is being stopped, and that takes a while."""
        self._stopping = True

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked is not None and not self._stopping:  # something hangs: do not wait for the tick to end
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        self._asked = number
