"""Why an attempt failed: what of the way that is left at its end came from where, in metres.

The hand misses the place that the goal's picture shows it at. That miss is a sum of ways, each of them measured:

    hand - goal = (read - goal) + (better - read) + (predicted - better) + (hand - predicted)

`read` is where the controller read the goal's picture to show the hand; `predicted` where the model expected the last
commands to bring it; `better` where the commands bring it in the model that a search eight times as large finds. The
first way is perception's, the third one the search's, the other two are the dynamics': what came is not what was
expected, or even a thorough search finds no way in the model, although the oracle shows that there is one. The part of
each in the miss is its length along it; the largest names the failure.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploy.bench.arena import Arena, Flown, searching
from robot_wm.models.body import Problem
from robot_wm.planning.controllable import Controllable
from robot_wm.planning.planner import Planner, pose
from sims.simulation import Simulation

MODES = {
    "reach": "The arm does not get there: the search in the true dynamics fails as well.",
    "perception": "Most of the miss lies between where the goal is and where it was read from its picture.",
    "dynamics": "Most of the miss lies between where the model expected the hand and where it came, or the model knows"
    " no way where there is one.",
    "search": "Most of the miss lies between the plan that was found and a better one that was there in the model.",
    "objective": "The hand is where the goal's picture shows it, but the object is not: it was not asked for.",
}
_MORE_CANDIDATES, _MORE_ITERATIONS = 4, 2  # of the thorough search

Place = tuple[float, float, float]


@dataclass(frozen=True)
class Evidence:
    """What was measured of one failed attempt, all places in the world [m]; see the module.

    Attributes:
        pair_seed: of the pair.
        threshold_m: of success.
        hand, goal: where the hand came to, and where the goal's picture shows it.
        read, predicted, better: see the module.
    """

    pair_seed: int
    threshold_m: float
    hand: Place
    goal: Place
    read: Place
    predicted: Place
    better: Place

    def parts_m(self) -> dict[str, float]:
        """What each cause adds to the miss [m]; together they are its length."""
        hand, goal, read, predicted, better = map(
            np.array, (self.hand, self.goal, self.read, self.predicted, self.better)
        )
        along = (hand - goal) / max(float(np.linalg.norm(hand - goal)), 1e-9)
        ways = {"perception": read - goal, "dynamics": better - read + hand - predicted, "search": predicted - better}
        return {cause: float(way @ along) for cause, way in ways.items()}

    def mode(self, oracle_reached: bool) -> str:
        """One of MODES."""
        if not oracle_reached:
            return "reach"
        if np.linalg.norm(np.subtract(self.hand, self.goal)) < self.threshold_m:
            return "objective"
        parts_m = self.parts_m()
        return max(parts_m, key=lambda cause: parts_m[cause])


def shares(failures: Sequence[tuple[Evidence, bool]]) -> dict[str, float]:
    """The share of every mode that occurs, most frequent first; each failure with whether the oracle reached it."""
    counts = Counter(evidence.mode(oracle_reached) for evidence, oracle_reached in failures)
    return {mode: count / len(failures) for mode, count in counts.most_common()}


@torch.no_grad()
def examine(
    arena: Arena, flown: Flown, parts: Controllable, seed: int, target_BP: Tensor | None = None
) -> list[Evidence]:
    """Evidence of every attempt that failed at its end, `target_BP` being what was told of their goals."""
    failed = np.flatnonzero(~flown.reached_B)
    if not len(failed):
        return []
    rows = torch.from_numpy(failed)
    history, goal, proprio, reference = (x[rows] for x in flown.inputs)
    target = None if target_BP is None else target_BP[rows]
    body, search = parts.planner.body, parts.planner
    problem = pose(body, history, goal, proprio, reference, target)
    size = search.config
    thorough = replace(
        size, candidates=_MORE_CANDIDATES * size.candidates, iterations=_MORE_ITERATIONS * size.iterations
    )  # fmt: skip
    head = parts.one_shot.head if parts.one_shot else None
    planner = Planner(thorough, body, head=head, objective=search.objective).eval()
    better_BKU = searching(planner, seed, target)(history, goal, proprio, reference)
    found = {"read": problem.goal.proprio_BP, "predicted": _after(parts, problem, flown.chunk_BKU[rows])}
    found["better"] = _after(parts, problem, better_BKU)
    evidence = []
    for row, index in enumerate(failed):
        pair = arena.pairs[index]
        arena.task.start(pair)
        places = {name: _place(arena.task.simulation, parts, x_BP[row]) for name, x_BP in found.items()}
        judged_m = pair.goal_position_m if arena.task.name == "reach" else pair.goal_hand_m
        hand, at_goal = _as_place(flown.hand_B3[index]), _as_place(judged_m)
        evidence.append(Evidence(pair.seed, arena.task.threshold_m, hand, at_goal, **places))
    return evidence


def _after(parts: Controllable, problem: Problem, chunk_BKU: Tensor) -> Tensor:
    """Proprio (B, P), standardised, that the model expects after these commands."""
    moment, _ = parts.planner.body.follow(problem.now, chunk_BKU[:, None], problem.reference_BU)
    return moment.proprio_BP


def _place(simulation: Simulation, parts: Controllable, proprio_P: Tensor) -> Place:
    """Where the end effector is when the body measures that (standardised) of itself; the body is left there."""
    body = parts.planner.body
    measured_P = (proprio_P * body.proprio_std_P + body.proprio_mean_P).double().numpy()
    if parts.command.interface == "end_effector_velocity":
        return _as_place(measured_P[:3])
    return _as_place(simulation.hand_at(measured_P[: parts.command.dim]))


def _as_place(place_m: NDArray[np.float64]) -> Place:
    x, y, z = (round(float(value), 5) for value in place_m)
    return x, y, z
