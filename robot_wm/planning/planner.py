"""The planner: model-predictive control over command chunks, unrolled so that it exports to one ONNX graph."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robot_wm.contracts.errors import UserError
from robot_wm.models.body import Body, Moment
from robot_wm.planning.samplers import CEM


@dataclass(frozen=True)
class ObjectiveConfig:
    """What a predicted future costs against a goal, on average over the horizon: plans arrive early and stay.

    Attributes:
        latent: weight of the mean squared latent distance.
        proprio: weight of the mean squared distance between the proprio that the predicted latent and the goal's
            latent imply (standardised; entries that measure a position).
        effort: weight of the mean squared plan.
    """

    latent: float = 0.1
    proprio: float = 1.0
    effort: float = 0.001


@dataclass(frozen=True)
class PlannerConfig:
    """Size of the search: steps ahead, candidates per iteration, iterations."""

    horizon: int = 2
    candidates: int = 128
    iterations: int = 3
    sampler: CEM = field(default_factory=CEM)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)

    def __post_init__(self) -> None:
        if min(self.horizon, self.iterations) < 1 or self.candidates <= self.sampler.elites:
            raise UserError(
                f"planner has horizon {self.horizon}, iterations {self.iterations}, candidates {self.candidates}",
                f"horizon and iterations ≥ 1, candidates above the sampler's {self.sampler.elites} elites",
            )


class Planner(nn.Module):
    """History, goal and proprio to the next command chunk."""

    def __init__(self, config: PlannerConfig, body: Body, ahead: int = 0):
        """`ahead`: model steps whose commands are already decided on when a plan is made (see `forward`)."""
        super().__init__()
        if ahead < 0:
            raise UserError(f"ahead is {ahead}", "Give 0 or more model steps")
        self.config, self.body, self.ahead = config, body, ahead

    def forward(
        self,
        history_BTD: Tensor,
        goal_BD: Tensor,
        proprio_BP: Tensor,
        reference_BU: Tensor,
        warm_BHU: Tensor,
        noise_BINHU: Tensor,
        pending_BSKU: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Search for the command chunk whose predicted future comes closest to the goal.

        Args:
            history_BTD: the last latents, newest last.
            goal_BD: latent of the goal image.
            proprio_BP: proprio now, in its own units.
            reference_BU: the command sent last, or the one just before `pending_BSKU`.
            warm_BHU: plan to start from, in plan units; zeros at first.
            noise_BINHU: standard normal draws.
            pending_BSKU: where `ahead` is above 0, its S chunks of commands in physical units, already sent or
                committed, whose effect `history_BTD` does not show yet; the search goes on from the last of them.

        Returns:
            The next chunk of commands (B, K, U) in physical units and within the limits, its cost (B,), the predicted
            mean squared latent error along it (B,), and the plan to start from next time (B, H, U).
        """
        now = self.body.observe(history_BTD, self.body.standardize(proprio_BP))
        if self.ahead:
            assert pending_BSKU is not None and pending_BSKU.shape[1] == self.ahead
            now, reference_BU = self.body.follow(now, pending_BSKU, reference_BU)
        goal_BP = self.body.read_goal(goal_BD)
        mean_BHU = warm_BHU
        std_BHU = torch.full_like(warm_BHU, self.config.sampler.initial_std)
        for iteration in range(self.config.iterations):
            plans = self.config.sampler.sample(mean_BHU, std_BHU, noise_BINHU[:, iteration])
            cost_BN, _ = self.evaluate(plans, now, reference_BU, goal_BD, goal_BP)
            mean_BHU, std_BHU = self.config.sampler.update(plans, cost_BN)
        cost, error = self.evaluate(mean_BHU[:, None], now, reference_BU, goal_BD, goal_BP)
        command_BKU, _ = self.body.command_map(mean_BHU[:, 0], reference_BU)
        next_warm = torch.cat([mean_BHU[:, 1:], torch.zeros_like(mean_BHU[:, :1])], dim=1)
        return command_BKU, cost.squeeze(1), error.squeeze(1), next_warm

    def evaluate(
        self, plans_BNHU: Tensor, now: Moment, reference_BU: Tensor, goal_BD: Tensor, goal_BP: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cost and mean predicted squared error (B, N) of plans; `goal_BP` is the goal's standardised proprio."""
        num, mask_P = plans_BNHU.shape[1], self.body.position_P
        now = now.repeat(num)
        reference, goal, goal_proprio = (x.repeat_interleave(num, dim=0) for x in (reference_BU, goal_BD, goal_BP))
        objective = self.config.objective
        costs, errors = [], []
        for plan_MU in plans_BNHU.flatten(0, 1).unbind(dim=1):
            commands, effective = self.body.command_map(plan_MU, reference)
            reference = commands[:, -1]
            now, log_error = self.body.imagine(now, effective.flatten(1))
            away = (now.proprio_BP - goal_proprio).square() * mask_P
            costs.append(
                objective.latent * (now.history_BTD[:, -1] - goal).square().mean(-1)
                + objective.proprio * away.sum(-1) / mask_P.sum()
            )
            errors.append(log_error.exp())
        cost_BN, error_BN = (torch.stack(terms).mean(0).unflatten(0, (-1, num)) for terms in (costs, errors))
        return cost_BN + objective.effort * plans_BNHU.square().mean((2, 3)), error_BN
