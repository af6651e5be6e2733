"""How long a calibration still takes, told by how long its own optimizer steps have taken on this machine."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Literal

from robot_wm import console
from robot_wm.page.page import duration

Step = Literal["encoder", "fit", "head"]


class TimeLeft:
    """Optimizer steps that are still to come, of each kind, and the seconds that one of it took last.

    Args:
        encoder, fit, head: steps to come: with the encoder in the loop, on latents known before, of the command head.
        clock: seconds, from anywhere.
    """

    def __init__(self, encoder: int, fit: int, head: int, clock: Callable[[], float] = time.monotonic):
        self._todo: dict[Step, int] = {"encoder": encoder, "fit": fit, "head": head}
        self._step_s: dict[Step, float] = {}
        self._clock = clock

    @contextlib.contextmanager
    def spending(self, kind: Step, steps: int) -> Iterator[None]:
        """Time so many steps, and say what is left when they are done."""
        began = self._clock()
        yield
        self._step_s[kind] = (self._clock() - began) / steps
        self._todo[kind] -= steps
        left = self.seconds
        if left is not None and left > 0:
            console.say(f"calibrate: about {duration(left)} left")

    @property
    def seconds(self) -> float | None:
        """None while a kind that says nothing of another is unknown: a step with the encoder takes many times as long.

        A step of the head takes about as long as one of the fit.
        """
        known: dict[Step, float] = {"head": self._step_s["fit"], **self._step_s} if "fit" in self._step_s else {}
        if any(count > 0 and kind not in known for kind, count in self._todo.items()):
            return None
        return sum(count * known[kind] for kind, count in self._todo.items() if count > 0)
