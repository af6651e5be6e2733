"""What a body is asked to do: start, goal image, and the true state that judges the outcome."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.errors import UserError
from sims.behaviours import babble
from sims.fetch import MAX_EPISODE_STEPS, FetchSimulation
from sims.simulation import Simulation

_TRIES = 20  # draws per wanted pair before the task counts as impossible
_GOAL_ROAM_S, _GOAL_REST_S = (1.0, 3.0), 0.6  # how a body without a controller of its own comes to a goal pose
_DRIVE_STEPS, _DRIVE_S = 60, 0.08  # proportional control of a gripper: time constant [s]
_GOAL_STREAM = 1
_ELSEWHERE_M = np.array([20.0, 20.0, 0.1])  # where a block waits while the gripper takes its place in a goal image
_TOUCH_M = np.array([0.0395, 0.041])  # from block to gripper when they touch along x and y, and a millimetre
_BEHIND_WEIGHT = 0.3  # of the hand's way to the far side of the block, against the block's way to its goal


@dataclass(frozen=True)
class Pair:
    """A start and a goal.

    Attributes:
        seed: both follow from it.
        start_state: for `Simulation.restore`.
        goal_position_m: of what the task is about (end effector or object) in the world, (3,); for judges and oracles.
        goal_frame: what the camera sees when it is there, (Y, X, 3) uint8.
        start_distance_m: from there to the goal at the start.
    """

    seed: int
    start_state: NDArray[np.float64]
    goal_position_m: NDArray[np.float64]
    goal_frame: NDArray[np.uint8]
    start_distance_m: float


class Task(ABC):
    """Pairs of start and goal for one simulated body, and the judge.

    Attributes:
        name: of the task.
        threshold_m: closer than this is a success.
        max_steps: control steps of an episode.
    """

    name: str

    def __init__(self, simulation: Simulation, threshold_m: float = 0.05, max_steps: int = MAX_EPISODE_STEPS):
        self.simulation = simulation
        self.threshold_m = simulation.threshold_m if isinstance(simulation, FetchSimulation) else threshold_m
        self.max_steps = max_steps

    def pairs(self, num: int, seed: int) -> list[Pair]:
        """The first `num` pairs from `seed` on that are not solved at their start.

        Raises:
            UserError: too few, because the body hardly moves.
        """
        found: list[Pair] = []
        for attempt in range(_TRIES * max(num, 1)):
            if len(found) == num:
                return found
            pair = self._pair(seed + attempt)
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
        return float(np.linalg.norm(self.achieved() - pair.goal_position_m))

    def success(self, pair: Pair) -> bool:
        """The Fetch environments' own criterion, used for every body: the distance is below the threshold now."""
        return self.distance_m(pair) < self.threshold_m

    @abstractmethod
    def achieved(self) -> NDArray[np.float64]:
        """Where that is now which the task is about [m], (3,)."""

    @abstractmethod
    def shortfall(self, points_NKP3: NDArray[np.float64], pair: Pair) -> NDArray[np.float64]:
        """What is left to do in states foretold by `Simulation.rollout` [m], (N, K, D): an oracle makes its norm small."""

    @abstractmethod
    def _goal(self, seed: int) -> NDArray[np.float64]:
        """Bring the body, just reset, into a state that shows the goal; returns the goal's position [m], (3,)."""

    def _pair(self, seed: int) -> Pair:
        simulation = self.simulation
        simulation.reset(seed)
        start_state, start_m = simulation.state(), self.achieved()
        goal_m = self._goal(seed)
        frame = simulation.frame()
        simulation.restore(start_state)
        return Pair(seed, start_state, goal_m, frame, float(np.linalg.norm(goal_m - start_m)))


