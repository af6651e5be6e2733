"""Pairs of start and goal, and the judge: what all tasks have in common."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.errors import UserError
from sims.fetch import MAX_EPISODE_STEPS, FetchSimulation
from sims.simulation import Simulation

_TRIES = 20  # draws per wanted pair before the task counts as impossible


@dataclass(frozen=True)
class Pair:
    """A start and a goal.

    Attributes:
        seed: both follow from it.
        start_state: for `Simulation.restore`.
        goal_position_m: of what the task is about (end effector or object) in the world, (3,), or of two hands one
            after the other, (6,); for judges and oracles.
        goal_frame: what the camera sees when it is there, (Y, X, 3) uint8.
        start_distance_m: from there to the goal at the start.
        goal_proprio_P: what the body measures of itself in that picture, (P,); NaN of a pair without pictures.
        goal_hand_m: where the end effector is in that picture, (3,); NaN likewise.
    """

    seed: int
    start_state: NDArray[np.float64]
    goal_position_m: NDArray[np.float64]
    goal_frame: NDArray[np.uint8]
    start_distance_m: float
    goal_proprio_P: NDArray[np.float32]
    goal_hand_m: NDArray[np.float64]


class Task(ABC):
    """Pairs of start and goal for one simulated body, and the judge.

    Attributes:
        name: of the task.
        threshold_m: closer than this is a success.
        max_steps: control steps of an episode.
        search: horizon in model steps, candidates and iterations with which the oracle solves nearly all pairs.
    """

    name: str
    search = (1, 16, 2)

    def __init__(self, simulation: Simulation, threshold_m: float = 0.05, max_steps: int = MAX_EPISODE_STEPS):
        self.simulation = simulation
        self.threshold_m = simulation.threshold_m if isinstance(simulation, FetchSimulation) else threshold_m
        self.max_steps = max_steps

    def pairs(self, num: int, seed: int, pictures: bool = True) -> list[Pair]:
        """The first `num` pairs from `seed` on that are not solved at their start.

        Without pictures their goal frames are black, and come sooner.

        Raises:
            UserError: too few, because the body hardly moves.
        """
        found: list[Pair] = []
        for attempt in range(_TRIES * max(num, 1)):
            if len(found) == num:
                return found
            pair = self._pair(seed + attempt, pictures)
            if pair.start_distance_m >= self.threshold_m:
                found.append(pair)
        if len(found) == num:
            return found
        body = self.simulation.embodiment
        raise UserError(
            f"{body.name} finds only {len(found)} of {num} goals that lie {self.threshold_m:g} m from its start",
            f"Raise safety.max_step (now {body.safety.max_step:g}), or name another end_effector",
        )

    def start(self, pair: Pair) -> None:
        """Put the body where the pair starts, from whatever it was doing."""
        self.simulation.reset(pair.seed)
        self.simulation.restore(pair.start_state)

    def distance_m(self, pair: Pair) -> float:
        """From what the task is about to the goal [m], in truth."""
        return float(distance_m(self.achieved(), pair.goal_position_m))

    def success(self, pair: Pair) -> bool:
        """The Fetch environments' own criterion, used for every body: the distance is below the threshold now."""
        return self.distance_m(pair) < self.threshold_m

    @abstractmethod
    def achieved(self) -> NDArray[np.float64]:
        """Where that is now which the task is about [m], (3,) or (6,)."""

    @abstractmethod
    def shortfall(self, points_NKP3: NDArray[np.float64], pair: Pair) -> NDArray[np.float64]:
        """What is left to do in states foretold by `Simulation.rollout` [m], (N, K, J, 3): ways yet to go.

        An oracle makes the sum of their lengths small.
        """

    @abstractmethod
    def _goal(self, seed: int) -> NDArray[np.float64]:
        """The goal [m], (3,) or (6,), of the body just reset; the body may be moved to find it."""

    def _show(self, goal_m: NDArray[np.float64]) -> None:  # noqa: B027
        """Bring the body into a state that shows the goal, where `_goal` has not."""

    def _pair(self, seed: int, picture: bool) -> Pair:
        simulation = self.simulation
        simulation.reset(seed)
        start_state, start_m = simulation.state(), self.achieved()
        goal_m = self._goal(seed)
        camera = simulation.camera
        frame = np.zeros((camera.height, camera.width, 3), np.uint8)
        proprio_P, hand_m = np.full_like(simulation.proprio(), np.nan), np.full(3, np.nan)
        if picture:
            self._show(goal_m)
            frame, proprio_P, hand_m = simulation.frame(), simulation.proprio(), simulation.end_effector()
        simulation.restore(start_state)
        return Pair(seed, start_state, goal_m, frame, float(distance_m(start_m, goal_m)), proprio_P, hand_m)


def distance_m(achieved_m: NDArray[np.float64], goal_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Between what is and what should be [m], (..., 3) to (...); of two hands, (..., 6), the one further away."""
    ways = (achieved_m - goal_m).reshape(*np.shape(achieved_m)[:-1], -1, 3)
    return np.asarray(np.linalg.norm(ways, axis=-1).max(-1))
