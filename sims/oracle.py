"""The upper reference: search in the true dynamics for the commands that do what the task asks."""

import numpy as np
from numpy.typing import NDArray

from sims.pairs import Pair, Task

_START_STD = 0.6  # in plan units, whose range is [-1, 1]
_LEAST_STD = 0.02
_FIT_SHARE = 0.6  # of the candidates, the better ones: what hit the wrong thing would spoil a linear fit
_ELITE_SHARE = 0.2
_NEAR_GUESS = 0.3  # spread around the linear guess, of the spread around the mean
_GOOD_ENOUGH_M = 0.02  # of cost: searching on would not change an outcome judged at 5 cm
_REST_WEIGHT = 0.5  # of the mean distance over the last model step against the distance at the very end


def plan(
    task: Task,
    pair: Pair,
    horizon: int = 0,
    candidates: int = 0,
    iterations: int = 0,
    rng: np.random.Generator | None = None,
    warm: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The next command chunk, (K, U), by the cross-entropy method over `Simulation.rollout`, and the next `warm`.

    The same space as the learned planner's is searched (one plan row per model step, its command repeated over the
    step), from the simulation's present state, which is left as it is. The cost is what the task says is left
    to do. Among the candidates are always the best so far, holding still, and what a linear fit to the iteration
    before proposes: few candidates then suffice, and the search does no worse than doing nothing.

    Args:
        task: over the body, in its present state.
        pair: what to do.
        horizon: model steps ahead; 0 here and below: what the task says.
        candidates, iterations: of the search.
        rng: seeded with 0 when None.
        warm: a plan to start from, (horizon, U) in [-1, 1], such as the second result of the step before; zero when
            None.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    horizon, candidates, iterations = (
        asked or own for asked, own in zip((horizon, candidates, iterations), task.search, strict=True)
    )
    simulation = task.simulation
    command, reference_U = simulation.command, simulation.reference()
    mean_HU = np.zeros((horizon, command.dim)) if warm is None else warm
    std_HU = np.full_like(mean_HU, _START_STD)
    rest_U = command.hold(reference_U)
    if simulation.gripper is not None:
        rest_U[simulation.gripper] = reference_U[simulation.gripper]  # what it holds would slip
    rest_HU = np.tile(command.normalize(rest_U[None], reference_U), (horizon, 1))
    num_elites = max(int(_ELITE_SHARE * candidates), 2)
    num_fit = int(_FIT_SHARE * candidates)
    best_HU, best_cost = mean_HU, np.inf
    guess_HU: NDArray[np.float64] | None = None
    for _ in range(iterations):
        plans_NHU = mean_HU + std_HU * rng.normal(size=(candidates, *mean_HU.shape))
        if guess_HU is not None:  # every other candidate near it
            plans_NHU[1::2] = guess_HU + _NEAR_GUESS * (plans_NHU[1::2] - mean_HU)
        plans_NHU[:3] = best_HU, rest_HU, mean_HU if guess_HU is None else guess_HU
        plans_NHU = np.clip(plans_NHU, -1, 1)
        left_NKJ3 = _shortfall(task, pair, plans_NHU, reference_U)
        left_NK = np.linalg.norm(left_NKJ3, axis=-1).sum(-1)
        costs_N = left_NK[:, -1] + _REST_WEIGHT * left_NK[:, -command.frame_skip :].mean(1)
        order = np.argsort(costs_N)
        if costs_N[order[0]] < best_cost:
            best_HU, best_cost = plans_NHU[order[0]], costs_N[order[0]]
        if best_cost < _GOOD_ENOUGH_M:
            break
        elites = plans_NHU[order[:num_elites]]
        mean_HU, std_HU = elites.mean(0), np.maximum(elites.std(0), _LEAST_STD)
        guess_HU = _linear_guess(plans_NHU[order[:num_fit]], left_NKJ3[order[:num_fit], -1].reshape(num_fit, -1))
    chunk_KU = np.repeat(best_HU[:1], command.frame_skip, axis=0)
    return command.denormalize(chunk_KU, reference_U), np.vstack([best_HU[1:], rest_HU[-1:]])


def _shortfall(
    task: Task, pair: Pair, plans_NHU: NDArray[np.float64], reference_U: NDArray[np.float64]
) -> NDArray[np.float64]:
    command = task.simulation.command
    max_step_U = np.asarray(command.max_step)
    ticks = np.repeat(plans_NHU, command.frame_skip, axis=1)
    commands_NKU = np.stack([command.denormalize(plan_KU, reference_U) for plan_KU in ticks])
    before_NU = np.broadcast_to(reference_U, commands_NKU[:, 0].shape)
    for now_NU in commands_NKU.transpose(1, 0, 2):  # what the runtime's rate limit lets through
        now_NU[:] = before_NU = before_NU + np.clip(now_NU - before_NU, -max_step_U, max_step_U)
    return task.shortfall(task.simulation.rollout(commands_NKU), pair)


def _linear_guess(plans_NHU: NDArray[np.float64], left_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest plan that would leave nothing to do if that were linear in the plan, as fitted to what was tried."""
    inputs = plans_NHU.reshape(len(plans_NHU), -1)
    centre, middle = inputs.mean(0), left_ND.mean(0)
    slope, *_ = np.linalg.lstsq(inputs - centre, left_ND - middle, rcond=1e-3)
    move = np.linalg.lstsq(slope.T, -middle, rcond=1e-2)[0]
    return np.clip(centre + move, -1, 1).reshape(plans_NHU.shape[1:])
