"""What a controller is measured against. Each takes a controller's place in the runtime loop, behind the same guards.

None of them looks at the goal image: random and hold ignore it, and the oracle knows where it was taken.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.controller import Plan
from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.robot import Observation, Robot

NAMES = ("random", "hold", "oracle")
Chunk = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class Decider(Protocol):
    """The part of a Controller that the runtime loop uses; `reference_U` is the command in force, (U,)."""

    spec: ControllerSpec
    reference_U: NDArray[np.float64]

    def set_goal(self, frame_YXC: NDArray[np.uint8]) -> None:
        """The goal image."""
        ...

    def reset(self, reference_U: NDArray[np.float64] | None = None, seed: int | None = None) -> None:
        """Forget the episode before."""
        ...

    def sent(self, command_U: NDArray[np.float64]) -> None:
        """What the robot was really sent."""
        ...

    def step(self, frame_YXC: NDArray[np.uint8], proprio_P: NDArray[np.float32]) -> Plan:
        """The next chunk of commands."""
        ...


class Reference:
    """A controller without eyes: `choose` turns the command in force, (U,), into the next chunk, (K, U)."""

    def __init__(self, spec: ControllerSpec, choose: Chunk):
        self.spec = spec
        self._choose = choose
        self.reference_U = spec.command.hold(np.zeros(spec.command.dim))

    def set_goal(self, frame_YXC: NDArray[np.uint8]) -> None:
        """Ignored."""

    def reset(self, reference_U: NDArray[np.float64] | None = None, seed: int | None = None) -> None:
        """Take over the command in force."""
        if reference_U is not None:
            self.reference_U = np.asarray(reference_U, dtype=np.float64)

    def sent(self, command_U: NDArray[np.float64]) -> None:
        """Take over the command in force."""
        self.reference_U = np.asarray(command_U, dtype=np.float64)

    def step(self, frame_YXC: NDArray[np.uint8], proprio_P: NDArray[np.float32]) -> Plan:
        """The next chunk, without a look at frame or proprio."""
        chunk_KU = self._choose(self.reference_U)
        return Plan(chunk_KU, 0.0, 0.0, 0.0, 0.0, np.zeros(0, dtype=np.float32))


class Blindfold:
    """A robot whose camera is not rendered: for those who never look, pictures would be most of the time spent."""

    def __init__(self, robot: Robot, first: Observation):
        self._robot, self._first = robot, first

    def read(self) -> Observation:
        """The first frame and proprio again, under the present time."""
        return replace(self._first, time_s=self._robot.now())

    def write(self, command_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """As the robot itself."""
        return self._robot.write(command_U)

    def now(self) -> float:
        """As the robot itself."""
        return self._robot.now()


def hold(spec: ControllerSpec) -> Reference:
    """Stays where it is."""
    space = spec.command
    return Reference(spec, lambda reference_U: np.tile(space.hold(reference_U), (space.frame_skip, 1)))


def random(spec: ControllerSpec, rng: np.random.Generator) -> Reference:
    """Plans drawn uniformly from those that the planner searches among: one row per model step, in [-1, 1]."""
    space = spec.command

    def choose(reference_U: NDArray[np.float64]) -> NDArray[np.float64]:
        plan_U = rng.uniform(-1, 1, space.dim)
        return space.denormalize(np.tile(plan_U, (space.frame_skip, 1)), reference_U)

    return Reference(spec, choose)


@dataclass(frozen=True)
class OracleConfig:
    """Size of the oracle's search in the true dynamics; 0: what the task needs.

    Attributes:
        horizon: model steps ahead.
        candidates: plans per iteration.
        iterations: of the cross-entropy method.
    """

    horizon: int = 0
    candidates: int = 0
    iterations: int = 0
