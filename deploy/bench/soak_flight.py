"""The controller's process of the soak: flies one flight after the other, with faults between robot and loop.

`python -m deploy.bench.soak_flight BUNDLE ADDRESS FOLDER SEED`. Ends by a signal, or when the robot is gone.
"""

import mmap
import struct
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.drivers.remote import Remote
from deploy.drivers.wire import WireError
from deploy.runtime.controller import Controller, Plan
from deploy.runtime.flight import Tick
from deploy.runtime.loop import run_loop
from deploy.runtime.recorder import FlightLog
from deploy.runtime.safety import Safety
from robot_wm.contracts import config, files
from robot_wm.contracts.bundle import ENCODE_FILE, PLAN_FILE, SPEC_FILE, ControllerSpec
from robot_wm.contracts.embodiment import CommandSpace, Interface
from robot_wm.contracts.robot import Observation
from robot_wm.contracts.safety import Safety as Settings

FAULTS = (
    "frame dropped", "frame delayed", "frame duplicated", "NaN in proprio", "NaN in time", "clock jumped",
    "read raised", "write raised", "planner stalled", "planner raised", "plan of NaN", "flights",
)  # fmt: skip
_TALLY = struct.Struct(f"<{1 + len(FAULTS)}q")  # rows acknowledged, then each fault's count
_CHANCE = 0.01  # of each fault, per tick or plan
_SIDE, _FLIGHT_TICKS = 8, 400
# A slow control rate makes simulated time cheap and a stall of this computer short beside a control period.
_RATE_HZ, _STALL_S = 1.0, 0.05

_ENCODE = f"""<ir_version: 10, opset_import: ["" : 20]>
encode (uint8[1,{_SIDE},{_SIDE},3] frame) => (float[1,3] latent)
<int64[2] axes = {{1, 2}}>
{{
  pixels = Cast<to = 1>(frame)
  latent = ReduceMean<keepdims = 0>(pixels, axes)
}}"""
_PLAN = """<ir_version: 10, opset_import: ["" : 20]>
plan (float[1,2,3] history, float[1,3] goal, float[1,2] proprio, float[1,2] reference, float[1,2,2] warm,
      float[1,1,4,2,2] noise, float[1,1,4,2] pending)
  => (float[1,4,2] command, float[1] cost, float[1] uncertainty, float[1,2,2] next_warm)
<float gain = {1.5}, int64 zero = {0}, int64[1] axis = {1}>
{
  loud = Mul(noise, gain)
  iteration = Gather<axis = 1>(loud, zero)
  command = Gather<axis = 2>(iteration, zero)
  next_warm = Gather<axis = 1>(iteration, zero)
  cost = ReduceSum<keepdims = 0>(goal, axis)
  uncertainty = ReduceSum<keepdims = 0>(proprio, axis)
}"""


def spec(interface: str) -> ControllerSpec:
    """A body of two commands with every limit there is."""
    kind: Interface = "joint_position" if interface == "joint_position" else "joint_velocity"
    order = 2 if kind == "joint_position" else 1
    unit = "rad" if kind == "joint_position" else "rad/s"
    return ControllerSpec(
        schema=1, embodiment="point", embodiment_sha256="0" * 64, camera="front", height=_SIDE, width=_SIDE,
        proprio=("left", "right"),
        command=CommandSpace(kind, ("left", "right"), unit, (-1.0, -0.5), (1.0, 1.5), (0.4, 0.2), 4, _RATE_HZ),
        safety=Settings(
            0.4, max_acceleration=0.15 * _RATE_HZ**order, max_jerk=0.1 * _RATE_HZ ** (order + 1),
            max_frame_age_s=3.5 / _RATE_HZ, max_proprio_age_s=3.5 / _RATE_HZ, max_stall_s=_STALL_S,
        ),
        latent_dim=3, history=2, horizon=2, candidates=4, iterations=1, opset=20, files={}, parity={}, lineage={},
        ahead=1, delay_s=1 / _RATE_HZ,
    )  # fmt: skip


def write_bundle(folder: Path, described: ControllerSpec) -> Path:
    """A bundle whose plans are noise, half of it beyond the limits; returns its folder."""
    import onnx.parser

    folder.mkdir(parents=True)
    for name, text in ((ENCODE_FILE, _ENCODE), (PLAN_FILE, _PLAN)):
        onnx.save(onnx.parser.parse_model(text), folder / name)
    hashes = {name: files.sha256(folder / name) for name in (ENCODE_FILE, PLAN_FILE)}
    files.write_json(folder / SPEC_FILE, config.to_mapping(replace(described, files=hashes)))
    return folder


