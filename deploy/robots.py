"""Which robot a run flies, and from where to which goal: one generator of flights per robot."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from deploy.drivers.remote import Remote
from deploy.drivers.replay import Replay
from deploy.drivers.twin import open_twin
from deploy.drivers.twin_process import TwinSettings, spawned
from deploy.goals import picture
from deploy.runtime.recorder import read_episode
from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Robot
from robot_wm.contracts.run import dataset_folder
from robot_wm.data.lerobot import LeRobotDataset
from sims import tasks
from sims.fetch import MAX_EPISODE_STEPS

if TYPE_CHECKING:
    from deploy.drivers.feetech import Feetech

RobotName = Literal["twin", "twin_process", "remote", "replay", "feetech"]
AtEnd = Literal["slow_stop", "park"]
REAL_TIME: tuple[RobotName, ...] = ("twin_process", "remote", "feetech")

# Flight logs go back into training, so their goals lie far from those that an evaluation keeps to itself.
FIRST_SEED, SEED_STRIDE = 1_000_000_000, 10_000


@dataclass(frozen=True)
class Flight:
    """One flight to be flown, with the robot in place when it is yielded.

    Attributes:
        number: counted from 0.
        seed: of the sampling noise.
        robot: the robot.
        goal_frame: what the world should come to look like.
        num_ticks: control periods.
        reference_U: the command in force [the command's unit].
        judge: what came of it, from the file of its log; asked for when it has ended.
    """

    number: int
    seed: int
    robot: Robot
    goal_frame: NDArray[np.uint8]
    num_ticks: int
    reference_U: NDArray[np.float64]
    judge: Callable[[Path], dict[str, Any]]


@dataclass(frozen=True)
class Arm:
    """An arm on a serial bus, and what it is to do.

    Attributes:
        port: of the bus.
        calibration: JSON file that lerobot-calibrate wrote for this arm.
        camera: number, path or URL of the camera that the model sees through.
        goal: picture of how the world should come to look, from the same camera.
        seconds: of a flight.
    """

    port: str = "/dev/ttyACM0"
    calibration: str | None = None
    camera: int | str = "0"
    goal: str | None = None
    seconds: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= 3600:
            raise UserError(f"arm.seconds is {self.seconds}", "Give more than 0, at most 3600")


@dataclass(frozen=True)
class Choice:
    """What a run asks for; the attributes are those of RunConfig.

    Attributes:
        todo: numbers of the flights that are still to be flown.
        folder: of the run, for what robots have to say.
    """

    embodiment: Embodiment
    spec: ControllerSpec
    todo: tuple[int, ...]
    folder: Path
    log: str | None
    address: str | None
    arm: Arm
    execute: bool
    severity: float
    preset: str
    seed: int

    @property
    def first_seed(self) -> int:
        """Seed of flight 0."""
        return FIRST_SEED + SEED_STRIDE * self.seed


def twin(choice: Choice) -> Generator[Flight, None, None]:
    """A simulation in this process, in simulated time; one goal image per flight."""
    opened = open_twin(choice.embodiment, choice.spec, choice.severity, choice.seed, choice.preset)
    try:
        opened.truth.save(choice.folder)  # for judges; the flight log knows nothing of it
        task = tasks.make(opened.simulation)
        pairs = task.pairs(max(choice.todo, default=-1) + 1, choice.first_seed)
        for number in choice.todo:
            pair = pairs[number]
            task.start(pair)
            opened.reset()

            def judge(_: Path, pair: Any = pair) -> dict[str, Any]:
                return {
                    "success": task.success(pair),
                    "distance_m": task.distance_m(pair),
                    "pair_seed": pair.seed,
                }

            reference_U = opened.simulation.reference()
            yield Flight(number, pair.seed, opened, pair.goal_frame, task.max_steps, reference_U, judge)
    finally:
        opened.close()
        opened.simulation.close()


def twin_process(choice: Choice) -> Generator[Flight, None, None]:
    """The same in a process of its own and in real time."""
    settings = TwinSettings(choice.embodiment, choice.severity, choice.preset, choice.seed, choice.first_seed)
    with spawned(settings, choice.folder) as address:
        yield from _served(address, choice)


def remote(choice: Choice) -> Generator[Flight, None, None]:
    """A robot that somebody serves on this computer."""
    assert choice.address is not None
    yield from _served(choice.address, choice)


def replay(choice: Choice) -> Generator[Flight, None, None]:
    """One logged episode after the other, whose own commands stay in force; the goal is how each ended."""
    dataset = LeRobotDataset(dataset_folder(Path(choice.log or "")))
    if dataset.num_episodes <= max(choice.todo, default=0):
        raise UserError(
            f"episodes is {max(choice.todo) + 1}", f"{dataset.path} has {dataset.num_episodes}; give at most that"
        )
    for number in choice.todo:
        robot = Replay(dataset, number, choice.spec)
        seed = choice.first_seed + number
        yield Flight(number, seed, robot, robot.goal_frame, robot.length, robot.first_command_U, _difference)


def feetech(choice: Choice) -> Generator[Flight, None, None]:
    """A real arm, from where it stands; in a dry run it is read and not moved."""
    arm, spec = choice.arm, choice.spec
    goal = picture(Path(arm.goal or ""), spec)
    num_ticks = round(arm.seconds * spec.command.control_rate_hz)
    with on_bus(arm, spec, choice.execute) as robot:
        for number in choice.todo:
            yield Flight(number, choice.first_seed + number, robot, goal, num_ticks, robot.in_force(), lambda _: {})


@contextlib.contextmanager
def on_bus(arm: Arm, spec: ControllerSpec, execute: bool) -> Iterator["Feetech"]:
    """The arm with its camera, both closed at the end."""
    from deploy.drivers.camera import Camera
    from deploy.drivers.feetech import Feetech, read_calibration

    motors = read_calibration(Path(arm.calibration or ""), spec.command.names)
    camera = Camera(str(arm.camera), spec.height, spec.width)
    try:
        robot = Feetech(arm.port, motors, camera, spec, execute)
    except BaseException:
        camera.close()
        raise
    with contextlib.closing(robot):
        yield robot


def _served(address: str, choice: Choice) -> Generator[Flight, None, None]:
    with contextlib.closing(Remote(address, choice.spec)) as robot:
        for number in choice.todo:
            goal = robot.start(number)
            seed = choice.first_seed + number
            yield Flight(number, seed, robot, goal, MAX_EPISODE_STEPS, robot.in_force_U, lambda _: robot.outcome())


def _difference(path: Path) -> dict[str, Any]:
    """How far the controller's commands were from those of the log [the command's unit]."""
    rows = read_episode(path).rows_L
    return {"difference_from_log": float(np.abs(rows["command"] - rows["action"]).mean())}
