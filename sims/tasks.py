"""What a body is asked to do: start, goal image, and the true state that judges the outcome."""

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


@dataclass(frozen=True)
class ReachPair:
    """A start and a goal.

    Attributes:
        seed: both follow from it.
        start_state: for `Simulation.restore`.
        goal_position_m: of the end effector in the world, (3,); for judges and oracles only.
        goal_frame: what the camera sees when the body is there, (Y, X, 3) uint8.
        start_distance_m: from end effector to goal at the start.
    """

    seed: int
    start_state: NDArray[np.float64]
    goal_position_m: NDArray[np.float64]
    goal_frame: NDArray[np.uint8]
    start_distance_m: float


class ReachTask:
    """Bring the end effector to where it was when the goal image was taken.

    On FetchReach-v4 the goals, the 50 steps and the criterion are the environment's own. For any other body a goal is
    a pose that it has come to by moving about and holding still, so that it can be reached.

    Attributes:
        threshold_m: closer than this is a success.
        max_steps: control steps of an episode.
    """

    def __init__(self, simulation: Simulation, threshold_m: float = 0.05, max_steps: int = MAX_EPISODE_STEPS):
        self.simulation = simulation
        self.threshold_m = simulation.threshold_m if isinstance(simulation, FetchSimulation) else threshold_m
        self.max_steps = max_steps

    def pairs(self, num: int, seed: int) -> list[ReachPair]:
        """The first `num` pairs from `seed` on that are not solved at their start.

        Raises:
            UserError: too few, because the body hardly moves its end effector.
        """
        found: list[ReachPair] = []
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

    def start(self, pair: ReachPair) -> None:
        """Put the body where the pair starts, from whatever it was doing."""
        self.simulation.reset(pair.seed)
        self.simulation.restore(pair.start_state)

    def distance_m(self, pair: ReachPair) -> float:
        """From the end effector to the goal [m], in truth."""
        return float(np.linalg.norm(self.simulation.end_effector() - pair.goal_position_m))

    def success(self, pair: ReachPair) -> bool:
        """FetchReach's own criterion, used for every body: the distance is below the threshold now."""
        return self.distance_m(pair) < self.threshold_m

    def _pair(self, seed: int) -> ReachPair:
        simulation = self.simulation
        simulation.reset(seed)
        start_state, start_m = simulation.state(), simulation.end_effector()
        if isinstance(simulation, FetchSimulation):
            goal_m = simulation.goal_m
            _drive(simulation, goal_m)
        else:
            _roam(simulation, np.random.default_rng([seed, _GOAL_STREAM]))
            goal_m = simulation.end_effector()
        frame = simulation.frame()
        simulation.restore(start_state)
        return ReachPair(seed, start_state, goal_m, frame, float(np.linalg.norm(goal_m - start_m)))


def _drive(simulation: FetchSimulation, goal_m: NDArray[np.float64]) -> None:
    """Take the gripper to a point as near as the arm gets, and let it rest there."""
    for _ in range(_DRIVE_STEPS):
        simulation.step((goal_m - simulation.end_effector()) / _DRIVE_S)


def _roam(simulation: Simulation, rng: np.random.Generator) -> None:
    """Move about, then hold still."""
    rate_hz = simulation.embodiment.control_rate_hz
    for command_U in babble(simulation, round(rng.uniform(*_GOAL_ROAM_S) * rate_hz), rng):
        simulation.step(command_U)
    for _ in range(round(_GOAL_REST_S * rate_hz)):
        simulation.step(simulation.command.hold(simulation.reference()))