class ReachTask(Task):
    """Bring the end effector to where it was when the goal image was taken.

    On FetchReach-v4 the goals, the 50 steps and the criterion are the environment's own. For any other body a goal is
    a pose that it has come to by moving about and holding still, so that it can be reached.
    """

    name = "reach"

    def achieved(self) -> NDArray[np.float64]:
        return self.simulation.end_effector()

    def shortfall(self, points_NKP3: NDArray[np.float64], pair: Pair) -> NDArray[np.float64]:
        return points_NKP3[:, :, 0] - pair.goal_position_m

    def _goal(self, seed: int) -> NDArray[np.float64]:
        simulation = self.simulation
        if isinstance(simulation, FetchSimulation) and not simulation.has_object:
            goal_m = simulation.goal_m
            _drive(simulation, goal_m)
            return goal_m
        _roam(simulation, np.random.default_rng([seed, _GOAL_STREAM]))
        return simulation.end_effector()


class PushTask(Task):
    """Push the block of FetchPush-v4 to where it was when the goal image was taken: its starts, goals and criterion.

    The goal image shows the block at the goal, turned as it started, and the gripper at rest where a straight push
    leaves it: behind the block as seen from the block's start, touching it.
    """

    name = "push"

    def __init__(self, simulation: Simulation):
        if not isinstance(simulation, FetchSimulation) or not simulation.has_object:
            raise UserError(
                f"task push: {simulation.embodiment.name} has no object", "Give a body that has one: fetch_push"
            )
        super().__init__(simulation)
        self._fetch = simulation

    def achieved(self) -> NDArray[np.float64]:
        return self.simulation.object()

    def shortfall(self, points_NKP3: NDArray[np.float64], pair: Pair) -> NDArray[np.float64]:
        """The block's way to the goal, and a share of the hand's way to the block's far side while it has one to go."""
        hand, block = points_NKP3[:, :, 0], points_NKP3[:, :, 1]
        left = block - pair.goal_position_m
        distance = np.linalg.norm(left, axis=-1, keepdims=True)
        behind = block + _touching(left)
        weight = _BEHIND_WEIGHT * np.minimum(distance / self.threshold_m, 1.0)
        return np.concatenate([left, weight * (hand - behind)], axis=-1)

    def _goal(self, seed: int) -> NDArray[np.float64]:
        fetch, goal_m = self._fetch, self._fetch.goal_m
        place = goal_m + _touching(fetch.object() - goal_m)
        fetch.place_object(_ELSEWHERE_M)
        _drive(fetch, place)
        fetch.place_object(goal_m)
        return goal_m


TASKS: dict[str, type[Task]] = {"reach": ReachTask, "push": PushTask}
_OWN = {"FetchReach-v4": "reach", "FetchPush-v4": "push"}  # what an environment is made for


def make(simulation: Simulation, name: str | None = None) -> Task:
    """The task of that name for this body; None: the one of its environment, or reach.

    Raises:
        UserError: no such task, or one that is impossible for this body.
    """
    name = name or _OWN.get(simulation.embodiment.environment or "", "reach")
    if name not in TASKS:
        raise UserError(f"task {name!r} is not known", f"Choose among: {', '.join(TASKS)}")
    return TASKS[name](simulation)


def _touching(away_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the middle of the block to a gripper that touches it on the side that lies along `away_m`, (..., 3)."""
    flat = away_m * [1.0, 1.0, 0.0]
    unit = flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-6)
    reach = np.min(_TOUCH_M / np.maximum(np.abs(unit[..., :2]), 1e-6), axis=-1, keepdims=True)
    return unit * np.minimum(reach, 0.1)


def _drive(simulation: FetchSimulation, goal_m: NDArray[np.float64]) -> None:
    """Take the gripper to a point as near as the arm gets, and let it rest there."""
    for _ in range(_DRIVE_STEPS):
        velocity_m_s = (goal_m - simulation.end_effector()) / _DRIVE_S
        simulation.step(np.append(velocity_m_s, np.zeros(simulation.command.dim - 3)))


def _roam(simulation: Simulation, rng: np.random.Generator) -> None:
    """Move about, then hold still."""
    rate_hz = simulation.embodiment.control_rate_hz
    for command_U in babble(simulation, round(rng.uniform(*_GOAL_ROAM_S) * rate_hz), rng):
        simulation.step(command_U)
    for _ in range(round(_GOAL_REST_S * rate_hz)):
        simulation.step(simulation.command.hold(simulation.reference()))