class Counters:
    """Counts in a file that is mapped into memory: they outlive the process, however it ends."""

    def __init__(self, folder: Path):
        path = folder / "tally"
        files.write_atomic(path, bytes(_TALLY.size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _TALLY.size)
        self._values = np.frombuffer(self._memory, "<i8")

    def add(self, name: str | None = None) -> None:
        """One more of a fault; without a name, one more row acknowledged."""
        self._values[0 if name is None else 1 + FAULTS.index(name)] += 1


def read_tally(folder: Path) -> tuple[int, dict[str, int]]:
    """Rows acknowledged and faults struck in a session."""
    path = folder / "tally"
    acknowledged, *struck = _TALLY.unpack(path.read_bytes() if path.is_file() else bytes(_TALLY.size))
    return acknowledged, dict(zip(FAULTS, struck, strict=True))


class Faulty:
    """A robot seen through a bad cable: it does what it is told, and what comes back is not always so."""

    def __init__(self, robot: Remote, rng: np.random.Generator, counters: Counters):
        self._robot, self._rng, self._counters = robot, rng, counters
        self._before: list[Observation] = []
        self._offset_s = 0.0

    def read(self) -> Observation:
        """An observation of now, or one of those before, or nonsense, or none at all."""
        seen = self._robot.read()
        seen = replace(seen, time_s=seen.time_s + self._offset_s, proprio_time_s=None)
        self._before = [*self._before[-3:], seen]
        if self._strikes("frame dropped"):
            seen = replace(self._before[0], proprio_P=seen.proprio_P)
        if self._strikes("frame delayed"):
            seen = replace(seen, frame_YXC=self._before[0].frame_YXC)
        if self._strikes("frame duplicated"):
            seen = self._before[max(0, len(self._before) - 2)]
        if self._strikes("NaN in proprio"):
            seen = replace(seen, proprio_P=np.full_like(seen.proprio_P, np.nan))
        if self._strikes("NaN in time"):
            seen = replace(seen, time_s=float("nan"))
        if self._rng.random() < 0.2 * _CHANCE:
            self._counters.add("clock jumped")
            self._offset_s += float(self._rng.choice([-1e4, -3.0, 3.0, 1e4]))
        if self._rng.random() < 0.1 * _CHANCE:
            self._counters.add("read raised")
            raise OSError("cable")
        return seen

    def write(self, command_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """As the robot, or an error before anything is sent."""
        if self._rng.random() < 0.1 * _CHANCE:
            self._counters.add("write raised")
            raise OSError("cable")
        return self._robot.write(command_U)

    def now(self) -> float:
        """The robot's clock, as far as it jumped until now."""
        return self._robot.now() + self._offset_s

    def _strikes(self, fault: str) -> bool:
        struck = bool(self._rng.random() < _CHANCE)
        if struck:
            self._counters.add(fault)
        return struck


class Wild(Controller):
    """A controller that stalls, raises, and plans what is no number."""

    def attach(self, rng: np.random.Generator, counters: Counters) -> None:
        """Where its faults come from and are counted."""
        self._rng, self._counters = rng, counters

    def step(self, *given: Any) -> Plan:
        """One plan, or not."""
        chance = self._rng.random()
        if chance < _CHANCE:
            self._counters.add("planner stalled")
            time.sleep(1.2 * _STALL_S)
        elif chance < 1.2 * _CHANCE:
            self._counters.add("planner raised")
            raise ArithmeticError("no plan")
        plan = super().step(*given)
        if 1.2 * _CHANCE <= chance < 2 * _CHANCE:
            self._counters.add("plan of NaN")
            return replace(plan, command_KU=np.full_like(plan.command_KU, np.nan))
        return plan


def fly(bundle: Path, address: str, folder: Path, seed: int) -> None:
    """One flight after the other, until the robot is gone; each from where the robot is, with a log of its own."""
    rng, counters = np.random.default_rng(seed), Counters(folder)
    controller = Wild(bundle, num_threads=1, seed=seed)
    controller.attach(np.random.default_rng(seed + 1), counters)
    controller.set_goal(np.full((_SIDE, _SIDE, 3), 255, np.uint8))
    robot = Remote(address, controller.spec)
    log = FlightLog(folder / "flight", controller.spec)

    def acknowledge(tick: Tick) -> None:
        counters.add()

    while True:
        counters.add("flights")
        log.begin()
        safety = Safety(controller.spec)
        try:
            run_loop(
                controller, Faulty(robot, rng, counters), _FLIGHT_TICKS, safety, log, acknowledge,
                reference_U=robot.in_force_U, in_worker=bool(rng.random() < 0.7), at_end="slow_stop",
            )  # fmt: skip
        except WireError:  # whoever served the robot is gone, and nothing is left to fly
            return
        except OSError:  # a fault of the cable: the next flight may go better
            pass
        log.close()
        robot.in_force_U = safety.limits.in_force_U


if __name__ == "__main__":
    fly(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
