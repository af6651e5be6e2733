"""One attempt: a decider in the runtime loop on the twin, watched from outside with the truth that it never sees."""

from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from deploy.evaluation import footage
from deploy.evaluation.references import Blindfold, Decider
from deploy.runtime.controller import Controller
from deploy.runtime.flight import Tick
from deploy.runtime.loop import run_loop
from deploy.runtime.safety import Safety
from robot_wm.contracts.robot import Robot
from robot_wm.evaluation.results import Episode
from sims.pairs import Pair, Task


class Simulated(Protocol):
    """What filming and judging need of a simulation."""

    def reference(self) -> NDArray[np.float64]:
        """The command in force, (U,)."""
        ...

    def state(self) -> NDArray[np.float64]:
        """The whole state."""
        ...

    def restore(self, state: NDArray[np.float64]) -> None:
        """Back to a state."""
        ...

    def frame(self, height: int | None = None, width: int | None = None) -> NDArray[np.uint8]:
        """What the camera sees."""
        ...


class TwinRobot(Robot, Protocol):
    """A live robot that can be put back to a start."""

    def reset(self) -> None:
        """Drop what is under way (delayed frames, queued commands) after the simulation was put elsewhere."""
        ...


@dataclass(frozen=True)
class Stage:
    """Where attempts take place.

    Attributes:
        simulation: the body.
        twin: the same body as a live robot.
        task: over the same simulation.
    """

    simulation: Simulated
    twin: TwinRobot
    task: Task


@dataclass(frozen=True)
class Attempt:
    """What happened, and the states to film it from: one at the start and one after every tick."""

    episode: Episode
    states: tuple[NDArray[np.float64], ...]


def attempt(stage: Stage, decider: Decider, pair: Pair, sees: bool) -> Attempt:
    """Let `decider` try one pair; the loop, the guards and the number of ticks are the same for everyone.

    Args:
        stage: where.
        decider: who.
        pair: start and goal.
        sees: whether the decider looks at frames; if so, its latencies are kept.
    """
    task, simulation = stage.task, stage.simulation
    task.start(pair)
    stage.twin.reset()
    distances_m = [task.distance_m(pair)]
    successes = []
    states = [simulation.state()]

    def watch(_: Tick) -> None:
        distances_m.append(task.distance_m(pair))
        successes.append(task.success(pair))
        states.append(simulation.state())

    decider.set_goal(pair.goal_frame)
    reference_U = simulation.reference()
    decider.reset(reference_U, seed=pair.seed)
    safety = Safety(decider.spec, sees)
    robot = stage.twin if sees else Blindfold(stage.twin, stage.twin.read())
    done = run_loop(cast(Controller, decider), robot, task.max_steps, safety, on_step=watch, reference_U=reference_U)
    episode = Episode(
        pair_seed=pair.seed,
        distances_m=tuple(float(d) for d in distances_m),
        success_last=bool(successes[-1]),
        success_any=bool(any(successes)),
        latencies_s=tuple(float(s) for s in done.latencies_s) if sees else (),
        guards={name: int(count) for name, count in done.interventions.items()},
    )
    return Attempt(episode, tuple(states))


def film(stage: Stage, found: Attempt, pair: Pair, tick_s: float, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Frames of an attempt at the control rate, (T, Y, X, 3); the camera at `size` (height, width)."""
    threshold_m = stage.task.threshold_m
    frames = []
    for tick, (state, distance_m) in enumerate(zip(found.states, found.episode.distances_m, strict=True)):
        stage.simulation.restore(state)
        last = tick == len(found.states) - 1
        reached = found.episode.success_last if last else distance_m < threshold_m
        camera = stage.simulation.frame(*size)
        frames.append(footage.compose(camera, pair.goal_frame, distance_m, tick * tick_s, reached))
    return footage.linger(frames, round(1 / tick_s))
