"""Servos at the other end of a serial line, as bytes: the protocol of the STS series, with faults on request.

It takes the place of `serial.Serial` under the maker's library, so that every packet that the driver sends is parsed
here and every answer is parsed there. Nothing waits: what is not there is read as nothing, and the library's own
timeouts run out.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 1, 2, 3, 130, 131
TORQUE, GOAL, PRESENT, SPEED = 40, 42, 56, 58
CALIBRATION = {
    "left": {"id": 3, "drive_mode": 0, "homing_offset": 12, "range_min": 1048, "range_max": 3048},
    "right": {"id": 5, "drive_mode": 1, "homing_offset": -7, "range_min": 948, "range_max": 2948},
}


@dataclass
class Servo:
    """Registers of one servo; `follows` moves it to its goal as soon as it has torque."""

    position: int = 2048
    speed: int = 0
    registers: bytearray = field(default_factory=lambda: bytearray(128))
    follows: bool = True

    def __post_init__(self) -> None:
        self.put(PRESENT, self.position)
        self.put(SPEED, self.speed)

    def put(self, address: int, value: int) -> None:
        self.registers[address : address + 2] = (value & 0xFFFF).to_bytes(2, "little")

    def get(self, address: int) -> int:
        return int.from_bytes(self.registers[address : address + 2], "little")

    def write(self, address: int, data: bytes) -> None:
        self.registers[address : address + len(data)] = data
        if self.registers[TORQUE] and self.follows and address == GOAL:
            self.put(PRESENT, self.get(GOAL))


class SerialBus:
    """What `serial.Serial` is to the library.

    Attributes:
        servos: by id.
        silent: ids that do not answer.
        corrupt: answers still to be spoilt.
        torque_before_goal: ids that got torque while their goal was far from where they were.
        goals: ids and goals of every sync write.
    """

    def __init__(self, servos: dict[int, Servo]):
        self.servos, self.silent, self.corrupt = servos, set[int](), 0
        self.torque_before_goal: list[int] = []
        self.goals: list[dict[int, int]] = []
        self._heard, self._answers = bytearray(), bytearray()
        self.closed = False

    def open(self, **settings: object) -> "SerialBus":
        """In place of the constructor; the settings are those of the library."""
        assert settings["timeout"] == 0, "the library never blocks in a read"
        return self

    @property
    def in_waiting(self) -> int:
        return len(self._answers)

    def read(self, size: int) -> bytes:
        found, self._answers = self._answers[:size], self._answers[size:]
        return bytes(found)

    def write(self, data: list[int] | bytes) -> int:
        self._heard += bytes(data)
        while len(self._heard) >= 4 and len(self._heard) >= 4 + self._heard[3]:
            size = 4 + self._heard[3]
            self._take(bytes(self._heard[:size]))
            del self._heard[:size]
        return len(data)

    def flush(self) -> None:
        pass

    def reset_input_buffer(self) -> None:
        self._answers.clear()

    def close(self) -> None:
        self.closed = True

    def _take(self, packet: bytes) -> None:
        assert packet[:2] == b"\xff\xff"
        assert packet[-1] == ~sum(packet[2:-1]) & 0xFF, "checksum"
        number, instruction, given = packet[2], packet[4], packet[5:-1]
        if instruction == PING:
            self._answer(number, b"")
        elif instruction == READ:
            self._answer(number, self._registers(number, given[0], given[1]))
        elif instruction == WRITE:
            self._write(number, given[0], given[1:])
            self._answer(number, b"")
        elif instruction == SYNC_READ:
            for each in given[2:]:
                self._answer(each, self._registers(each, given[0], given[1]))
        elif instruction == SYNC_WRITE:
            size = given[1] + 1
            rows = [given[2 + at : 2 + at + size] for at in range(0, len(given) - 2, size)]
            for row in rows:
                self._write(row[0], given[0], row[1:])
            self.goals.append({row[0]: int.from_bytes(row[1:], "little") for row in rows})
        else:
            raise AssertionError(f"instruction {instruction}")

    def _registers(self, number: int, address: int, size: int) -> bytes:
        return bytes(self.servos[number].registers[address : address + size]) if number in self.servos else b""

    def _write(self, number: int, address: int, data: bytes) -> None:
        if number in self.silent or number not in self.servos:
            return
        servo = self.servos[number]
        if address == TORQUE and data[0] and abs(servo.get(GOAL) - servo.get(PRESENT)) > 5:
            self.torque_before_goal.append(number)
        servo.write(address, data)

    def _answer(self, number: int, data: bytes) -> None:
        if number in self.silent or number not in self.servos:
            return
        packet = bytes([number, len(data) + 2, 0, *data])
        check = ~sum(packet) & 0xFF
        if self.corrupt:
            self.corrupt -= 1
            check ^= 0xFF
        self._answers += b"\xff\xff" + packet + bytes([check])


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> SerialBus:
    """The two servos of CALIBRATION, both at 2048: at every port that is opened."""
    library = pytest.importorskip("scservo_sdk.port_handler", reason="needs pip install 'robot-wm[feetech]'")
    found = SerialBus({3: Servo(2048), 5: Servo(2048)})
    monkeypatch.setattr(library.serial, "Serial", found.open)
    return found


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    """CALIBRATION as `lerobot-calibrate` writes it."""
    path = tmp_path / "arm.json"
    path.write_text(json.dumps(CALIBRATION))
    return path
