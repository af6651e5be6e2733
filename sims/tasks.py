"""What a body is asked to do: reach with one hand or two, push, pick and place."""

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.errors import UserError
from sims.behaviours import babble
from sims.fetch import FetchSimulation
from sims.pairs import Pair, Task
from sims.simulation import Simulation

_GOAL_ROAM_S, _GOAL_REST_S = (1.0, 3.0), 0.6  # how a body without a controller of its own comes to a goal pose
_DRIVE_STEPS, _DRIVE_S = 60, 0.08  # proportional control of a gripper: time constant [s]
_GOAL_STREAM = 1
_ELSEWHERE_M = np.array([20.0, 20.0, 0.1])  # where a block waits while the gripper takes its place in a goal image
_TOUCH_M = np.array([0.0395, 0.041])  # from block to gripper when they touch along x and y, and a millimetre
_HELD_M = 0.0485  # opening of the fingers around the block
_OVER_M, _ASIDE_M = 0.07, 0.02  # pick: the hand comes down from this height once it is that close sideways
_OPEN_M, _SHUT_M = 0.13, 0.06  # between the finger bodies
_HAND_WEIGHT, _FINGER_WEIGHT = 0.5, 0.5
_BEHIND_WEIGHT = 0.3  # of the hand's way to the far side of the block, against the block's way to its goal
_GOAL_NEAR_M, _GOAL_FAR_M, _GOAL_UP_M = 0.07, 0.15, (0.05, 0.15)  # of a body of one's own: aside of the object, and up
_AT_OBJECT_M = 0.06  # from the middle of an object of unknown shape to a hand that pushes it


class ReachTask(Task):
    """Bring the end effector to where it was when the goal image was taken.

    On FetchReach-v4 the goals, the 50 steps and the criterion are the environment's own. For any other body a goal is
    a pose that it has come to by moving about and holding still, so that it can be reached.
    """

    name = "reach"

    def achieved(self) -> NDArray[np.float64]:
        return self.simulation.end_effector()

    def shortfall(self, points_NKP3: NDArray[np.float64], pair: Pair) -> NDArray[np.float64]:
        return points_NKP3[:, :, :1] - pair.goal_position_m

    def _goal(self, seed: int) -> NDArray[np.float64]:
        simulation = self.simulation
        if isinstance(simulation, FetchSimulation) and not simulation.has_object:
            return simulation.goal_m
        _roam(simulation, np.random.default_rng([seed, _GOAL_STREAM]))
        return self.achieved()

    def _show(self, goal_m: NDArray[np.float64]) -> None:
        if isinstance(self.simulation, FetchSimulation) and not self.simulation.has_object:
            _drive(self.simulation, goal_m)


class WholeBodyReachTask(Task):
    """Bring both hands to where they were when the goal image was taken: a pose that the body has come to by itself.

    The distance is that of the hand that is further away, so that success needs both.
    """

    name = "whole_body_reach"

    def __init__(self, simulation: Simulation):
        if not simulation.has_two_hands:
            raise UserError(
                f"task whole_body_reach: {simulation.embodiment.name} has no second hand",
                "Name one in the embodiment (second_hand: a site or body), or give a body that has two: humanoid",
            )
        super().__init__(simulation)

    def achieved(self) -> NDArray[np.float64]:
        return self.simulation.hands().ravel()

    def shortfall(self, points_NKP3: NDArray[np.float64], pair: Pair) -> NDArray[np.float64]:
        return points_NKP3[:, :, [0, -1]] - pair.goal_position_m.reshape(2, 3)

    def _goal(self, seed: int) -> NDArray[np.float64]:
        _roam(self.simulation, np.random.default_rng([seed, _GOAL_STREAM]))
        return self.achieved()


class PushTask(Task):
    """Push the object over the table to where it was when the goal image was taken.

    On FetchPush-v4 starts, goals and criterion are the environment's own; for any other body the goal lies 7 to 15 cm
    beside the object. The goal image shows the object at the goal, turned as it started, and the hand at rest where a
    straight push leaves it: behind the object as seen from the object's start.
    """

    name = "push"
    search = (2, 24, 2)

    def __init__(self, simulation: Simulation):
        if not simulation.has_object:
            raise UserError(
                f"task {self.name}: {simulation.embodiment.name} has no object",
                "Name one in the embodiment (object: a body with a free joint), or give a body that has one:"
                f" fetch_{self.name}",
            )
        super().__init__(simulation)

    def achieved(self) -> NDArray[np.float64]:
        return self.simulation.object()

    def shortfall(self, points_NKP3: NDArray[np.float64], pair: Pair) -> NDArray[np.float64]:
        """The object's way to the goal, and a share of the hand's way to its far side while it has one to go."""
        hand, block = points_NKP3[:, :, 0], points_NKP3[:, :, 1]
        left = block - pair.goal_position_m
        distance = np.linalg.norm(left, axis=-1, keepdims=True)
        weight = _BEHIND_WEIGHT * np.minimum(distance / self.threshold_m, 1.0)
        return np.stack([left, weight * (hand - block - self._behind(left))], axis=2)

    def _goal(self, seed: int) -> NDArray[np.float64]:
        if isinstance(self.simulation, FetchSimulation):
            return self.simulation.goal_m
        return self.simulation.object() + _beside(np.random.default_rng([seed, _GOAL_STREAM]))

    def _show(self, goal_m: NDArray[np.float64]) -> None:
        behind = goal_m + self._behind(self.simulation.object() - goal_m)
        self.simulation.place_object(_ELSEWHERE_M)
        bring_hand(self.simulation, behind)
        self.simulation.place_object(goal_m)

    def _behind(self, away_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """From the middle of the object to a hand that touches it on the side that lies along `away_m`, (..., 3)."""
        flat = away_m * [1.0, 1.0, 0.0]
        unit = flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-6)
        if not isinstance(self.simulation, FetchSimulation):
            return unit * _AT_OBJECT_M
        reach = np.min(_TOUCH_M / np.maximum(np.abs(unit[..., :2]), 1e-6), axis=-1, keepdims=True)
        return unit * np.minimum(reach, 0.1)


