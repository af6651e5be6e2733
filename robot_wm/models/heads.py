"""Heads that tie latents and latent actions to what moved. None of them is needed to plan."""

import torch
from torch import Tensor, nn

from robot_wm.contracts.dataset import ARM_POINTS
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
    """The simulator's tie, for simulated clips only: hand, object and arm in the camera's frame, linearly."""

    def __init__(self, latent_dim: int, action_dim: int):
        super().__init__()
        self.hand = nn.Linear(latent_dim, 3)
        self.object = nn.Linear(latent_dim, 3)
        self.arm = nn.Linear(latent_dim, 3 * ARM_POINTS)
        self.displacement = nn.Linear(action_dim, 3)

    def forward(self, z_BD: Tensor, action_BA: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Hand (B, 3), object (B, 3), arm (B, P, 3), displacement of the hand (B, 3), in units of their deviations."""
        return self.hand(z_BD), self.object(z_BD), self.arm(z_BD).unflatten(-1, (-1, 3)), self.displacement(action_BA)


class GoalHead(nn.Module):
    """What a clip's own future teaches: the latent action that led towards a later latent, and how far off that was.

    Every later frame is taken for a goal in hindsight (Andrychowicz et al., arXiv:1707.01495); no command is needed.
    """

    def __init__(self, latent_dim: int, action_dim: int, width: int):
        super().__init__()
        self.network = mlp((3 * latent_dim, width, width, action_dim + 1))

    def forward(self, history_BTD: Tensor, goal_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Latent action (B, A), and the log of the number of steps to the goal (B,)."""
        now_BD = history_BTD[:, -1]
        features = torch.cat([now_BD - history_BTD[:, 0], now_BD, goal_BD], dim=-1)
        action_BA, log_steps_B1 = self.network(features).tensor_split([-1], dim=-1)
        return action_BA, log_steps_B1.squeeze(-1)
