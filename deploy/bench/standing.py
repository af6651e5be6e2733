"""A humanoid on its feet: how long it stands while it is pushed, by whom its joints' targets are decided."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from calibration.response_fit import fit_together
from deploy.bench.result import Row
from robot_wm.evaluation.statistics import wilson
from robot_wm.models.command import CommandMap
from robot_wm.models.response import Response
from robot_wm.planning.feedback import Feedback
from sims import robots
from sims.simulation import Simulation
from sims.standing import Standing

_ROBOT, _PUSH_M_S = "humanoid_free", 0.3
_HELD_OUT = 2_000_000  # seeds of trials; those of the log are below
_LEAN = 0.75  # cosine of the lean at which an episode of the log ends: what follows says nothing of standing
_SWAY, _KEPT, _BACK = 0.3, 0.7, 0.15  # of the log's commands: size, correlation, way back to the start
_HORIZON, _EFFORT = 33, 0.01  # of the plan: one second
_POSE, _UP, _STILL, _TURN = 1.0, 30.0, 0.003, 1.0  # what the planner minds, chosen among eight on other seeds

Decide = Callable[[Standing], NDArray[np.float64]]  # the next commands, (K, U)


@dataclass(frozen=True)
class Lesson:
    """Rows of a log, one per control period: plan entry, command before, proprio before and after."""

    plan_NU: NDArray[np.float64]
    reference_NU: NDArray[np.float64]
    proprio_NP: NDArray[np.float32]
    after_NP: NDArray[np.float32]


def standing(trials: int, episodes: int, seed: int, oracle: bool = True) -> list[Row]:
    """Trials of 10 s in which it stood to the end: hold, random, planned in what was learned of it, and the oracle."""
    with robots.load(_ROBOT) as simulation:
        task = Standing(simulation, _PUSH_M_S)
        planned = planner(simulation, record(task, episodes, seed))
        deciders: dict[str, Callable[[int], Decide]] = {
            "hold": lambda _: lambda task: task.simulation.reference()[None],
            "random": _random,
            "planned in the response": lambda _: planned,
        } | ({"oracle": _oracle} if oracle else {})
        found = {name: [_stood(task, decide(s), s) for s in _seeds(trials, seed)] for name, decide in deciders.items()}
    rows = []
    best = found.get("oracle")
    for name, times in found.items():
        count = sum(t >= task.ticks for t in times)
        share, rate_hz = wilson(count, trials), simulation.embodiment.control_rate_hz
        needed = 0.8 * sum(t >= task.ticks for t in best) / trials if best and name.startswith("planned") else None
        rows += [
            Row(
                f"stands 10 s while pushed: {name}",
                share.value,
                n=trials,
                low=share.low,
                high=share.high,
                target=needed,
            ),
            Row(f"until it falls, at most 10 s: {name}", float(np.mean(times)) / rate_hz, "s", n=trials),
        ]
    return rows


def record(task: Standing, episodes: int, seed: int) -> Lesson:
    """Small random motions about the start until it tips over, again and again; no pictures."""
    simulation, command = task.simulation, task.simulation.command
    rng, parts = np.random.default_rng([seed, 7]), ([], [], [], [])  # type: ignore[var-annotated]
    for _ in range(episodes):
        task.start(int(rng.integers(_HELD_OUT)))
        home_U, sway_U = simulation.reference(), np.zeros(command.dim)
        for _ in range(task.ticks):
            before_P, reference_U = simulation.proprio(), simulation.reference()
            sway_U = _KEPT * sway_U + _KEPT * rng.normal(size=command.dim)
            plan_U = np.clip(_SWAY * sway_U + _BACK * (home_U - reference_U) / np.asarray(command.max_step), -1, 1)
            stands = task.step(command.denormalize(plan_U[None], reference_U)[0])
            sent_U = command.normalize(simulation.reference()[None], reference_U)[0]
            for part, value in zip(parts, (sent_U, reference_U, before_P, simulation.proprio()), strict=True):
                part.append(value)
            if not stands or simulation.base.up(simulation.data.qpos)[2] < _LEAN:  # type: ignore[union-attr]
                break
    return Lesson(*(np.stack(part) for part in parts))


def planner(simulation: Simulation, log: Lesson) -> Decide:
    """Plans anew in every control period, from proprio alone, in the response that the log shows."""
    space, names = simulation.command, simulation.proprio_names
    commands = CommandMap(space)
    proprio = torch.from_numpy(log.proprio_NP)
    mean_P, std_P = proprio.mean(0), proprio.std(0) + 1e-6
    response = Response(space.frame_skip * space.dim, space.dim, len(names))
    plan, reference = (torch.from_numpy(x).float() for x in (log.plan_NU, log.reference_NU))
    after = (torch.from_numpy(log.after_NP) - mean_P) / std_P
    fit_together(response, plan[:, None], commands.share(reference), (proprio - mean_P) / std_P, after)
    weight_P = torch.tensor([_weight(name) for name in names]) * std_P**2
    feedback = Feedback(response, commands, _HORIZON, weight_P, _EFFORT)

    def decide(task: Standing) -> NDArray[np.float64]:
        now, upright = (
            (torch.from_numpy(np.asarray(x, np.float32)) - mean_P) / std_P for x in (simulation.proprio(), task.upright)
        )
        reference_U = simulation.reference()
        plan_HU = feedback.plan(now[None], torch.from_numpy(reference_U).float()[None], upright[None])[0]
        return space.denormalize(plan_HU[:1].double().numpy(), reference_U)

    return decide


def _weight(name: str) -> float:
    if name.startswith("base"):
        return _TURN if name.endswith("velocity") else _UP
    return _STILL if name.endswith("velocity") else _POSE


def _seeds(trials: int, seed: int) -> range:
    return range(_HELD_OUT + 1000 * seed, _HELD_OUT + 1000 * seed + trials)


def _stood(task: Standing, decide: Decide, seed: int) -> int:
    """Control periods until it fell, or all of them."""
    task.start(seed)
    tick = 0
    while tick < task.ticks:
        for command_U in decide(task)[: task.ticks - tick]:
            if not task.step(command_U):
                return tick
            tick += 1
    return tick


def _random(seed: int) -> Decide:
    rng = np.random.default_rng([seed, 3])

    def decide(task: Standing) -> NDArray[np.float64]:
        command = task.simulation.command
        return command.denormalize(rng.uniform(-1, 1, (1, command.dim)), task.simulation.reference())

    return decide


def _oracle(seed: int) -> Decide:
    rng, warm = np.random.default_rng([seed, 5]), list[NDArray[np.float64]]()

    def decide(task: Standing) -> NDArray[np.float64]:
        chunk_KU, following_HU = task.oracle(rng, warm.pop() if warm else None)
        warm.append(following_HU)
        return chunk_KU

    return decide