class PickAndPlaceTask(PushTask):
    """Bring the object, on the table or in the air, to where it was when the goal image was taken.

    On FetchPickAndPlace-v4 starts, goals and criterion are the environment's own; for any other body the goal lies up
    to 15 cm above and beside the object. The goal image shows the object at the goal, turned as it started, between
    the fingers of the gripper.
    """

    name = "pick_and_place"
    search = (2, 32, 3)

    def __init__(self, simulation: Simulation):
        super().__init__(simulation)
        if simulation.gripper is None:
            raise UserError(
                f"task pick_and_place: {simulation.embodiment.name} has no gripper that opens",
                "Name its actuator in the embodiment (gripper), or give a body that has one: fetch_pick_and_place",
            )

    def shortfall(self, points_NKP3: NDArray[np.float64], pair: Pair) -> NDArray[np.float64]:
        """The object's way to the goal; shares of the hand's way to it, from above, and of Fetch's fingers'."""
        hand, block, *fingers = np.moveaxis(points_NKP3, 2, 0)
        way = hand - block
        aside = np.linalg.norm(way[..., :2], axis=-1)
        way[..., 2] -= _OVER_M * np.clip((aside - _ASIDE_M) / _ASIDE_M, 0.0, 1.0)
        ways = [block - pair.goal_position_m, _HAND_WEIGHT * way]
        if isinstance(self.simulation, FetchSimulation):
            there = np.linalg.norm(way, axis=-1) < _ASIDE_M
            gap = np.zeros_like(way)
            gap[..., 0] = np.linalg.norm(fingers[0] - fingers[1], axis=-1) - np.where(there, _SHUT_M, _OPEN_M)
            ways.append(_FINGER_WEIGHT * gap)
        return np.stack(ways, axis=2)

    def _goal(self, seed: int) -> NDArray[np.float64]:
        if isinstance(self.simulation, FetchSimulation):
            return self.simulation.goal_m
        rng = np.random.default_rng([seed, _GOAL_STREAM])
        return self.simulation.object() + _beside(rng) + [0.0, 0.0, rng.uniform(*_GOAL_UP_M)]

    def _show(self, goal_m: NDArray[np.float64]) -> None:
        self.simulation.place_object(_ELSEWHERE_M)
        bring_hand(self.simulation, goal_m)
        if isinstance(self.simulation, FetchSimulation):
            self.simulation.set_opening(_HELD_M)
        self.simulation.place_object(goal_m)


TASKS: dict[str, type[Task]] = {t.name: t for t in (ReachTask, PushTask, PickAndPlaceTask, WholeBodyReachTask)}
_OWN = {
    "FetchReach-v4": "reach",
    "FetchPush-v4": "push",
    "FetchPickAndPlace-v4": "pick_and_place",
}  # what an environment is made for


def make(simulation: Simulation, name: str | None = None) -> Task:
    """The task of that name for this body; None: the one of its environment, or reach.

    Raises:
        UserError: no such task, or one that is impossible for this body.
    """
    name = name or _OWN.get(simulation.embodiment.environment or "", "reach")
    if name not in TASKS:
        raise UserError(f"task {name!r} is not known", f"Choose among: {', '.join(TASKS)}")
    return TASKS[name](simulation)


def _beside(rng: np.random.Generator) -> NDArray[np.float64]:
    angle, far_m = rng.uniform(-np.pi, np.pi), rng.uniform(_GOAL_NEAR_M, _GOAL_FAR_M)
    return far_m * np.array([np.cos(angle), np.sin(angle), 0.0])


def bring_hand(simulation: Simulation, place_m: NDArray[np.float64]) -> None:
    """The hand to a point, as near as it gets, at rest."""
    if isinstance(simulation, FetchSimulation):
        _drive(simulation, place_m)
    else:
        simulation.pose_hand(place_m)


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
