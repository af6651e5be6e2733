"""calibrate source=robot: a dry run by default, safe commands, a log that survives, and the calibration of it."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.adapter_fit import FitConfig
from calibration.body_model import BodyModelConfig
from calibration.head_fit import HeadFitConfig
from calibration.live import TwinConfig
from calibration.reading_fit import ReadingConfig
from deploy.babbler import Babbler
from deploy.drivers.remote import Remote
from deploy.drivers.server import Server
from deploy.drivers.twin_process import HostedTwin, TwinSettings
from deploy.live_log import LiveConfig, record_robot
from deploy.runtime.recorder import FlightLog
from deploy.stages.calibrate import LiveCalibrateConfig, calibrate
from robot_wm.contracts.dataset import ACTION, STATE
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import read_run
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.models.adapter import AdapterConfig
from sims.robots import load
from tests.feetech_bus import PRESENT, TORQUE, SerialBus
from tests.feetech_bus import bus as bus
from tests.feetech_bus import calibration as calibration
from tests.small_bodies import fetch, planar_arm
from tests.tiny_pretrained import write_tiny_pretrained

TRANSITIONS, JOIN_S = 8, 20.0
_RAD_PER_TICK = 2 * np.pi / 4096


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Embodiment:
    return planar_arm(tmp_path_factory.mktemp("arm"), control_rate_hz=50)


@contextlib.contextmanager
def served(body: Embodiment) -> Iterator[tuple[LiveConfig, Server]]:
    """A twin behind a socket in real time, and the server whose monitor judges what arrives."""
    over, listening, found = threading.Event(), threading.Event(), list[Server]()

    def serve() -> None:
        hosted = HostedTwin(TwinSettings(body))
        try:
            found.append(Server(hosted, hosted.described, body.safety))
            listening.set()
            found[0].serve(over.is_set)
        finally:
            hosted.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        assert listening.wait(JOIN_S)
        yield LiveConfig("remote", True, f"127.0.0.1:{found[0].port}"), found[0]
    finally:
        over.set()
        thread.join(JOIN_S)


def record(out: Path, body: Embodiment, live: LiveConfig, transitions: int = TRANSITIONS) -> Path | None:
    return record_robot(out, body, live, TwinConfig(), transitions, 0)


@pytest.mark.parametrize("interface", ["joint_position", "joint_velocity"])
def test_a_served_robot_is_driven_within_its_limits(interface: str, tmp_path: Path) -> None:
    body = planar_arm(tmp_path, interface, control_rate_hz=50)
    with served(body) as (live, server):
        found = record(tmp_path / "runs", body, live)
        assert found is not None
        again = record(tmp_path / "runs", body, live)
    assert again == found and read_run(found, "record").metrics["transitions"] >= TRANSITIONS
    columns = LeRobotDataset(found / "dataset").columns(0)
    assert np.ptp(columns[STATE][:, :2], axis=0).min() > 0.02, "it moves"
    assert server.monitor.num_commands >= TRANSITIONS * body.frame_skip
    assert server.monitor.breaches == []


def test_without_execute_nothing_is_sent(
    arm: Embodiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deploy.live_log._DRY_S", 0.5)
    asked, ask = set[str](), Remote._ask
    monkeypatch.setattr(
        Remote, "_ask", lambda self, kind, *more, **named: (asked.add(kind), ask(self, kind, *more, **named))[1]
    )
    with served(arm) as (live, _):
        assert record(tmp_path / "runs", arm, replace(live, execute=False)) is None
    assert asked == {"hello", "read", "now"}
    assert "shoulder" in (said := capsys.readouterr().err) and "live.execute=true" in said
    assert not (tmp_path / "runs").exists()


def test_an_interrupt_keeps_what_was_acknowledged_and_the_same_command_goes_on(
    arm: Embodiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    append, rows = FlightLog.append, 0

    def interrupt(*arguments: object, **named: object) -> None:
        nonlocal rows
        append(*arguments, **named)  # type: ignore[arg-type]
        rows += 1
        if rows == 18:
            raise KeyboardInterrupt

    monkeypatch.setattr(FlightLog, "append", interrupt)
    with served(arm) as (live, server):
        with pytest.raises(KeyboardInterrupt):
            record(tmp_path, arm, live)
        [left] = tmp_path.glob("record/*/dataset")
        before = LeRobotDataset(left).columns(0)[ACTION]
        assert len(before) == 18
        assert "kept 4 of 8 transitions" in capsys.readouterr().err
        found = record(tmp_path, arm, live)
        assert found == left.parent
        assert server.monitor.breaches == []
    log = LeRobotDataset(left)
    assert log.num_episodes == 2 and np.array_equal(log.columns(0)[ACTION], before), "no row was lost"
    assert log.episode_length(1) >= 4 * arm.frame_skip + 1


def test_a_robot_at_the_edge_of_its_bounds_stops_slowly_and_says_why(arm: Embodiment, tmp_path: Path) -> None:
    body = replace(arm, safety=replace(arm.safety, bounds={"shoulder_position": (-0.2, 0.2)}))
    with served(body) as (live, server):
        with pytest.raises(UserError, match=r"out_of_bounds ended the motion.*[Mm]ove it back inside"):
            record(tmp_path, body, live, 200)
        assert server.monitor.breaches == []
    [log] = tmp_path.glob("record/*/dataset")
    actions = LeRobotDataset(log).columns(0)[ACTION]
    assert len(actions) > 3 and np.ptp(actions[-1:], axis=0).max() == 0


class SeenArm:
    """In the camera's place: a rendering of the servos as the bus has them."""

    def __init__(self, bus: SerialBus, body: Embodiment):
        self._bus, self._simulation = bus, load(body)
        self._simulation.reset(0)
        self.blind = False
        self._taken_s = 0.0

    def newest(self) -> tuple[NDArray[np.uint8], float]:
        import time

        ticks = [self._bus.servos[number].get(PRESENT) for number in (3, 5)]
        self._simulation.pose((np.array(ticks) - [2048, 1948]) * [1, -1] * _RAD_PER_TICK)
        self._taken_s = self._taken_s if self.blind else time.monotonic()
        return self._simulation.frame(), self._taken_s

    def close(self) -> None:
        self._simulation.close()


