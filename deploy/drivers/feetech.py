"""Feetech serial bus servos (STS3215: SO-100, SO-101 and kin) as a live robot, through the maker's library.

    pip install 'robot-wm[feetech]'

Positions are those of LeRobot's calibration: 4,096 ticks per turn, zero in the middle of a joint's range. A dry run,
which is the default, reads everything and sends nothing: no torque, no goal.
"""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts import config, files
from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation

_TORQUE, _GOAL_POSITION, _PRESENT_POSITION = 40, 42, 56  # addresses of the STS series
_PRESENT_BYTES = 4  # position and speed, two bytes each
_SIGN_BIT = 15  # of speed and of positions below zero
_RAD_PER_TICK = 2 * np.pi / 4096
_BAUD = 1_000_000
_TRIES = 3  # of one exchange with the bus, each bounded by the library's own timeout of some 35 ms


@dataclass(frozen=True)
class Motor:
    """One servo, as LeRobot's calibration file describes it.

    Attributes:
        id: on the bus.
        drive_mode: 1 where the motor turns against the joint.
        homing_offset: stored in the servo itself.
        range_min, range_max: of the joint [ticks].
    """

    id: int
    drive_mode: int
    homing_offset: int
    range_min: int
    range_max: int

    def __post_init__(self) -> None:
        if not (0 <= self.id < 254 and self.drive_mode in (0, 1) and 0 <= self.range_min < self.range_max < 4096):
            raise UserError(f"motor {self}", "Give id 0 to 253, drive_mode 0 or 1, 0 <= range_min < range_max < 4096")

    @property
    def middle(self) -> float:
        """Ticks at which the joint is at zero."""
        return (self.range_min + self.range_max) / 2


class FrameSource(Protocol):
    """Where pictures come from."""

    def newest(self) -> tuple[NDArray[np.uint8], float]:
        """The newest picture (Y, X, 3), RGB, and when it was taken on time.monotonic's clock [s]."""
        ...

    def close(self) -> None:
        """No more pictures."""
        ...


def read_calibration(path: Path, joints: tuple[str, ...]) -> tuple[Motor, ...]:
    """Motors of `joints`, in that order, from a calibration file of LeRobot.

    Raises:
        UserError: no such file, or a joint that it lacks or describes otherwise.
    """
    if not path.is_file():
        raise UserError(f"calibration {path} does not exist", "Give the JSON that lerobot-calibrate wrote for this arm")
    values = files.read_json(path)
    missing = [joint for joint in joints if joint not in values]
    if missing:
        raise UserError(f"{path} lacks joint {missing[0]!r}", f"It has: {', '.join(values)}")
    motors = tuple(config.from_mapping(Motor, values[joint], f"{path}: {joint}") for joint in joints)
    if len({motor.id for motor in motors}) != len(motors):
        raise UserError(f"{path} gives two joints the same id", "Give each servo an id of its own")
    return motors


