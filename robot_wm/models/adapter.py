"""The adapter: one body's commands to latent actions, and its latents back to proprioception."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robot_wm.contracts.errors import UserError
from robot_wm.models.layers import mlp


@dataclass(frozen=True)
class AdapterConfig:
    """Width of the adapter's hidden layer, and how many numbers of the latent it may look at."""

    width: int = 128
    context: int = 32

    def __post_init__(self) -> None:
        if min(self.width, self.context) < 1:
            raise UserError(f"adapter: width {self.width}, context {self.context}", "Both must be at least 1")


class Adapter(nn.Module):
    """(command chunk in plan units, proprio, z) to a latent action; all a new body has to teach."""

    def __init__(self, config: AdapterConfig, chunk_dim: int, proprio_dim: int, latent_dim: int, action_dim: int):
        super().__init__()
        self.context = nn.Linear(latent_dim, config.context)
        self.network = mlp((chunk_dim + proprio_dim + config.context, config.width, config.width, action_dim))

    def forward(self, chunk_BV: Tensor, proprio_BP: Tensor, z_BD: Tensor) -> Tensor:
        """Chunk (B, K · U) in plan units and standardised proprio (B, P) to the latent action (B, A) in (-1, 1)."""
        context_BE = torch.tanh(self.context(z_BD))
        return torch.tanh(self.network(torch.cat([chunk_BV, proprio_BP, context_BE], dim=-1)))


class ProprioHead(nn.Module):
    """Latents to proprio: the planner's idea of where its own body will be, and what a goal image asks for.

    Positions are read from the newest latent alone: read from the history, they would lean on its motion, and the
    still history of a goal image would be judged by a rule that moving ones taught.
    """

    def __init__(self, latent_dim: int, proprio_dim: int, width: int = 128):
        super().__init__()
        self.position = mlp((latent_dim, width, proprio_dim))
        self.linear = nn.Linear(latent_dim, proprio_dim)
        self.change = nn.Linear(latent_dim, proprio_dim, bias=False)

    def forward(self, history_BTD: Tensor, position_P: Tensor) -> Tensor:
        """Standardised proprio (B, P); `position_P` is 1 for its entries that measure a position, else 0."""
        now, before = history_BTD[:, -1], history_BTD[:, 0]
        still_BP = self.linear(now) + self.position(now)
        return still_BP + (1 - position_P) * self.change(now - before)
