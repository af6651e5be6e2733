"""The labeler: an inverse-dynamics model from what changed between latents to a bounded latent action."""

import torch
from torch import Tensor, nn

from robot_wm.models.layers import mlp


class Labeler(nn.Module):
    """(z_{t-1}, z_t, z_{t+1}) to a Gaussian whose tanh is the latent action.

    Continuous, bounded and low-dimensional: quantised latent actions lose on continuous control, unconstrained ones
    copy the next frame (arXiv:2601.05230).
    """

    def __init__(self, latent_dim: int, action_dim: int, width: int):
        super().__init__()
        self.network = mlp((3 * latent_dim, width, width, 2 * action_dim))

    def forward(self, before_BD: Tensor, now_BD: Tensor, after_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, A) before the tanh and log standard deviation (B, A), kept within [-5, 1]."""
        features = torch.cat([now_BD - before_BD, now_BD, after_BD - now_BD], dim=-1)
        mean, raw = self.network(features).chunk(2, dim=-1)
        return mean, -2 + 3 * torch.tanh(raw)

    @staticmethod
    def sample(mean_BA: Tensor, log_std_BA: Tensor, noise_BA: Tensor) -> Tensor:
        """A reparameterised draw of the latent action in (-1, 1); `noise_BA` is standard normal."""
        return torch.tanh(mean_BA + log_std_BA.exp() * noise_BA)
