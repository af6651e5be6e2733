"""The dynamics: latent history and latent action to the next latent and how wrong that may be."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_wm.contracts import limits
from robot_wm.contracts.errors import UserError
from robot_wm.models.layers import AdaptiveBlock


@dataclass(frozen=True)
class DynamicsConfig:
    """Size of the dynamics: width and number of residual blocks."""

    width: int = 320
    blocks: int = 3

    def __post_init__(self) -> None:
        limits.refuse_over("model.dynamics.width", self.width, limits.LAYER_WIDTH)
        limits.refuse_over("model.dynamics.blocks", self.blocks, limits.LAYERS)
        if self.width < 1 or self.blocks < 0:
            raise UserError(f"model.dynamics: width {self.width}, blocks {self.blocks}", "Give width ≥ 1, blocks ≥ 0")


class Dynamics(nn.Module):
    """A residual MLP, small enough to be searched at camera rate on two CPU cores."""

    def __init__(self, config: DynamicsConfig, latent_dim: int, history: int, action_dim: int):
        super().__init__()
        self.history = history
        self.inputs = nn.Linear(history * latent_dim + action_dim, config.width)
        self.blocks = nn.ModuleList(AdaptiveBlock(config.width, action_dim) for _ in range(config.blocks))
        self.outputs = nn.Linear(config.width, latent_dim)
        self.variance = nn.Linear(config.width, 1)
        nn.init.zeros_(self.outputs.weight)
        nn.init.zeros_(self.outputs.bias)

    def forward(self, history_BTD: Tensor, action_BA: Tensor) -> tuple[Tensor, Tensor]:
        """The next latent (B, D) and the log of its expected mean squared error (B,)."""
        x_BW = self.features(history_BTD, action_BA)
        # The error is judged, not traded: its gradient stays out of the prediction.
        return self.predict(history_BTD, x_BW), self.variance(x_BW.detach()).squeeze(-1)

    def features(self, history_BTD: Tensor, action_BA: Tensor) -> Tensor:
        """What the last layer is linear in, (B, W)."""
        dim, weight = history_BTD.shape[-1], self.inputs.weight
        x_BW = F.linear(action_BA, weight[:, self.history * dim :], self.inputs.bias)
        for index, z_BD in enumerate(history_BTD.unbind(dim=1)):  # a product each; nothing is put together for one
            x_BW = torch.addmm(x_BW, z_BD, weight[:, index * dim : (index + 1) * dim].T)
        for block in self.blocks:
            x_BW = block(x_BW, action_BA)
        return x_BW

    def predict(self, history_BTD: Tensor, x_BW: Tensor) -> Tensor:
        """The next latent (B, D) from the features."""
        return history_BTD[:, -1] + self.outputs(x_BW)
