"""What is the same for every method: body, data, budget, pairs, and how what it does is judged."""

import hashlib
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from calibration.transitions import Transitions, load_transitions
from deploy.bench.arena import Arena, Decide
from deploy.stages.evaluate import goal_seed
from robot_wm.contracts import run
from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.evaluation.statistics import wilson
from sims import catalog, tasks
from sims.pairs import Pair
from sims.robots import load

_TIMED, _TIMED_S = 5, 30.0  # plans that are timed one by one, and how long that may take


@dataclass(frozen=True)
class Contest:
    """What a method is given.

    Attributes:
        body: the embodiment's name.
        data: the run that recorded its log.
        transitions: labelled transitions of the log that may be used.
        pairs: held-out pairs of start and goal.
        budget_s: longest training [s of wall time].
        seed: of everything random.
        cache: folder for whatever is made from the data.
        calibration: our calibrate run, for what plans on our model.
        quick: whether our own stages run at a size that only shows that they work.
    """

    body: str
    data: str
    transitions: int
    pairs: int
    budget_s: float
    seed: int
    cache: str
    calibration: str | None = None
    quick: bool = False

    @contextmanager
    def arena(self) -> Iterator[Arena]:
        """The task and the pairs of `robot-wm evaluate`: held out, and none solved at its start."""
        with load(catalog.find(self.body), self.seed) as simulation:
            task = tasks.make(simulation)
            yield Arena(task, task.pairs(self.pairs, goal_seed(self.seed)))

    def log(self, arena: Arena) -> Transitions:
        """The labelled transitions, frames as recorded."""
        simulation = arena.task.simulation
        embodiment = simulation.embodiment
        return load_transitions(
            run.dataset_folder(Path(self.data)), embodiment, simulation.command, simulation.proprio_names,
            embodiment.camera.height, self.transitions, Path(self.cache),
        )  # fmt: skip


@dataclass(frozen=True)
class Entrant:
    """A method after its training.

    Attributes:
        encoder: frames (B, Y, X, 3) uint8 to whatever `decide` looks at, (B, D).
        decide: made anew, with the seed of its draws, for every flight.
        history: frames that it looks back on.
        labels: labelled transitions that it learned from.
        train_s: seconds of training.
        samples: that went through the optimizer in that time.
        parameters: of all its networks.
    """

    encoder: nn.Module
    decide: Callable[[int], Decide]
    history: int = 1
    labels: int = 0
    train_s: float = 0.0
    samples: int = 0
    parameters: int = 0


@dataclass(frozen=True)
class Outcome:
    """What one method gave; None where a number makes no sense for it.

    Attributes:
        pairs: digest of the pairs: only methods that were given the same are compared.
        successes, trials: at the end of the attempt.
        labels: labelled transitions.
        train_s, samples_per_s: of training.
        plan_ms: one plan for one robot.
        memory_mib: largest of the process, or of the GPU where it was used.
        parameters: of all networks.
        remark: what a reader has to know.
        numbers: of methods that are not about success, by what they say, with their unit.
    """

    pairs: str = ""
    successes: int = 0
    trials: int = 0
    labels: int | None = None
    train_s: float | None = None
    samples_per_s: float | None = None
    plan_ms: float | None = None
    memory_mib: float | None = None
    parameters: int | None = None
    remark: str = ""
    numbers: dict[str, tuple[float, str]] = field(default_factory=dict)
    revision: str | None = None

    @property
    def success(self) -> tuple[float, float, float]:
        """Share of successes and its 95 % interval."""
        share = wilson(self.successes, self.trials)
        return share.value, share.low, share.high


def judge(arena: Arena, entrant: Entrant, seed: int, remark: str = "") -> Outcome:
    """Let a method try all pairs, then time single plans of it."""
    found = arena.fly(entrant.decide(seed), entrant.encoder, entrant.history)
    return Outcome(
        pairs=digest(arena.pairs), successes=int(found.reached_B.sum()), trials=len(arena.pairs), labels=entrant.labels,
        train_s=entrant.train_s, samples_per_s=entrant.samples / entrant.train_s if entrant.samples else None,
        plan_ms=plan_ms(arena, entrant, seed), memory_mib=memory_mib(), parameters=entrant.parameters, remark=remark,
        revision=run.git_revision(),
    )  # fmt: skip


@torch.no_grad()
def plan_ms(arena: Arena, entrant: Entrant, seed: int) -> float:
    """Image in to commands out, for one robot: the median of a few [ms]."""
    task, pair, spent_ms = arena.task, arena.pairs[0], []
    task.start(pair)
    simulation = task.simulation
    frame, proprio = torch.from_numpy(simulation.frame()[None]), torch.from_numpy(simulation.proprio()[None])
    goal, reference = torch.from_numpy(pair.goal_frame[None]), torch.from_numpy(simulation.reference()[None]).float()
    goal_BD, ends_s = entrant.encoder(goal), time.perf_counter() + _TIMED_S
    for _ in range(_TIMED + 1):
        decide, began_s = entrant.decide(seed), time.perf_counter()  # anew: some go on with the plan before
        z_BTD = entrant.encoder(frame)[:, None].expand(-1, entrant.history, -1)
        decide(z_BTD, goal_BD, proprio, reference)
        spent_ms.append(1000 * (time.perf_counter() - began_s))
        if time.perf_counter() > ends_s:
            break
    return statistics.median(spent_ms[1:] or spent_ms)  # the first one warms up


def memory_mib() -> float:
    """The most that this process has had in memory, or on the GPU where it used one [MiB]."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def digest(pairs: list[Pair]) -> str:
    """Of starts and goals: equal for equal pairs."""
    whole = hashlib.sha256()
    for pair in pairs:
        whole.update(pair.start_state.tobytes() + pair.goal_position_m.tobytes())
    return whole.hexdigest()[:16]


def obeying(space: CommandSpace, plan_BKU: np.ndarray, reference_BU: np.ndarray) -> torch.Tensor:
    """Plan units (B, K, U) to commands within range and rate limits, as everybody's commands are."""
    commands = np.stack([space.denormalize(p, r) for p, r in zip(plan_BKU, reference_BU, strict=True)])
    before_BU, most_U = reference_BU, np.asarray(space.max_step)
    for tick in range(commands.shape[1]):
        commands[:, tick] = before_BU = before_BU + np.clip(commands[:, tick] - before_BU, -most_U, most_U)
    return torch.from_numpy(commands)


def count(*modules: nn.Module) -> int:
    """Parameters of networks."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
