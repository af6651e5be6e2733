"""Other people's searches on our calibrated model: pytorch-mppi and pytorch-icem. Runs in their environment.

They see the model through two functions, as their documentation has it: a state after a plan entry, and its cost. As
many imagined plans as ours are spent, none of them with the command head.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deploy.bench.arena import Decide
from deploy.bench.budget import planner_named
from deploy.bench.peers.contest import Contest, Entrant, Outcome, count, judge
from deploy.bench.peers.ours import parts
from robot_wm.contracts import run
from robot_wm.models.body import Body, Goal, Moment
from robot_wm.planning.objectives import Objective, Step
from robot_wm.planning.planner import PlannerConfig, pose
from robot_wm.planning.samplers import MPPI

_ALONE = replace(planner_named("mppi"), propose=0.0)


class Flat:
    """Our model as they want it: everything that is known of a moment in one row (N, nx)."""

    def __init__(self, body: Body, objective: Objective):
        self.body, self.objective = body, objective
        self.sizes = (body.history * body.latent_dim, body.proprio_dim, body.proprio_dim, body.command.dim)

    def pack(self, now: Moment, reference_BU: Tensor) -> Tensor:
        """A moment and the command in force in it, (B, nx)."""
        return torch.cat([now.history_BTD.flatten(1), now.proprio_BP, now.offset_BP, reference_BU], dim=1)

    def unpack(self, state_Nx: Tensor) -> tuple[Moment, Tensor]:
        """The inverse of `pack`."""
        history, proprio, offset, reference = state_Nx.split(self.sizes, dim=-1)
        return Moment(history.unflatten(-1, (self.body.history, -1)), proprio, offset), reference

    def dynamics(self, state_Nx: Tensor, plan_NU: Tensor) -> Tensor:
        """The state one model step later."""
        now, reference_NU = self.unpack(state_Nx)
        commands, effective = self.body.command_map(plan_NU.clamp(-1, 1), reference_NU)
        now, _ = self.body.imagine(now, effective.flatten(1), reference_NU)
        return self.pack(now, commands[:, -1])

    def cost(self, goal: Goal) -> Callable[[Tensor, Tensor], Tensor]:
        """Our objective of one step, (N,)."""

        def of(state_Nx: Tensor, plan_NU: Tensor) -> Tensor:
            now, _ = self.unpack(state_Nx)
            certain_N = torch.full_like(plan_NU[:, 0], -torch.inf)
            spread = Goal(*(part.expand(len(plan_NU), -1) for part in goal))
            return self.objective([Step(now, certain_N, plan_NU, plan_NU)], spread)

        return of


def pytorch_mppi(contest: Contest) -> Outcome:
    """MPPI by UM-ARM-Lab's package."""
    import pytorch_mppi as theirs  # type: ignore[import-not-found]

    size, sampler = _ALONE, _ALONE.sampler
    assert isinstance(sampler, MPPI)

    def make(flat: Flat, goal: Goal) -> Any:
        dim = flat.body.command.dim
        return theirs.MPPI(
            flat.dynamics, flat.cost(goal), sum(flat.sizes), torch.eye(dim) * sampler.initial_std**2,
            num_samples=size.candidates * size.iterations, horizon=size.horizon, lambda_=sampler.temperature,
            u_min=-torch.ones(dim), u_max=torch.ones(dim), U_init=torch.zeros(size.horizon, dim),
        )  # fmt: skip

    return _fly(contest, size, make)


def pytorch_icem(contest: Contest) -> Outcome:
    """Improved CEM by UM-ARM-Lab's package."""
    import pytorch_icem as theirs  # type: ignore[import-not-found]

    size = _ALONE

    def make(flat: Flat, goal: Goal) -> Any:
        dim, cost = flat.body.command.dim, flat.cost(goal)

        def along(states_NHx: Tensor, plans_NHU: Tensor) -> Tensor:
            return cost(states_NHx.flatten(0, 1), plans_NHU.flatten(0, 1)).unflatten(0, plans_NHU.shape[:2]).mean(1)

        return theirs.iCEM(
            flat.dynamics, along, sum(flat.sizes), dim,
            # 0.1.0 wants as many axes as there are commands, where it means as many entries.
            sigma=torch.full((1,) * (dim - 1) + (dim,), 0.6), num_samples=size.candidates, num_elites=6,
            horizon=size.horizon, warmup_iters=size.iterations, online_iters=size.iterations,
        )  # fmt: skip

    return _fly(contest, size, make)


def _fly(contest: Contest, size: PlannerConfig, make: Callable[[Flat, Goal], Any]) -> Outcome:
    ready = parts(contest, size)
    body = ready.planner.body

    def deciding(seed: int) -> Decide:
        torch.manual_seed(seed)
        searches: list[Any] = []

        def decide(history_BTD: Tensor, goal_BD: Tensor, proprio_BP: Tensor, reference_BU: Tensor) -> Tensor:
            problem = pose(body, history_BTD, goal_BD, proprio_BP, reference_BU)
            flat = Flat(body, ready.planner.objective)
            state_Bx = flat.pack(problem.now, reference_BU)
            if not searches:
                searches.extend(make(flat, Goal(*(x[i : i + 1] for x in problem.goal))) for i in range(len(state_Bx)))
            plan_BU = torch.stack([s.command(state) for s, state in zip(searches, state_Bx, strict=True)])
            return body.command_map(plan_BU.clamp(-1, 1), reference_BU)[0]

        return decide

    train_s = run.read_run(Path(contest.calibration or ""), "calibrate").wall_s
    entrant = Entrant(
        ready.encoder, deciding, body.history, contest.transitions, train_s, 0, count(ready.encoder, body)
    )  # fmt: skip
    with contest.arena() as arena:
        return judge(arena, entrant, contest.seed, "on our calibrated model; no command head")
