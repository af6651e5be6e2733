"""Reach pairs whose goals lie a given way off, however far the body gets in a step: near ones beside far ones."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.errors import UserError
from sims.behaviours import Space, babble_space
from sims.pairs import Pair, Task
from sims.simulation import Simulation
from sims.tasks import bring_hand

_TRIES, _DRAWS = 20, 1000  # poses of the body per wanted pair, and ends drawn for each
_REST_TICKS = 15  # for joints to come to rest where they were put
_REST = 0.03  # of where they should be [rad or m]: what rests elsewhere is held up by something


def step_reach(simulation: Simulation) -> NDArray[np.float64]:
    """How far every axis of the babble space gets in one model step of largest commands [rad or m].

    Raises:
        UserError: torques, of which nobody can tell.
    """
    command = simulation.command
    ticks, dim = command.frame_skip, babble_space(simulation).dim
    if command.interface == "joint_torque":
        raise UserError(f"{simulation.embodiment.name} takes torques", "Give a body that takes positions or velocities")
    if command.is_position:
        return np.asarray(command.max_step)[:dim] * ticks
    return np.asarray(command.high)[:dim] * ticks / command.control_rate_hz


def distant_pairs(task: Task, num: int, seed: int, way: NDArray[np.float64]) -> list[Pair]:
    """Pairs that need as long as `way` does [rad or m along every axis of the babble space], in any direction.

    Both ends lie where the body goes while it is recorded. The axis that has the longest way to go decides. Pairs that
    are solved at their start, and poses in which the body is held up by something, are left out.

    Raises:
        UserError: so far a way is not to be had.
    """
    simulation, found = task.simulation, list[Pair]()
    for number in range(_TRIES * num):
        if len(found) == num:
            return found
        rng = np.random.default_rng([seed, number])
        simulation.reset(seed + number)
        space = babble_space(simulation)
        start, goal = _ends(space, way, rng)
        if not space.holds(goal) or not _rest(simulation, space, goal):
            continue
        goal_m, frame, proprio_P = simulation.end_effector(), simulation.frame(), simulation.proprio()
        simulation.reset(seed + number)
        if _rest(simulation, space, start):
            away_m = float(np.linalg.norm(simulation.end_effector() - goal_m))
            if away_m >= task.threshold_m:
                found.append(Pair(seed + number, simulation.state(), goal_m, frame, away_m, proprio_P, goal_m))
    raise UserError(
        f"{simulation.embodiment.name} has only {len(found)} of {num} pairs {np.round(way, 3)} apart",
        "Ask for a shorter way",
    )


def _ends(
    space: Space, way: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Anywhere in the space, and `way` from there in some direction, if possible in the space as well."""
    start_ND = space.centre + space.half * rng.uniform(-1, 1, (_DRAWS, space.dim))
    turn_ND = rng.uniform(-1, 1, (_DRAWS, space.dim))
    goal_ND = start_ND + way * turn_ND / np.abs(turn_ND).max(axis=1, keepdims=True)
    best = int(np.argmax([space.holds(goal) for goal in goal_ND]))
    return start_ND[best], goal_ND[best]


def _rest(simulation: Simulation, space: Space, where: NDArray[np.float64]) -> bool:
    """Bring the body there and let it rest; whether it is there then."""
    if space.cartesian:
        bring_hand(simulation, where)
        simulation.step(simulation.command.hold(simulation.reference()))
    else:
        simulation.pose(where)
        held_U = where if simulation.command.is_position else np.zeros(space.dim)
        for _ in range(_REST_TICKS):
            simulation.step(held_U)
    return bool(np.abs(space.where(simulation) - where).max() < _REST)


def placed_pairs(task: Task, places_m: NDArray[np.float64], seeds: Sequence[int]) -> list[Pair]:
    """Pairs whose goals are given places of the hand, as near to them as the body gets, from starts by `seeds`."""
    simulation, found = task.simulation, list[Pair]()
    for seed, place_m in zip(seeds, places_m, strict=True):
        simulation.reset(seed)
        bring_hand(simulation, place_m)
        held_U = simulation.proprio()[: simulation.command.dim].astype(np.float64)
        for _ in range(_REST_TICKS):
            simulation.step(held_U if simulation.command.is_position else np.zeros_like(held_U))
        goal_m, frame, proprio_P = simulation.end_effector(), simulation.frame(), simulation.proprio()
        simulation.reset(seed)
        away_m = float(np.linalg.norm(simulation.end_effector() - goal_m))
        found.append(Pair(seed, simulation.state(), goal_m, frame, away_m, proprio_P, goal_m))
    return found
