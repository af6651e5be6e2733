"""The command head: from where the body is and where it should be, a whole plan at once."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robot_wm.contracts.errors import UserError
from robot_wm.models.body import Problem
from robot_wm.models.command import CommandMap
from robot_wm.models.layers import mlp


@dataclass(frozen=True)
class CommandHeadConfig:
    """Size of the command head: hidden width, and model steps of the plan that it gives."""

    width: int = 256
    horizon: int = 4

    def __post_init__(self) -> None:
        if min(self.width, self.horizon) < 1:
            raise UserError(f"head: width {self.width}, horizon {self.horizon}", "Both must be at least 1")


class CommandHead(nn.Module):
    """A goal-conditioned inverse model: alone a controller without search, and a first guess for the search."""

    def __init__(self, config: CommandHeadConfig, latent_dim: int, history: int, proprio_dim: int, command: CommandMap):
        super().__init__()
        self.config, self.command_map = config, command
        dim = command.space.dim
        inputs = (history + 1) * latent_dim + 2 * proprio_dim + dim
        self.network = mlp((inputs, config.width, config.width, config.horizon * dim))

    def forward(self, problem: Problem) -> Tensor:
        """A plan (B, H, U) in plan units, each entry in (-1, 1)."""
        now, reference_BU, goal = problem
        z_BTD, away_BP = now.history_BTD, (goal.proprio_BP - now.proprio_BP) * goal.asked_BP
        features = (
            *(z_BTD[:, -1:] - z_BTD[:, :-1]).unbind(dim=1),
            z_BTD[:, -1],
            goal.latent_BD - z_BTD[:, -1],
            now.proprio_BP,
            away_BP,
            self.command_map.share(reference_BU),
        )
        plan_BV = torch.tanh(self.network(torch.cat(features, dim=-1)))
        return plan_BV.unflatten(1, (self.config.horizon, -1))
