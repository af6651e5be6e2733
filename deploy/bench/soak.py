"""A hundred thousand commands under random faults, judged by a monitor beside the robot that knows nothing of the loop.

The robot is a point that goes where it is told, served over a socket in simulated time; the planner asks for anything
within and beyond the limits. The controller's process is killed and restarted all the while; what happens in it is in
`soak_flight`.
"""

import contextlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.bench import soak_flight
from deploy.bench.bench import BenchConfig
from deploy.bench.result import Row
from deploy.drivers.server import Description, Server
from deploy.runtime.recorder import read_episodes
from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.robot import Observation

_COMMANDS = {"quick": 6_000, "full": 100_000}
_SESSION = {"quick": (50, 800), "full": (200, 6_000)}  # commands from one signal to the next, fewest and most
_LONGEST_S = 120.0  # of a session, on a computer that is busy
_START_S = 60.0  # for a child to import what it needs and to fly
_END_S = 20.0  # for a child to brake after SIGTERM


class Point:
    """A body without mass, in simulated time: one control period passes with each command."""

    def __init__(self, spec: ControllerSpec):
        self._spec = spec
        self._sent = 0
        self._in_force_U = spec.command.hold(np.zeros(spec.command.dim))
        self._place_U = np.zeros(spec.command.dim)

    def read(self) -> Observation:
        """A picture whose brightness tells where it is."""
        shade = np.uint8(127 + 120 * np.tanh(self._place_U[0]))
        frame = np.full((self._spec.height, self._spec.width, 3), shade, np.uint8)
        frame[0, 0] = self._sent % 256
        return Observation(frame, np.zeros(len(self._spec.proprio), np.float32), self.now())

    def write(self, command_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """Go there."""
        self._sent += 1
        self._in_force_U = command_U.copy()
        moved_U = command_U / self._spec.command.control_rate_hz
        self._place_U = command_U if self._spec.command.is_position else 0.99 * self._place_U + moved_U
        return command_U

    def now(self) -> float:
        """Simulated time [s]."""
        return self._sent / self._spec.command.control_rate_hz

    def in_force(self) -> NDArray[np.float64]:
        """The command sent last."""
        return self._in_force_U

    def start(self, number: int) -> NDArray[np.uint8]:
        """Every task starts where the point is."""
        return np.full((self._spec.height, self._spec.width, 3), 255, np.uint8)

    def outcome(self) -> dict[str, Any]:
        """There is no judge."""
        return {}


@dataclass
class Tally:
    """What came of the soak.

    Attributes:
        commands, breaches: that reached the robot; that broke a bound.
        told: the first of those, in words.
        acknowledged, logged: rows that the loop had appended; rows that were read back.
        torn: sessions whose log lacks an acknowledged row.
        endings: how sessions ended, and how often each fault struck, by name.
    """

    commands: int = 0
    breaches: int = 0
    told: list[str] = field(default_factory=list)
    acknowledged: int = 0
    logged: int = 0
    torn: int = 0
    endings: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, times: int = 1) -> None:
        """Add to `endings`."""
        self.endings[name] = self.endings.get(name, 0) + times


def soak(config: BenchConfig) -> list[Row]:
    """Commands outside any limit (none may be), acknowledged rows lost (none may be), and what was survived."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        for number, interface in enumerate(("joint_position", "joint_velocity")):
            seed = 2 * config.seed + number
            endure(Path(folder) / interface, interface, _COMMANDS[config.size] // 2, _SESSION[config.size], seed, tally)
    n = tally.commands
    return [
        Row("commands outside range, step, acceleration or jerk", tally.breaches, n=n, target=0, better="lower"),
        Row("commands that reached the robot", n, target=_COMMANDS[config.size]),
        Row("acknowledged rows missing from the log", tally.acknowledged - min(tally.acknowledged, tally.logged),
            n=tally.acknowledged, target=0, better="lower"),
        Row("sessions whose log lacks an acknowledged row", tally.torn, target=0, better="lower"),
        *(Row(f"survived: {name}", times) for name, times in sorted(tally.endings.items())),
    ]  # fmt: skip


def endure(folder: Path, interface: str, commands: int, session: tuple[int, int], seed: int, tally: Tally) -> None:
    """Serve a point until it got so many commands, and end whoever controls it over and over again.

    Args:
        folder: for the bundle and the logs; made here.
        interface: of the point.
        commands: that it gets at least.
        session: fewest and most commands from one signal to the next.
        seed: of faults and signals.
        tally: what came of it is added here.
    """
    spec = soak_flight.spec(interface)
    bundle = soak_flight.write_bundle(folder / "bundle", spec)
    rng = np.random.default_rng(seed)
    with _served(spec) as server:
        number = 0
        while server.monitor.num_commands < commands:
            seen = folder / f"session_{number:04d}"
            seen.mkdir()
            with _flying(bundle, server.port, seen, int(rng.integers(1 << 30))) as child:
                _wait(child, seen)
                until, deadline_s = server.monitor.num_commands + rng.integers(*session), time.monotonic() + _LONGEST_S
                while server.monitor.num_commands < until and time.monotonic() < deadline_s and child.poll() is None:
                    time.sleep(0.005)
                end = signal.SIGKILL if rng.random() < 0.5 else signal.SIGTERM
                child.send_signal(end)
                child.wait(_END_S)
            tally.count(f"{end.name} and restart")
            _take_stock(seen, tally)
            number += 1
        time.sleep(0.2)
        tally.commands += server.monitor.num_commands
        tally.breaches += server.monitor.num_breaches
        tally.told += server.monitor.breaches


@contextlib.contextmanager
def _served(spec: ControllerSpec) -> Iterator[Server]:
    server = Server(Point(spec), Description(spec.embodiment_sha256, spec.command, spec.proprio), spec.safety)
    over = threading.Event()
    thread = threading.Thread(target=server.serve, args=(over.is_set,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        over.set()
        thread.join(_END_S)


@contextlib.contextmanager
def _flying(bundle: Path, port: int, folder: Path, seed: int) -> "Iterator[subprocess.Popen[bytes]]":
    given = (str(bundle), f"127.0.0.1:{port}", str(folder), str(seed))
    command = [sys.executable, "-m", "deploy.bench.soak_flight", *given]
    with (folder / "messages.txt").open("wb") as messages:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=messages, stderr=messages)
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()
            child.wait(_END_S)


def _wait(child: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Until the first row of a new session is acknowledged."""
    deadline_s = time.monotonic() + _START_S
    while not soak_flight.read_tally(folder)[0]:
        if child.poll() is not None or time.monotonic() > deadline_s:
            words = (folder / "messages.txt").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the controller's process does not fly (exit {child.poll()}): {words}")
        time.sleep(0.01)


def _take_stock(folder: Path, tally: Tally) -> None:
    """Compare what the loop had acknowledged with what can be read back."""
    acknowledged, faults = soak_flight.read_tally(folder)
    logged = sum(len(episode.rows_L) for episode in read_episodes(folder / "flight"))
    tally.acknowledged += acknowledged
    tally.logged += logged
    tally.torn += logged < acknowledged
    for name, times in faults.items():
        if times:
            tally.count(name, times)
