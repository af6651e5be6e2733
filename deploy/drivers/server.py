"""A robot served to one client at a time over a local socket; it brakes by itself when the client is gone or silent."""

import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.drivers import wire
from deploy.drivers.monitor import Monitor
from deploy.runtime.limits import Limits
from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Robot
from robot_wm.contracts.safety import Safety

_SILENT_TICKS = 5  # control ticks without a command after which the client counts as hung
_CLIENT_TIMEOUT_S = 5.0  # for the rest of a message that has begun


@dataclass(frozen=True)
class Description:
    """What a server tells of its robot.

    Attributes:
        embodiment_sha256: digest of the body.
        command: its command space.
        proprio: names of its proprio, in order.
    """

    embodiment_sha256: str
    command: CommandSpace
    proprio: tuple[str, ...]


class Hosted(Robot, Protocol):
    """A robot that can be served."""

    def in_force(self) -> NDArray[np.float64]:
        """The command in force, (U,)."""
        ...

    def start(self, number: int) -> NDArray[np.uint8]:
        """Put the robot where task `number` starts; returns the goal image. Raises UserError where there is none."""
        ...

    def outcome(self) -> dict[str, Any]:
        """What came of the task that was started last, as JSON values."""
        ...


class Server:
    """Answers one client after the other until `over` says so.

    Attributes:
        monitor: judges every command that reaches the robot, those of the server's own brake too.
        port: where it listens.
    """

    def __init__(self, robot: Hosted, described: Description, safety: Safety, port: int = 0, host: str = "127.0.0.1"):
        """Listen on a local port; 0 takes a free one.

        Raises:
            UserError: a host that others could reach, or a port that is taken.
        """
        wire.check_loopback(host)
        self._robot, self._described = robot, described
        self._limits = Limits(described.command, safety)
        self.monitor = Monitor(described.command, safety)
        self._period_s = 1 / described.command.control_rate_hz
        try:
            self._listener = socket.create_server((host, port))
        except OSError as error:
            raise UserError(
                f"port {port} of {host} cannot be served ({error})", "Give port=0 for a free one"
            ) from error
        self._listener.settimeout(self._period_s)
        self.port: int = self._listener.getsockname()[1]
        self._rest()

    def serve(self, over: Callable[[], bool]) -> None:
        """Answer clients; returns when `over` is true, looked at once per control period while nobody is there."""
        with self._listener:
            while not over():
                try:
                    connection, _ = self._listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._attend(connection, over)
                self._brake()

    def _attend(self, connection: socket.socket, over: Callable[[], bool]) -> None:
        """One client, until it leaves or breaks the protocol."""
        written_s = time.monotonic()
        while not over():
            connection.settimeout(self._period_s)
            try:
                begun = connection.recv(1, socket.MSG_PEEK)
            except TimeoutError:
                if time.monotonic() - written_s > _SILENT_TICKS * self._period_s and not self._limits.at_rest:
                    self._send(self._limits.brake())
                continue
            except OSError:
                return
            if not begun:
                return
            connection.settimeout(_CLIENT_TIMEOUT_S)
            try:
                kind, values, arrays = wire.receive(connection)
                written_s = time.monotonic() if kind == "write" else written_s
                self._answer(connection, kind, values, arrays)
            except wire.WireError:
                return

    def _answer(
        self, connection: socket.socket, kind: str, values: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> None:
        robot = self._robot
        try:
            if kind == "hello":
                about = {"version": wire.VERSION, **asdict(self._described)}
                wire.send(connection, "welcome", about, in_force=self._limits.in_force_U)
            elif kind == "read":
                seen = robot.read()
                times = {"time_s": seen.time_s, "proprio_time_s": seen.proprio_time_s, "now_s": robot.now()}
                wire.send(connection, "observation", times, frame=seen.frame_YXC, proprio=seen.proprio_P)
            elif kind == "write" and arrays.keys() == {"command"}:
                wire.send(connection, "sent", {"now_s": robot.now()}, command=self._send(arrays["command"]))
            elif kind == "now":
                wire.send(connection, "time", {"now_s": robot.now()})
            elif kind == "start":
                goal = robot.start(int(values.get("number", 0)))
                self._rest()
                wire.send(connection, "started", {"now_s": robot.now()}, goal=goal, in_force=self._limits.in_force_U)
            elif kind == "outcome":
                wire.send(connection, "outcome", robot.outcome())
            else:
                raise UserError(f"message {kind!r} is not known", "Use the same version of robot-wm on both sides")
        except UserError as error:
            wire.send(connection, "refused", {"problem": error.problem, "remedy": error.remedy})
        except (ValueError, TypeError, RuntimeError) as error:  # of the robot; the client may try again
            wire.send(connection, "failed", {"problem": f"{type(error).__name__}: {error}"})

    def _send(self, command_U: NDArray[np.float64]) -> NDArray[np.float64]:
        command_U = np.asarray(command_U, dtype=np.float64).ravel()
        if command_U.shape != (self._described.command.dim,):
            raise UserError(f"a command of {command_U.size} values", f"It has {self._described.command.dim}")
        self.monitor.judge(command_U, self._robot.now())
        sent_U = self._robot.write(command_U)
        self._limits.sent(sent_U)
        return sent_U

    def _brake(self) -> None:
        """To rest, within all limits: nobody is there to do it."""
        for _ in range(self._limits.brake_ticks + 1):
            started_s = self._robot.now()
            self._send(self._limits.brake())
            time.sleep(max(0.0, self._period_s - (self._robot.now() - started_s)))

    def _rest(self) -> None:
        self._limits.reset(self._robot.in_force())
        self.monitor.reset(self._limits.in_force_U)
