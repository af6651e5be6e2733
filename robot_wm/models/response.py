"""How what a robot measures of itself answers its commands, whatever its camera sees."""

import torch
from torch import Tensor, nn


class Response(nn.Module):
    """The change of proprio over a command chunk, linear in the chunk, the command in force and proprio.

    Calibration fits it in closed form (`calibration/response_fit.py`) and decides per entry whether it, or the latent
    that the dynamics predict, tells better what the robot will measure.

    Attributes:
        used_P: 1 for the entries of proprio that it tells; all 0 before calibration.
    """

    used_P: Tensor

    def __init__(self, chunk_dim: int, command_dim: int, proprio_dim: int):
        super().__init__()
        self.linear = nn.Linear(chunk_dim + command_dim + proprio_dim, proprio_dim)
        self.linear.requires_grad_(False)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("used_P", torch.zeros(proprio_dim))

    def forward(self, chunk_BV: Tensor, reference_BU: Tensor, proprio_BP: Tensor) -> Tensor:
        """Standardised proprio (B, P) after the chunk.

        Args:
            chunk_BV: commands in plan units, (B, K · U).
            reference_BU: the command in force before them, as a share of its limits in [-1, 1].
            proprio_BP: standardised.
        """
        return proprio_BP + self.linear(torch.cat([chunk_BV, reference_BU, proprio_BP], dim=1))
