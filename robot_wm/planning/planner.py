"""The planner: model-predictive control over command chunks, unrolled so that it exports to one ONNX graph."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.contracts.errors import UserError
from robot_wm.models.adapter import Adapter, ProprioHead
from robot_wm.models.command import CommandMap
from robot_wm.models.dynamics import Dynamics
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


@dataclass
class Body:
    """The parts of a calibrated model that planning needs.

    Attributes:
        dynamics, adapter, proprio_head: the networks.
        command: the command space.
        proprio_mean_P, proprio_std_P: standardisation of proprio.
        goal_mask_P: 1 for entries of proprio that a goal image determines (positions), 0 for the others.
    """

    dynamics: Dynamics
    adapter: Adapter
    proprio_head: ProprioHead
    command: CommandSpace
    proprio_mean_P: Tensor
    proprio_std_P: Tensor
    goal_mask_P: Tensor


class Planner(nn.Module):
    """History, goal and proprio to the next command chunk."""

    proprio_mean_P: Tensor
    proprio_std_P: Tensor
    goal_mask_P: Tensor

    def __init__(self, config: PlannerConfig, body: Body):
        super().__init__()
        self.config = config
        self.command = body.command
        self.dynamics, self.adapter, self.proprio_head = body.dynamics, body.adapter, body.proprio_head
        self.command_map = CommandMap(body.command)
        for name in ("proprio_mean_P", "proprio_std_P", "goal_mask_P"):
            self.register_buffer(name, getattr(body, name))

    @property
    def proprio_dim(self) -> int:
        return len(self.proprio_mean_P)

    @property
    def history(self) -> int:
        return self.dynamics.history

    @property
    def latent_dim(self) -> int:
        return self.dynamics.outputs.out_features

    def forward(
        self,
        history_BTD: Tensor,
        goal_BD: Tensor,
        proprio_BP: Tensor,
        reference_BU: Tensor,
        warm_BHU: Tensor,
        noise_BINHU: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Search for the command chunk whose predicted future comes closest to the goal.

        Args:
            history_BTD: the last latents, newest last.
            goal_BD: latent of the goal image.
            proprio_BP: proprio now, in its own units.
            reference_BU: the command sent last.
            warm_BHU: plan to start from, in plan units; zeros at first.
            noise_BINHU: standard normal draws.

        Returns:
            The next chunk of commands (B, K, U) in physical units and within the limits, its cost (B,), the predicted
            mean squared latent error along it (B,), and the plan to start from next time (B, H, U).
        """
        proprio_BP = (proprio_BP - self.proprio_mean_P) / self.proprio_std_P
        still_BTD = goal_BD[:, None].expand(-1, self.history, -1)
        goal_BP = self.proprio_head(still_BTD, self.goal_mask_P)
        mean_BHU = warm_BHU
        std_BHU = torch.full_like(warm_BHU, self.config.sampler.initial_std)
        for iteration in range(self.config.iterations):
            plans = self.config.sampler.sample(mean_BHU, std_BHU, noise_BINHU[:, iteration])
            cost_BN, _ = self.evaluate(plans, history_BTD, proprio_BP, reference_BU, goal_BD, goal_BP)
            mean_BHU, std_BHU = self.config.sampler.update(plans, cost_BN)
        cost, error = self.evaluate(mean_BHU[:, None], history_BTD, proprio_BP, reference_BU, goal_BD, goal_BP)
        command_BKU, _ = self.command_map(mean_BHU[:, 0], reference_BU)
        next_warm = torch.cat([mean_BHU[:, 1:], torch.zeros_like(mean_BHU[:, :1])], dim=1)
        return command_BKU, cost.squeeze(1), error.squeeze(1), next_warm

    def evaluate(
        self,
        plans_BNHU: Tensor,
        history_BTD: Tensor,
        proprio_BP: Tensor,
        reference_BU: Tensor,
        goal_BD: Tensor,
        goal_BP: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Cost and mean predicted squared error (B, N) of plans; `proprio_BP` and `goal_BP` are standardised."""
        num = plans_BNHU.shape[1]

        def spread(x: Tensor) -> Tensor:
            return x[:, None].expand(-1, num, *x.shape[1:]).flatten(0, 1)

        history, proprio, reference = spread(history_BTD), spread(proprio_BP), spread(reference_BU)
        goal, goal_proprio = spread(goal_BD), spread(goal_BP)
        objective = self.config.objective
        # What proprio measures now is exact; latents only say how it will change.
        offset = (proprio - self.proprio_head(history, self.goal_mask_P)) * self.goal_mask_P
        costs, errors = [], []
        for plan_MU in plans_BNHU.flatten(0, 1).unbind(dim=1):
            commands, effective = self.command_map(plan_MU, reference)
            reference = commands[:, -1]
            action = self.adapter(effective.flatten(1), proprio, history[:, -1])
            z_MD, log_error = self.dynamics(history, action)
            history = torch.cat([history[:, 1:], z_MD[:, None]], dim=1)
            proprio = self.proprio_head(history, self.goal_mask_P) + offset
            away = (proprio - goal_proprio).square() * self.goal_mask_P
            costs.append(
                objective.latent * (z_MD - goal).square().mean(-1)
                + objective.proprio * away.sum(-1) / self.goal_mask_P.sum()
            )
            errors.append(log_error.exp())
        cost_BN, error_BN = (torch.stack(terms).mean(0).unflatten(0, (-1, num)) for terms in (costs, errors))
        return cost_BN + objective.effort * plans_BNHU.square().mean((2, 3)), error_BN
