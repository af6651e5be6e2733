"""How unsure the dynamics are: the posterior of their last layer, as calibration's log leaves it."""

import torch
from torch import Tensor, nn

_MOST_DIRECTIONS = 64  # a search asks at every step of every candidate: all directions would cost it an eighth


class Posterior(nn.Module):
    """Expected squared error of a predicted latent, from what goes into the last layer.

    A linear layer that was fitted to features `x` by ridge regression is unsure of new ones in proportion to
    `1 / N + (x - mean)ᵀ (S + λ)⁻¹ (x - mean) / N`, with S the features' covariance (Bishop 2006, equation 3.59): least
    where the log has been. The leading directions of S count one by one, the others together. Scale and power of that
    are settled on episodes that were not fitted (`calibration/posterior_fit.py`).

    Attributes:
        mean_W: of the features, W of them.
        direction_WR: leading directions of their covariance, orthonormal.
        precision_R, precision_rest: along each, and along all others.
        power, log_scale: log error = log_scale + power · log(1 + distance).
    """

    mean_W: Tensor
    direction_WR: Tensor
    precision_R: Tensor
    precision_rest: Tensor
    power: Tensor
    log_scale: Tensor

    def __init__(self, width: int):
        super().__init__()
        directions = min(width, _MOST_DIRECTIONS)
        for name, value in (
            ("mean_W", torch.zeros(width)),
            ("direction_WR", torch.eye(width)[:, :directions]),
            ("precision_R", torch.ones(directions)),
            ("precision_rest", torch.ones(())),
            ("power", torch.ones(())),
            ("log_scale", torch.zeros(())),
        ):
            self.register_buffer(name, value)

    def distance(self, x_BW: Tensor) -> Tensor:
        """From the log's features, squared, in units of their spread (B,)."""
        away_BW = x_BW - self.mean_W
        along_BR = (away_BW @ self.direction_WR).square()
        rest_B = torch.relu(away_BW.square().sum(-1) - along_BR.sum(-1))
        return (along_BR * self.precision_R).sum(-1) + rest_B * self.precision_rest

    def forward(self, x_BW: Tensor) -> Tensor:
        """Log of the expected mean squared error of the next latent (B,)."""
        return self.log_scale + self.power * torch.log(1 + self.distance(x_BW))
