"""Many attempts side by side, planner in PyTorch: what a benchmark of planners needs, in a fraction of the time.

Frames, commands and limits are those of the runtime loop with a twin that is its model; guards and delays are left out.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.models.body import Body
from robot_wm.planning.planner import OneShot, Planner
from sims import oracle
from sims.pairs import Pair, Task

# From history (B, T, D), goal (B, D), proprio (B, P) and the command in force (B, U) to commands (B, K, U).
Decide = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Flown:
    """What came of it: successes at the end and at any tick, distances left [m], and seconds per decision."""

    last: int
    any: int
    left_m: NDArray[np.float64]
    decision_s: float


class Arena:
    """A task and its pairs; every controller starts from the same."""

    def __init__(self, task: Task, pairs: list[Pair]):
        self.task, self.pairs = task, pairs

    @torch.no_grad()
    def fly(self, decide: Decide, encoder: nn.Module, history: int) -> Flown:
        """Let `decide` try all pairs at once; `history` latents are what it looks back on."""
        task, simulation = self.task, self.task.simulation
        skip = simulation.command.frame_skip
        states, references = [], []
        for pair in self.pairs:
            task.start(pair)
            states.append(simulation.state())
            references.append(simulation.reference())
        goal = encoder(torch.from_numpy(np.stack([pair.goal_frame for pair in self.pairs])))
        reached = np.zeros(len(self.pairs), bool)
        left_m, spent_s, history_BTD = np.zeros(len(self.pairs)), 0.0, None
        rounds = task.max_steps // skip
        for _ in range(rounds):
            frames, proprio = zip(*(self._look(state) for state in states), strict=True)
            started_s = time.perf_counter()
            z_BD = encoder(torch.from_numpy(np.stack(frames)))
            if history_BTD is None:
                history_BTD = z_BD[:, None].expand(-1, history, -1)
            else:
                history_BTD = torch.cat([history_BTD[:, 1:], z_BD[:, None]], dim=1)
            reference = torch.from_numpy(np.stack(references)).float()
            chunks = decide(history_BTD, goal, torch.from_numpy(np.stack(proprio)), reference).double().numpy()
            spent_s += time.perf_counter() - started_s
            for index, pair in enumerate(self.pairs):
                simulation.restore(states[index])
                for command_U in chunks[index]:
                    simulation.step(command_U)
                    reached[index] |= task.success(pair)
                states[index], references[index] = simulation.state(), chunks[index, -1]
                left_m[index] = task.distance_m(pair)
        return Flown(int((left_m < task.threshold_m).sum()), int(reached.sum()), left_m, spent_s / rounds)

    def oracle(self, seed: int) -> int:
        """Successes at the end of the search in the true dynamics."""
        task, simulation, successes = self.task, self.task.simulation, 0
        for pair in self.pairs:
            task.start(pair)
            rng, warm = np.random.default_rng([seed, pair.seed]), None
            for _ in range(task.max_steps // simulation.command.frame_skip):
                chunk_KU, warm = oracle.plan(task, pair, rng=rng, warm=warm)
                for command_U in chunk_KU:
                    simulation.step(command_U)
            successes += task.success(pair)
        return successes

    def _look(self, state: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        self.task.simulation.restore(state)
        return self.task.simulation.frame(), self.task.simulation.proprio()


def searching(planner: Planner, seed: int) -> Decide:
    """A planner with its warm start and noise."""
    size, random = planner.config, torch.Generator().manual_seed(seed)
    warm: list[Tensor] = []

    def decide(history_BTD: Tensor, goal_BD: Tensor, proprio_BP: Tensor, reference_BU: Tensor) -> Tensor:
        num, dim = reference_BU.shape
        start = warm.pop() if warm else torch.zeros(num, size.horizon, dim)
        noise = torch.randn(num, size.iterations, size.candidates, size.horizon, dim, generator=random)
        command_BKU, _, _, following, _ = planner(history_BTD, goal_BD, proprio_BP, reference_BU, start, noise)
        warm.append(following)
        return command_BKU

    return decide


def at_once(one_shot: OneShot) -> Decide:
    """The command head alone."""
    return lambda *inputs: one_shot(*inputs)[0]


def drawn(body: Body, seed: int) -> Decide:
    """Random plans, one entry per model step."""
    random = torch.Generator().manual_seed(seed)

    def decide(history_BTD: Tensor, goal_BD: Tensor, proprio_BP: Tensor, reference_BU: Tensor) -> Tensor:
        plan_BU = 2 * torch.rand(reference_BU.shape, generator=random) - 1
        return body.command_map(plan_BU, reference_BU)[0]

    return decide


def holding(space: CommandSpace) -> Decide:
    """Stays where it is."""

    def decide(history_BTD: Tensor, goal_BD: Tensor, proprio_BP: Tensor, reference_BU: Tensor) -> Tensor:
        rest = np.stack([space.hold(reference_U) for reference_U in reference_BU.double().numpy()])
        return torch.from_numpy(rest)[:, None].expand(-1, space.frame_skip, -1)

    return decide