@pytest.fixture
def bus_arm(tmp_path: Path, bus: SerialBus, calibration: Path, monkeypatch: pytest.MonkeyPatch) -> tuple:
    body = planar_arm(tmp_path, control_rate_hz=50, safety={"max_step": 0.05, "max_frame_age_s": 0.2})
    mjcf = Path(body.mjcf.path)
    mjcf.write_text(mjcf.read_text().replace("shoulder", "left").replace("elbow", "right"))
    seen = SeenArm(bus, body)
    monkeypatch.setattr("deploy.drivers.camera.Camera", lambda *_: seen)
    return body, LiveConfig("feetech", True, port="/dev/none", calibration=str(calibration)), seen


def test_an_arm_on_a_bus_is_driven_in_small_steps(bus_arm: tuple, bus: SerialBus, tmp_path: Path) -> None:
    body, live, _ = bus_arm
    found = record(tmp_path / "runs", body, live)
    assert found is not None
    assert LeRobotDataset(found / "dataset").episode_length(0) >= TRANSITIONS * body.frame_skip
    goals = np.array([[goal[3], goal[5]] for goal in bus.goals])
    assert np.ptp(goals, axis=0).min() > 10
    assert np.abs(np.diff(goals, axis=0)).max() <= 0.05 / _RAD_PER_TICK + 1
    replugged = replace(live, port="/dev/other", camera="1")
    assert record(tmp_path / "runs", body, replugged) == found, "the same arm at another port"


def test_a_dry_arm_stays_limp(bus_arm: tuple, bus: SerialBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.live_log._DRY_S", 0.5)
    body, live, _ = bus_arm
    assert record(tmp_path / "runs", body, replace(live, execute=False)) is None
    assert bus.goals == [] and not any(servo.registers[TORQUE] for servo in bus.servos.values())


def test_a_camera_that_stopped_is_named(bus_arm: tuple, tmp_path: Path) -> None:
    body, live, seen = bus_arm
    seen.blind = True
    with pytest.raises(UserError, match=r"stale_frame held the robot.*camera gives no new pictures"):
        record(tmp_path / "runs", body, live)


@pytest.mark.parametrize(
    ("live", "words"),
    [
        (LiveConfig("replay", True), "no robot that moves.*data=LOG"),
        (LiveConfig("twin", True), "no robot that moves.*source=twin"),
        (LiveConfig("feetech", True), "no live.calibration"),
        (LiveConfig("remote", True), "no live.address"),
        (LiveConfig("remote", True, "127.0.0.1:1"), "no robot answers"),
    ],
)
def test_what_cannot_be_driven_is_refused(live: LiveConfig, words: str, arm: Embodiment, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        record(tmp_path / "runs", arm, live)


def test_a_body_that_could_fall_is_not_driven(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="driven by torques, and may fall"):
        Babbler(planar_arm(tmp_path, "joint_torque"))


@pytest.mark.slow
def test_a_hand_whose_joints_are_not_measured_is_driven_around_its_home(tmp_path: Path) -> None:
    body = fetch("fetch")
    with served(body) as (live, server):
        found = record(tmp_path, body, live, 12)
        assert found is not None
        assert server.monitor.breaches == []
    places = LeRobotDataset(found / "dataset").columns(0)[STATE][:, :3]
    assert 0.02 < np.ptp(places, axis=0).max() < 0.5


@pytest.mark.slow
def test_one_command_drives_a_twin_in_its_own_process_and_calibrates(arm: Embodiment, tmp_path: Path) -> None:
    config = LiveCalibrateConfig(
        arm, str(write_tiny_pretrained(tmp_path / "model")), source="robot", live=LiveConfig("twin_process", True),
        twin=TwinConfig(severity=0.5), transitions=60, pretrained=False, adapter=AdapterConfig(8, 4),
        fit=FitConfig(steps=4, batch=8, encoder_steps=1, encoder_batch=4), curve_steps=0,
        reading=ReadingConfig(steps=0), head=HeadFitConfig(steps=0), body=BodyModelConfig(identify=False),
        validation=0.4, cache=str(tmp_path / "cache"), out=str(tmp_path / "runs"),
    )  # fmt: skip
    run = calibrate(config)
    assert run is not None
    [log] = (tmp_path / "runs" / "record").iterdir()
    manifest = read_run(run, "calibrate")
    assert Path(manifest.inputs["data"].path) == log and manifest.config["data"] == str(log)
    assert json.loads((log / "truth.json").read_text())["delay_s"] > 0
    assert calibrate(config) == run
