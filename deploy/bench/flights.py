"""What becomes of the pairs of one body: every way to decide, under every condition, filmed, failures examined."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploy.bench.arena import Arena, Decide, Flown, at_once, drawn, holding, searching
from deploy.bench.failure_modes import Evidence, examine
from deploy.bench.far_goals import far_arenas
from deploy.bench.films import film_attempts
from deploy.stages.evaluate import goal_seed
from robot_wm import console
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.planning.controllable import Controllable
from sims import tasks
from sims.distant import placed_pairs
from sims.pairs import Pair, Task
from sims.robots import load
from sims.unseen import CONDITIONS, unseen

JOINTS, CARTESIAN = "fetch_joints", "fetch"  # the same arm by other commands
_BASE = "robot0:base_link"
_PER_PAIR = ("pairs", "reached", "ever", "left_m", "failures")
_DRAWS = 10  # of every condition: pairs are dealt out to so many lights, colours and cameras


@dataclass(frozen=True)
class Found:
    """What came of one way to decide, over the pairs in their order.

    Attributes:
        way: who decided, under which condition.
        pairs: their seeds.
        reached, ever: the task's criterion at the end, and at any tick.
        left_m: what was left at the end.
        ms: median time of one decision, picture in to commands out; None: not measured.
        failures: evidence of those that did not reach it; empty for references.
    """

    way: str
    pairs: tuple[int, ...]
    reached: tuple[bool, ...]
    ever: tuple[bool, ...]
    left_m: tuple[float, ...]
    ms: float | None = None
    failures: tuple[Evidence, ...] = ()


def nominal(parts: Controllable, task_name: str, num: int, seed: int, films: Path) -> list[Found]:
    """By search, by the command head alone, and by search where the goal's proprio is told."""
    with load(parts.embodiment) as simulation:
        task = tasks.make(simulation, task_name)
        arena = Arena(task, goals(task, num, seed))
        told_BP = told(parts, arena.pairs)
        ways: dict[str, tuple[Callable[[], Decide], Tensor | None]] = {
            "search": (lambda: searching(parts.planner, seed), None),
            "told": (lambda: searching(parts.planner, seed, told_BP), told_BP),
        }
        if parts.one_shot is not None:
            one_shot = parts.one_shot
            ways["head"] = (lambda: at_once(one_shot), None)
        rows = []
        for way, (make, target_BP) in ways.items():
            flown = arena.fly(make(), parts.encoder, parts.planner.body.history)
            ms = None
            if target_BP is None:
                ms = arena.decision_ms(make(), parts.encoder, parts.planner.body.history)
            rows.append(_judged(way, arena, flown, parts, seed, films, ms, target_BP))
        return rows


def references(embodiment: Embodiment, task_name: str, num: int, seed: int) -> list[Found]:
    """Random, hold and the oracle, none of whom looks at a picture: they are the same under every condition."""
    with load(embodiment) as simulation:
        task = tasks.make(simulation, task_name)
        arena, blind = Arena(task, goals(task, num, seed)), torch.nn.Flatten()
        rows = []
        for way, decide in (("random", drawn(simulation.command, seed)), ("hold", holding(simulation.command))):
            console.say(f"control: {embodiment.name}, {way}")
            rows.append(_found(way, arena, arena.fly(decide, blind, 1)))
        console.say(f"control: {embodiment.name}, oracle")
        reached = tuple(bool(each) for each in arena.oracle(seed))
        seeds = tuple(pair.seed for pair in arena.pairs)
        return [*rows, Found("oracle", seeds, reached, reached, ())]


