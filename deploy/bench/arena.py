"""Many attempts side by side, planner in PyTorch: what a benchmark of planners needs, in a fraction of the time.

Frames, commands and limits are those of the runtime loop with a twin that is its model; guards and delays are left out.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.models.command import CommandMap
from robot_wm.planning.planner import OneShot, Planner
from sims import oracle
from sims.pairs import Pair, Task

# From history (B, T, D), goal (B, D), proprio (B, P) and the command in force (B, U) to commands (B, K, U).
Decide = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Inputs(NamedTuple):
    """What a decision is made from, see `Decide`."""

    history_BTD: Tensor
    goal_BD: Tensor
    proprio_BP: Tensor
    reference_BU: Tensor


@dataclass(frozen=True)
class Flown:
    """What came of B attempts.

    Attributes:
        reached_B, ever_B: the task's criterion at the end, and at any tick.
        distances_BT: what was left at the start and after every tick [m].
        hand_B3: where the end effector was at the end [m].
        states: of the simulation, one at the start and one after every tick, per attempt.
        inputs, chunk_BKU: of the last decision, and the commands that it gave.
    """

    reached_B: NDArray[np.bool_]
    ever_B: NDArray[np.bool_]
    distances_BT: NDArray[np.float64]
    hand_B3: NDArray[np.float64]
    states: tuple[tuple[NDArray[np.float64], ...], ...]
    inputs: Inputs
    chunk_BKU: Tensor

    @property
    def left_m(self) -> NDArray[np.float64]:
        """At the end, (B,)."""
        return self.distances_BT[:, -1]


class Arena:
    """A task and its pairs; every controller starts from the same."""

    def __init__(self, task: Task, pairs: Sequence[Pair]):
        self.task, self.pairs = task, list(pairs)

    @torch.no_grad()
    def fly(self, decide: Decide, encoder: nn.Module, history: int) -> Flown:
        """Let `decide` try all pairs at once; `history` latents are what it looks back on."""
        task, simulation = self.task, self.task.simulation
        states, references = self._starts()
        distances = [[pair.start_distance_m] for pair in self.pairs]
        ever_B, reached_B = np.zeros((2, len(self.pairs)), bool)
        hand_B3 = np.zeros((len(self.pairs), 3))
        goal_BD = encoder(torch.from_numpy(np.stack([pair.goal_frame for pair in self.pairs])))
        history_BTD: Tensor | None = None
        for _ in range(task.max_steps // simulation.command.frame_skip):
            frames, proprio = zip(*(self._look(passed[-1]) for passed in states), strict=True)
            z_BD = encoder(torch.from_numpy(np.stack(frames)))[:, None]
            before_BTD = z_BD.expand(-1, history, -1) if history_BTD is None else history_BTD
            history_BTD = torch.cat([before_BTD[:, 1:], z_BD], dim=1)
            reference_BU = torch.from_numpy(np.stack(references)).float()
            inputs = Inputs(history_BTD, goal_BD, torch.from_numpy(np.stack(proprio)), reference_BU)
            chunk_BKU = decide(*inputs)
            for index, pair in enumerate(self.pairs):
                simulation.restore(states[index][-1])
                for command_U in chunk_BKU[index].double().numpy():
                    simulation.step(command_U)
                    distances[index].append(task.distance_m(pair))
                    reached_B[index] = task.success(pair)
                    ever_B[index] |= reached_B[index]
                    states[index].append(simulation.state())
                references[index], hand_B3[index] = command_U, simulation.end_effector()
        passed = tuple(tuple(each) for each in states)
        return Flown(reached_B, ever_B, np.array(distances), hand_B3, passed, inputs, chunk_BKU)

    def oracle(self, seed: int) -> NDArray[np.bool_]:
        """Whether the search in the true dynamics is there at the end, (B,)."""
        task, simulation = self.task, self.task.simulation
        reached_B = np.zeros(len(self.pairs), bool)
        for index, pair in enumerate(self.pairs):
            task.start(pair)
            rng, warm = np.random.default_rng([seed, pair.seed]), None
            for _ in range(task.max_steps // simulation.command.frame_skip):
                chunk_KU, warm = oracle.plan(task, pair, rng=rng, warm=warm)
                for command_U in chunk_KU:
                    simulation.step(command_U)
            reached_B[index] = task.success(pair)
        return reached_B

    @torch.no_grad()
    def decision_ms(self, decide: Decide, encoder: nn.Module, history: int, repeats: int = 20) -> float:
        """Median time of one decision, picture in to commands out [ms], at the start of the first pair."""
        (state,), (reference,) = (each[:1] for each in self._starts())
        frame, proprio = (torch.from_numpy(seen)[None] for seen in self._look(state[-1]))
        goal_BD = encoder(torch.from_numpy(self.pairs[0].goal_frame)[None])
        reference_BU, taken_s = torch.from_numpy(reference)[None].float(), []
        for _ in range(repeats + 2):
            started_s = time.perf_counter()
            decide(encoder(frame)[:, None].expand(-1, history, -1), goal_BD, proprio, reference_BU)
            taken_s.append(time.perf_counter() - started_s)
        return 1000 * float(np.median(taken_s[2:]))  # the first ones allocate memory

    def _starts(self) -> tuple[list[list[NDArray[np.float64]]], list[NDArray[np.float64]]]:
        """Every pair's first state, and the command that is in force there."""
        states, references = [], []
        for pair in self.pairs:
            self.task.start(pair)
            states.append([self.task.simulation.state()])
            references.append(self.task.simulation.reference())
        return states, references

    def _look(self, state: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        self.task.simulation.restore(state)
        return self.task.simulation.frame(), self.task.simulation.proprio()


def searching(planner: Planner, seed: int, target_BP: Tensor | None = None) -> Decide:
    """A planner with its warm start and noise; `target_BP`: proprio to reach where it is told, see Planner.forward."""
    size, random = planner.config, torch.Generator().manual_seed(seed)
    warm: list[Tensor] = []

    def decide(history_BTD: Tensor, goal_BD: Tensor, proprio_BP: Tensor, reference_BU: Tensor) -> Tensor:
        num, dim = reference_BU.shape
        start = warm.pop() if warm else torch.zeros(num, size.horizon, dim)
        noise = torch.randn(num, size.iterations, size.candidates, size.horizon, dim, generator=random)
        command_BKU, _, _, following, _ = planner(
            history_BTD, goal_BD, proprio_BP, reference_BU, start, noise, target_BP
        )
        warm.append(following)
        return command_BKU

    return decide


def at_once(one_shot: OneShot) -> Decide:
    """The command head alone."""
    return lambda *inputs: one_shot(*inputs)[0]


def drawn(space: CommandSpace, seed: int) -> Decide:
    """Random plans, one entry per model step."""
    random, command_map = torch.Generator().manual_seed(seed), CommandMap(space)

    def decide(history_BTD: Tensor, goal_BD: Tensor, proprio_BP: Tensor, reference_BU: Tensor) -> Tensor:
        plan_BU = 2 * torch.rand(reference_BU.shape, generator=random) - 1
        command_BKU: Tensor = command_map(plan_BU, reference_BU)[0]
        return command_BKU

    return decide


def holding(space: CommandSpace) -> Decide:
    """Stays where it is."""

    def decide(history_BTD: Tensor, goal_BD: Tensor, proprio_BP: Tensor, reference_BU: Tensor) -> Tensor:
        rest = np.stack([space.hold(reference_U) for reference_U in reference_BU.double().numpy()])
        return torch.from_numpy(rest)[:, None].expand(-1, space.frame_skip, -1)

    return decide
