"""Heads that tie latents and latent actions to what moved. None of them is needed to plan."""

import torch
from torch import Tensor, nn

from robot_wm.models.layers import mlp


class MotionHeads(nn.Module):
    """The label-free tie: optical flow, decoded from the latent action and the latent it starts from.

    Without it (or simulator state) the labeler collapses or passes the next latent through.
    """

    def __init__(self, latent_dim: int, action_dim: int, cells: int, width: int):
        super().__init__()
        self.flow = mlp((latent_dim + action_dim, width, 2 * cells * cells))
        self.moments = nn.Linear(action_dim, 4)

    def forward(self, z_BD: Tensor, action_BA: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled flow (B, cells · cells · 2) and its four moments (B, 4), both in units of their deviation."""
        return self.flow(torch.cat([z_BD, action_BA], dim=-1)), self.moments(action_BA)


class StateHeads(nn.Module):
    """The simulator's tie, for simulated clips only: hand and object in the camera's frame, linearly."""

    def __init__(self, latent_dim: int, action_dim: int):
        super().__init__()
        self.hand = nn.Linear(latent_dim, 3)
        self.object = nn.Linear(latent_dim, 3)
        self.displacement = nn.Linear(action_dim, 3)

    def forward(self, z_BD: Tensor, action_BA: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Hand (B, 3), object (B, 3), and displacement of the hand (B, 3), in units of their deviations."""
        return self.hand(z_BD), self.object(z_BD), self.displacement(action_BA)