def unseen_conditions(parts: Controllable, task_name: str, num: int, seed: int, films: Path) -> list[Found]:
    """By search, under every condition that calibration has not seen; goals are seen through it as well."""
    rows = []
    with load(parts.embodiment) as simulation:
        task = tasks.make(simulation, task_name)
        seeds = [pair.seed for pair in task.pairs(num, goal_seed(seed), pictures=False)]
        draws = min(_DRAWS, num)
        for condition in CONDITIONS:
            found = []
            for draw in range(draws):
                with unseen(simulation, condition, _DRAWS * seed + draw):
                    arena = Arena(task, [task.pairs(1, each)[0] for each in seeds[draw::draws]])
                    flown = arena.fly(searching(parts.planner, seed), parts.encoder, parts.planner.body.history)
                    found.append(_judged(condition, arena, flown, parts, seed, films))
            rows.append(joined(found))
    return rows


def far(parts: Controllable, num: int, seed: int, films: Path) -> list[Found]:
    """Goals 1, 2 and 4 horizons away, of the body slowed down to have such, by search and by the head alone."""
    rows = []
    for distance, arena in far_arenas(parts, num, goal_seed(seed)):
        ways = {"search": searching(parts.planner, seed), "hold": holding(parts.command)}
        if parts.one_shot is not None:
            ways["head"] = at_once(parts.one_shot)
        for way, decide in ways.items():
            name, flown = f"{distance} × horizon, {way}", arena.fly(decide, parts.encoder, parts.planner.body.history)
            rows.append(
                _found(name, arena, flown) if way == "hold" else _judged(name, arena, flown, parts, seed, films)
            )
    return rows


def goals(task: Task, num: int, seed: int) -> list[Pair]:
    """Held-out pairs; those of the Fetch by its joints have the goals that it has by its gripper."""
    first = goal_seed(seed)
    if task.simulation.embodiment.name != JOINTS:
        return task.pairs(num, first)
    with load(CARTESIAN) as simulation:
        pairs = tasks.make(simulation).pairs(2 * num, first, pictures=False)
        moved_m = _base(task) - simulation.data.body(_BASE).xpos
    places_m = np.stack([pair.goal_position_m for pair in pairs]) + moved_m
    placed = placed_pairs(task, places_m, [pair.seed for pair in pairs])
    return [pair for pair in placed if pair.start_distance_m >= task.threshold_m][:num]


def film_folder(films: Path, way: str) -> Path:
    """Where the films of one way to decide lie among those of a part."""
    return films / way.replace(" × ", "-").replace(", ", "-")


def told(parts: Controllable, pairs: Sequence[Pair]) -> Tensor:
    """What a controller is told of the goals (B, P): positions as the body measures them there, NaN for the rest."""
    proprio_BP = torch.from_numpy(np.stack([pair.goal_proprio_P for pair in pairs]))
    return torch.where(parts.planner.body.position_P.bool(), proprio_BP, torch.nan)


def _base(task: Task) -> NDArray[np.float64]:
    task.simulation.reset(0)
    place_m: NDArray[np.float64] = task.simulation.data.body(_BASE).xpos.copy()
    return place_m


def _judged(
    way: str, arena: Arena, flown: Flown, parts: Controllable, seed: int, films: Path, ms: float | None = None,
    target_BP: Tensor | None = None,
) -> Found:  # fmt: skip
    console.say(f"control: {parts.embodiment.name}, {way}: {flown.reached_B.sum()} of {len(arena.pairs)}")
    film_attempts(film_folder(films, way), arena, flown)
    return _found(way, arena, flown, ms, tuple(examine(arena, flown, parts, seed, target_BP)))


def _found(way: str, arena: Arena, flown: Flown, ms: float | None = None, failures: tuple[Evidence, ...] = ()) -> Found:
    return Found(
        way=way,
        pairs=tuple(pair.seed for pair in arena.pairs),
        reached=tuple(flown.reached_B.tolist()),
        ever=tuple(flown.ever_B.tolist()),
        left_m=tuple(round(float(left), 4) for left in flown.left_m),
        ms=ms,
        failures=failures,
    )


def joined(found: Sequence[Found]) -> Found:
    """The same way to decide, on several sets of pairs."""
    whole = found[0]
    for more in found[1:]:
        joined = {name: getattr(whole, name) + getattr(more, name) for name in _PER_PAIR}
        whole = replace(whole, **joined)
    return whole
