"""A robot in another process of this computer, behind the live protocol."""

import socket
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.drivers import wire
from robot_wm.contracts import config
from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation

_TIMEOUT_S = 10.0
_START_S = 120.0  # to find a task's start and goal, and to draw its picture for the first time


class Remote:
    """The live Robot protocol over a socket; every wait is bounded.

    Attributes:
        in_force_U: the command in force when the connection or the last task began.
    """

    def __init__(self, address: str, spec: ControllerSpec):
        """Connect.

        Args:
            address: HOST:PORT of a server on this computer.
            spec: of the controller that will run it.

        Raises:
            UserError: another computer, nobody there, another version, or another body than the controller's.
        """
        host, _, port = address.rpartition(":")
        wire.check_loopback(host)
        if not port.isdecimal():
            raise UserError(f"address is {address!r}", "Give HOST:PORT, such as 127.0.0.1:5555")
        try:
            self._socket = socket.create_connection((host, int(port)), _TIMEOUT_S)
        except (OSError, OverflowError) as error:
            raise UserError(f"no robot answers at {address} ({error})", "Start one: robot-wm serve") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._address = address
        try:
            about, arrays = self._ask("hello", "welcome", {"version": wire.VERSION})
            self.in_force_U: NDArray[np.float64] = arrays["in_force"]
            self._check(about, spec)
        except BaseException:
            self.close()
            raise

    def read(self) -> Observation:
        """As the robot itself."""
        values, arrays = self._ask("read", "observation")
        return Observation(arrays["frame"], arrays["proprio"], values["time_s"], values["proprio_time_s"])

    def write(self, command_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """As the robot itself."""
        _, arrays = self._ask("write", "sent", None, command=np.asarray(command_U, dtype=np.float64))
        return arrays["command"]

    def now(self) -> float:
        """The robot's own clock [s]."""
        values, _ = self._ask("now", "time")
        return float(values["now_s"])

    def start(self, number: int) -> NDArray[np.uint8]:
        """Have the robot put where its task `number` starts; returns the goal image."""
        self._socket.settimeout(_START_S)
        _, arrays = self._ask("start", "started", {"number": number})
        self._socket.settimeout(_TIMEOUT_S)
        self.in_force_U = arrays["in_force"]
        return arrays["goal"]

    def outcome(self) -> dict[str, Any]:
        """What came of the task that was started last."""
        values, _ = self._ask("outcome", "outcome")
        return values

    def close(self) -> None:
        """Leave; the server brings its robot to rest."""
        self._socket.close()

    def _ask(
        self, kind: str, wanted: str, values: dict[str, Any] | None = None, **arrays: NDArray[Any]
    ) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        wire.send(self._socket, kind, values, **arrays)
        found, answer, given = wire.receive(self._socket)
        if found == "refused":
            raise UserError(str(answer.get("problem")), str(answer.get("remedy")))
        if found == "failed":
            raise RuntimeError(f"{self._address}: {answer.get('problem')}")
        if found != wanted:
            raise wire.WireError(f"{self._address} answers {found!r} to {kind!r}")
        return answer, given

    def _check(self, about: dict[str, Any], spec: ControllerSpec) -> None:
        if about.get("version") != wire.VERSION:
            raise UserError(
                f"{self._address} speaks version {about.get('version')}, this is {wire.VERSION}",
                "Install the same robot-wm on both sides",
            )
        if about.get("embodiment_sha256") != spec.embodiment_sha256:
            raise UserError(
                f"{self._address} serves another body than {spec.embodiment}, for which the bundle was made",
                "Serve the embodiment that it was calibrated with",
            )
        space = config.from_mapping(CommandSpace, about["command"], f"{self._address}: command")
        if (space, tuple(about["proprio"])) != (spec.command, spec.proprio):
            raise UserError(
                f"{self._address} has other commands or proprio than the bundle",
                "The MJCF has changed since calibration: calibrate and export again",
            )
