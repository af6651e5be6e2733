"""The twin in a process of its own, in real time: what stands between it and the controller is what a robot has."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy import children
from deploy.drivers.server import Description, Server
from robot_wm.contracts import config, files
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation
from sims import gl, tasks
from sims.pairs import Pair
from sims.robots import load
from sims.twin import Twin

_START_S = 60.0  # for the child to load its model and to listen


@dataclass(frozen=True)
class TwinSettings:
    """What a twin is made of.

    Attributes:
        embodiment: the body.
        severity, preset, seed: of its hidden faults, see sims.twin.
        first_seed: of the pairs of start and goal that clients may ask for by number.
        host, port: where it listens; port 0 is a free one.
    """

    embodiment: Embodiment
    severity: float = 0.0
    preset: str = "all"
    seed: int = 0
    first_seed: int = 0
    host: str = "127.0.0.1"
    port: int = 0


class HostedTwin:
    """A twin on the wall's clock, with the tasks of its body."""

    def __init__(self, settings: TwinSettings):
        gl.choose_backend()
        self._simulation = load(settings.embodiment, settings.seed)
        self._twin = Twin(self._simulation, settings.severity, settings.seed, settings.preset, wall_clock=True)
        self._task = tasks.make(self._simulation)
        self._first_seed = settings.first_seed
        self._pairs: list[Pair] = []
        self._pair: Pair | None = None

    @property
    def described(self) -> Description:
        """What a server tells of it."""
        simulation = self._simulation
        return Description(simulation.embodiment.digest(), simulation.command, tuple(simulation.proprio_names))

    def read(self) -> Observation:
        """As the twin."""
        return self._twin.read()

    def write(self, command_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """As the twin."""
        return self._twin.write(command_U)

    def now(self) -> float:
        """As the twin."""
        return self._twin.now()

    def in_force(self) -> NDArray[np.float64]:
        """The command in force, (U,)."""
        return self._simulation.command.hold(self._simulation.reference())

    def start(self, number: int) -> NDArray[np.uint8]:
        """Put the body where pair `number` starts; returns its goal image."""
        if not 0 <= number < 10_000:
            raise UserError(f"task number is {number}", "Give 0 to 9999")
        if number >= len(self._pairs):
            self._pairs = self._task.pairs(number + 1, self._first_seed)
        self._pair = self._pairs[number]
        self._task.start(self._pair)
        self._twin.reset()
        return self._pair.goal_frame

    def outcome(self) -> dict[str, Any]:
        """Whether the goal is reached now, and how far it is."""
        if self._pair is None:
            raise UserError("no task was started", "Send start first")
        return {
            "success": bool(self._task.success(self._pair)),
            "distance_m": float(self._task.distance_m(self._pair)),
            "pair_seed": self._pair.seed,
        }

    def save_truth(self, folder: Path) -> None:
        """Write the hidden parameters, for judges."""
        self._twin.truth.save(folder)

    def close(self) -> None:
        """Free the simulation."""
        self._twin.close()
        self._simulation.close()


def serve_twin(settings: TwinSettings, over: Callable[[], bool], ready: Callable[[Server, HostedTwin], None]) -> None:
    """Serve a twin until `over`; `ready` is called once it listens."""
    hosted = HostedTwin(settings)
    try:
        server = Server(hosted, hosted.described, settings.embodiment.safety, settings.port, settings.host)
        ready(server, hosted)
        server.serve(over)
    finally:
        hosted.close()


@contextlib.contextmanager
def spawned(settings: TwinSettings, folder: Path) -> Iterator[str]:
    """A twin in a child process, which ends with the context and with its parent; yields its address.

    Args:
        settings: of the twin.
        folder: where the child's messages (`twin.log`) and its `truth.json` go.

    Raises:
        UserError: the child ends, or does not listen within a minute; its log says why.
    """
    with tempfile.TemporaryDirectory() as scratch, (folder / "twin.log").open("wb") as log:
        given, told = Path(scratch) / "settings.json", Path(scratch) / "port.json"
        files.write_json(given, config.to_mapping(settings))
        command = [sys.executable, "-m", "deploy.drivers.twin_process", str(given), str(told), str(folder)]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield f"{settings.host}:{_wait(child, told, folder / 'twin.log')}"
        finally:
            children.end(child)


def _wait(child: "subprocess.Popen[bytes]", told: Path, log: Path) -> int:
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s:
        if told.is_file():
            return int(files.read_json(told)["port"])
        if child.poll() is not None:
            raise UserError(f"the twin's process ended with {child.returncode}", f"Its last words are in {log}")
        time.sleep(0.02)
    raise UserError(f"the twin does not listen after {_START_S:.0f} s", f"Its words so far are in {log}")


def _main(given: str, told: str, folder: str) -> None:
    """The child: serves until SIGTERM, or until its parent is gone."""
    settings = config.from_mapping(TwinSettings, json.loads(Path(given).read_text()), given)
    parent = os.getppid()

    def ready(server: Server, hosted: HostedTwin) -> None:
        hosted.save_truth(Path(folder))
        files.write_json(Path(told), {"port": server.port})

    serve_twin(settings, lambda: os.getppid() != parent, ready)


if __name__ == "__main__":
    _main(*sys.argv[1:])