class Feetech:
    """The live Robot protocol over a bus and a camera.

    Attributes:
        execute: whether commands are sent; without it the arm stays limp, and `write` returns where it is.
    """

    def __init__(
        self, port: str, motors: tuple[Motor, ...], camera: FrameSource, spec: ControllerSpec, execute: bool = False
    ):
        """Open the bus and see that every servo answers; with `execute`, hold the arm where it is.

        Raises:
            UserError: the library is missing, the port does not open, a servo is silent, or a controller whose
                commands are no joint positions.
        """
        if not spec.command.is_position:
            raise UserError(f"the controller commands {spec.command.interface}", "Feetech servos take joint_position")
        joints = spec.command.names
        wanted = tuple(f"{joint}_{kind}" for kind in ("position", "velocity") for joint in joints)
        if spec.proprio != wanted:
            found = ", ".join(spec.proprio)
            raise UserError(f"the controller's proprio is {found}", f"The bus has {', '.join(wanted)}")
        self._camera, self._spec, self._joints, self.execute = camera, spec, joints, execute
        self._ids = [motor.id for motor in motors]
        self._sign = np.array([-1.0 if motor.drive_mode else 1.0 for motor in motors])
        self._middle = np.array([motor.middle for motor in motors])
        self._lowest = np.array([motor.range_min for motor in motors])
        self._highest = np.array([motor.range_max for motor in motors])
        self._bus = _Bus(port, self._ids, joints)
        try:
            self._in_force_U = self._places()[0]
            if execute:
                self._bus.write_goals(self._ticks(self._in_force_U))  # before torque: the old goal may be far away
                self._bus.torque(True)
        except BaseException:
            self._bus.close()
            raise

    def read(self) -> Observation:
        """The newest picture, and positions and velocities measured now.

        Raises:
            OSError: the bus does not answer.
        """
        measured_s = time.monotonic()
        place, speed = self._places()
        frame, taken_s = self._camera.newest()
        return Observation(frame, np.concatenate([place, speed]).astype(np.float32), taken_s, measured_s)

    def write(self, command_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """Send goal positions [rad]; returns what they are once rounded to ticks, or in a dry run where the arm is."""
        if not self.execute:
            self._in_force_U = self._places()[0]
            return self._in_force_U.copy()
        ticks = self._ticks(command_U)
        self._bus.write_goals(ticks)
        self._in_force_U = self._radians(ticks)
        return self._in_force_U.copy()

    def now(self) -> float:
        """This computer's monotonic clock [s]."""
        return time.monotonic()

    def in_force(self) -> NDArray[np.float64]:
        """Where the arm was told to be, or is [rad]."""
        return self._in_force_U.copy()

    def release(self) -> None:
        """Take the torque off every motor: the arm falls."""
        self._bus.torque(False)

    def close(self) -> None:
        """Close bus and camera; the arm keeps its torque and stays where it is."""
        self._bus.close()
        self._camera.close()

    def _places(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        ticks, speeds = self._bus.present()
        return self._radians(ticks), self._sign * speeds * _RAD_PER_TICK

    def _radians(self, ticks: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._sign * (ticks - self._middle) * _RAD_PER_TICK

    def _ticks(self, place_U: NDArray[np.float64]) -> NDArray[np.float64]:
        ticks = np.round(self._sign * place_U / _RAD_PER_TICK + self._middle)
        return np.clip(ticks, self._lowest, self._highest)


class _Bus:
    """Exchanges with the servos; every one is bounded in time."""

    def __init__(self, port: str, ids: list[int], joints: tuple[str, ...]):
        try:
            import scservo_sdk as sdk
        except ImportError as error:
            problem = "the library of Feetech servos is not installed"
            raise UserError(problem, "pip install 'robot-wm[feetech]'") from error
        self._sdk, self._ids, self._port = sdk, ids, sdk.PortHandler(port)
        try:
            if not self._port.setBaudRate(_BAUD):
                raise OSError("it refuses 1 Mbaud")
        except OSError as error:  # pyserial's exceptions are OSErrors
            raise UserError(f"port {port} does not open ({error})", "Give the arm's, such as /dev/ttyACM0") from error
        self._packets = sdk.PacketHandler(0)
        self._reader = sdk.GroupSyncRead(self._port, self._packets, _PRESENT_POSITION, _PRESENT_BYTES)
        for number, joint in zip(ids, joints, strict=True):
            self._reader.addParam(number)
            if not any(self._packets.ping(self._port, number)[1] == sdk.COMM_SUCCESS for _ in range(_TRIES)):
                self.close()
                raise UserError(
                    f"servo {number} ({joint}) does not answer at {port}", "Check power, cables and ids, then run again"
                )

    def present(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions [ticks] and speeds [ticks/s] of all servos."""
        self._retry("read", self._reader.txRxPacket)
        found = [
            [self._signed(self._reader.getData(number, address, 2)) for number in self._ids]
            for address in (_PRESENT_POSITION, _PRESENT_POSITION + 2)
        ]
        return np.array(found[0], dtype=np.float64), np.array(found[1], dtype=np.float64)

    def write_goals(self, ticks: NDArray[np.float64]) -> None:
        """Send goal positions to all servos at once."""
        writer = self._sdk.GroupSyncWrite(self._port, self._packets, _GOAL_POSITION, 2)
        for number, goal in zip(self._ids, ticks.astype(int).tolist(), strict=True):
            writer.addParam(number, [goal & 0xFF, goal >> 8])
        self._retry("write", writer.txPacket)

    def torque(self, on: bool) -> None:
        """Switch the torque of every servo; off goes on to the next servo where one is silent."""
        silent = []
        for number in self._ids:
            try:
                self._retry("torque", lambda n=number: self._packets.write1ByteTxRx(self._port, n, _TORQUE, int(on))[0])
            except OSError:
                silent.append(number)
                if on:
                    break
        if silent:
            raise OSError(f"servos {silent} do not confirm torque {'on' if on else 'off'}")

    def close(self) -> None:
        """Close the port."""
        with contextlib.suppress(OSError):
            self._port.closePort()

    def _retry(self, what: str, exchange: Any) -> None:
        for _ in range(_TRIES):
            result = exchange()
            if result == self._sdk.COMM_SUCCESS:
                return
        raise OSError(f"{what}: {self._packets.getTxRxResult(result)}")

    @staticmethod
    def _signed(value: int) -> int:
        return -(value & ~(1 << _SIGN_BIT)) if value & (1 << _SIGN_BIT) else value
