"""A robot behind a socket: what is said arrives, what is not a message ends the talk, and a robot left alone brakes."""

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.drivers import wire
from deploy.drivers.remote import Remote
from deploy.drivers.server import Description, Server
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation
from tests.handmade_bundle import colour, make_spec

SPEC = make_spec("joint_position")
SPEC = replace(SPEC, safety=replace(SPEC.safety, max_acceleration=41.0))  # a tenth of a radian per tick, per tick
TIMEOUT_S = 10.0


class Point:
    """A robot that is where it was told to be; time is its own."""

    def __init__(self) -> None:
        self.at_U = np.array([0.2, 0.3])
        self.sent: list[np.ndarray] = []
        self.rested = threading.Event()

    def read(self) -> Observation:
        return Observation(colour(0.5, 0, 0), np.array([*self.at_U, 0, 0], np.float32), self.now(), self.now())

    def write(self, command_U: np.ndarray) -> np.ndarray:
        if command_U[0] > 0.9:
            raise RuntimeError("bus error")
        if self.sent and np.array_equal(command_U, self.at_U):
            self.rested.set()
        self.at_U = command_U.copy()
        self.sent.append(command_U.copy())
        return self.at_U

    def now(self) -> float:
        return len(self.sent) / 20

    def in_force(self) -> np.ndarray:
        return self.at_U

    def start(self, number: int) -> np.ndarray:
        if number > 3:
            raise UserError("there are 4 tasks", "Give 0 to 3")
        self.at_U = np.full(2, number / 10)
        return colour(0, number / 10, 0)

    def outcome(self) -> dict[str, Any]:
        return {"success": True}


class Served:
    def __init__(self) -> None:
        self.robot = Point()
        self.server = Server(self.robot, Description(SPEC.embodiment_sha256, SPEC.command, SPEC.proprio), SPEC.safety)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.server.serve, args=(self.over.is_set,), daemon=True)
        self.thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served()
    yield found
    found.over.set()
    found.thread.join(TIMEOUT_S)
    assert not found.thread.is_alive()


def test_the_protocol_crosses_the_socket(served: Served) -> None:
    remote = Remote(served.address, SPEC)
    assert remote.in_force_U.tolist() == [0.2, 0.3]
    assert np.array_equal(remote.start(1), colour(0, 0.1, 0))
    assert remote.in_force_U.tolist() == [0.1, 0.1]
    seen = remote.read()
    assert np.array_equal(seen.frame_YXC, colour(0.5, 0, 0))
    assert seen.proprio_P.dtype == np.float32
    assert (seen.time_s, seen.proprio_time_s, remote.now()) == (0, 0, 0)
    assert remote.write(np.array([0.15, 0.1])).tolist() == [0.15, 0.1]
    assert remote.now() == pytest.approx(0.05)
    assert remote.outcome() == {"success": True}
    with pytest.raises(UserError, match=r"there are 4 tasks. Give 0 to 3"):
        remote.start(9)
    with pytest.raises(RuntimeError, match="bus error"):
        remote.write(np.array([0.95, 0.1]))
    assert remote.outcome(), "the talk goes on"
    remote.close()


@pytest.mark.parametrize("silent", [False, True])
def test_left_alone_the_robot_comes_to_rest_within_its_limits(served: Served, silent: bool) -> None:
    remote = Remote(served.address, SPEC)
    for place in (0.3, 0.5, 0.7):
        remote.write(np.array([place, 0.3]))
    assert not served.robot.rested.is_set()
    if not silent:
        remote.close()
    assert served.robot.rested.wait(TIMEOUT_S)
    assert served.server.monitor.breaches == [], "bounds of its own that it keeps"
    assert served.robot.sent[-1][0] == pytest.approx(0.7, abs=0.21)
    if silent:
        remote.close()
    again = Remote(served.address, SPEC)
    assert np.array_equal(again.in_force_U, served.robot.at_U)
    again.close()


def test_the_monitor_sees_what_a_client_does_wrong(served: Served) -> None:
    remote = Remote(served.address, SPEC)
    remote.write(np.array([-0.9, 0.3]))
    remote.write(np.array([-0.9, 9.0]))
    remote.close()
    assert served.robot.rested.wait(TIMEOUT_S)
    found = {breach.split(": ")[1] for breach in served.server.monitor.breaches}
    assert found == {"difference 1", "difference 2", "range"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"embodiment_sha256": "1" * 64}, "serves another body than handmade"),
        ({"proprio": ("x",)}, "other commands or proprio than the bundle"),
    ],
)
def test_another_body_is_refused(served: Served, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Remote(served.address, replace(SPEC, **changes))


@pytest.mark.parametrize(
    ("address", "words"),
    [("10.0.0.1:5555", "not this computer"), ("127.0.0.1", "not this computer"), ("127.0.0.1:x", "Give HOST:PORT"),
     ("127.0.0.1:1", "no robot answers"), ("127.0.0.1:99999", "no robot answers")],
)  # fmt: skip
def test_wrong_addresses_are_one_line(address: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Remote(address, SPEC)


def header(**values: Any) -> bytes:
    text = json.dumps(values).encode()
    return struct.pack(">I", len(text)) + text


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", 1 << 31),
        struct.pack(">I", 0),
        struct.pack(">I", 4) + b"\x80\x04N.",
        struct.pack(">I", 2) + b"[]",
        header(kind="write"),
        header(kind="write", arrays=[["command", "object", [2]]]),
        header(kind="write", arrays=[["command", "float64", [-2]]]),
        header(kind="write", arrays=[["command", "float64", [1 << 40]]]),
        header(kind="write", arrays=[["command", "float64", [2, 2, 2, 2, 2]]]),
        header(kind="write", arrays=[["command", "float64", [2]]]),  # and then nothing
    ],
)
def test_what_is_no_message_ends_the_talk_and_not_the_server(served: Served, data: bytes) -> None:
    address = ("127.0.0.1", served.server.port)
    with socket.create_connection(address, TIMEOUT_S) as connection, contextlib.suppress(OSError):
        connection.sendall(data)  # it may hang up before all is said
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    remote = Remote(served.address, SPEC)
    assert remote.read().time_s >= 0
    remote.close()


@pytest.mark.parametrize("command", [np.zeros(3), np.zeros(0)])
def test_a_command_of_another_length_is_refused(served: Served, command: np.ndarray) -> None:
    remote = Remote(served.address, SPEC)
    with pytest.raises(UserError, match="It has 2"):
        remote.write(command)
    remote.close()


arrays = st.tuples(st.sampled_from(["uint8", "float32", "float64"]), st.lists(st.integers(0, 5), max_size=4)).map(
    lambda found: (np.arange(int(np.prod(found[1]))) % 256).astype(found[0]).reshape(found[1])
)


@given(st.dictionaries(st.sampled_from("abc"), arrays), st.dictionaries(st.sampled_from("xyz"), st.integers()))
@settings(max_examples=50)
def test_messages_come_back_as_they_were(sent: dict[str, np.ndarray], values: dict[str, int]) -> None:
    here, there = socket.socketpair()
    with here, there:
        there.settimeout(TIMEOUT_S)
        wire.send(here, "test", values, **sent)
        kind, found, got = wire.receive(there)
    assert (kind, found) == ("test", values)
    assert got.keys() == sent.keys()
    for name, array in sent.items():
        assert got[name].dtype == array.dtype
        assert np.array_equal(got[name], array)
