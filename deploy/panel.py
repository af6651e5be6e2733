"""What the terminal shows while a robot flies in real time: rate, latency, cost, guards, and where commands stand."""

import contextlib
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploy.runtime.controller import Plan
from deploy.runtime.flight import Tick
from deploy.runtime.loop import latency_percentiles_ms
from deploy.runtime.safety import Safety
from robot_wm import console
from robot_wm.contracts.bundle import ControllerSpec

_PER_S = 8  # pictures of the panel
_KEPT = 200  # ticks and plans that figures are taken over
_WIDTH = 30  # of a command's scale


class Watcher(Protocol):
    """Who looks at a flight."""

    def tick(self, tick: Tick) -> None:
        """One control period has passed."""
        ...

    def landed(self, note: str) -> None:
        """A flight has ended."""
        ...


@contextlib.contextmanager
def watched(spec: ControllerSpec, safety: Safety, total: int, done: int, real_time: bool) -> Iterator[Watcher]:
    """The panel in a terminal; a progress bar for simulated time, and where nobody looks."""
    screen = console.terminal()
    if real_time and screen is not None:
        panel = Panel(spec, safety, total, done)
        with Live(panel, console=screen, refresh_per_second=_PER_S):
            yield panel
    else:
        with console.progress("run", total, done) as bar:
            yield _Quiet(bar)


class _Quiet:
    def __init__(self, bar: console.Bar):
        self._bar = bar

    def tick(self, tick: Tick) -> None:
        """Nothing is shown."""

    def landed(self, note: str) -> None:
        """One step of the bar."""
        self._bar.advance(note=note)


class Panel:
    """Figures of the last ticks, drawn by whoever asks: taking one in costs microseconds."""

    def __init__(self, spec: ControllerSpec, safety: Safety, total: int, done: int):
        self._spec, self._safety, self._total, self._landed = spec, safety, total, done
        self._times_s: deque[float] = deque(maxlen=_KEPT)
        self._latencies_s: deque[float] = deque(maxlen=_KEPT)
        self._costs: deque[float] = deque(maxlen=_KEPT)
        self._guards: Counter[str] = Counter()
        self._tick: Tick | None = None
        self._plan: Plan | None = None
        self._note = ""
        self._flying = False

    def tick(self, tick: Tick) -> None:
        """One control period has passed."""
        self._tick, self._flying = tick, True
        self._times_s.append(time.perf_counter())
        if tick.plan is not None:
            self._latencies_s.append(tick.latency_s)
            self._costs.append(tick.plan.cost)
            self._plan = tick.plan

    def landed(self, note: str) -> None:
        """A flight has ended."""
        self._landed, self._flying = self._landed + 1, False
        self._guards += self._safety.counts
        self._note = note

    def __rich__(self) -> RenderableType:
        tick = self._tick
        if tick is None:
            return Text("waiting for the first frame")
        state = Text(f"held by {tick.held}", "bold red") if tick.held else Text("flying", "green")
        head = Text(f"flight {min(self._landed + 1, self._total)} of {self._total}, tick {tick.index}: ") + state
        facts = Table.grid(padding=(0, 2))
        for name, value in self._facts():
            facts.add_row(Text(name, "dim"), value)
        return Group(head, facts, self._commands(tick), Text(self._note, "dim"))

    def _facts(self) -> Iterator[tuple[str, str]]:
        spec, times_s = self._spec, self._times_s
        if len(times_s) > 1:
            rate_hz = (len(times_s) - 1) / (times_s[-1] - times_s[0])
            yield "rate", f"{rate_hz:.1f} of {spec.command.control_rate_hz:g} Hz"
        latencies = latency_percentiles_ms(np.asarray(self._latencies_s))
        if latencies:
            step_ms = 1000 * self._safety.step_s
            yield "decision", " / ".join(f"{v:.0f}" for v in latencies.values()) + f" ms (p50/95/99 of {step_ms:.0f})"
            if self._safety.expectations is not None:
                found = self._safety.expectations
                yield "image", f"{found.surprise:.2f} × the farthest that calibration saw"
                yield "last step", f"{found.miss:.2f} × calibration's worst miss"
            if self._plan is not None and self._plan.expected_D is not None:
                plan = self._plan
                yield (
                    "imagination",
                    f"off by {plan.imagination_error:.2g}, by {plan.uncertainty:.2g} expected from here",
                )
            yield "cost", f"{self._costs[-1]:.3g}, at first {self._costs[0]:.3g}"
        counts = self._guards + (self._safety.counts if self._flying else Counter())
        yield "guards", ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none has stepped in"

    def _commands(self, tick: Tick) -> Table:
        space = self._spec.command
        table = Table.grid(padding=(0, 1))
        limits = zip(space.names, space.low, space.high, tick.sent_U, strict=True)
        for name, low, high, value in limits:
            place = round((_WIDTH - 1) * (value - low) / (high - low))
            scale = "".join("●" if at == place else "·" for at in range(_WIDTH))
            table.add_row(Text(name, "dim"), f"{low:.3g}", scale, f"{high:.3g}", f"{value:+.3f} {space.unit}")
        return table
