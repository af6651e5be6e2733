"""Samplers: how candidates are drawn and how a distribution over plans learns from their costs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robot_wm.contracts.errors import UserError


@dataclass(frozen=True)
class CEM:
    """Cross-entropy method (Rubinstein, "The cross-entropy method", 1999): refit mean and deviation to the elites.

    Few elites: with few iterations the first command is only as exact as the last refit.

    Attributes:
        elites: candidates that are kept.
        initial_std, minimum_std: deviation in plan units, of the first draw and at least.
    """

    elites: int = 6
    initial_std: float = 0.6
    minimum_std: float = 0.02

    def __post_init__(self) -> None:
        if self.elites < 2 or not 0 < self.minimum_std <= self.initial_std:
            raise UserError(f"sampler is {self}", "elites ≥ 2, 0 < minimum_std ≤ initial_std")

    def sample(self, mean_BHU: Tensor, std_BHU: Tensor, noise_BNHU: Tensor) -> Tensor:
        """Candidates (B, N, H, U) in [-1, 1]; the first one is the mean itself."""
        spread = (mean_BHU[:, None] + std_BHU[:, None] * noise_BNHU).clamp(-1, 1)
        return torch.cat([mean_BHU[:, None], spread[:, 1:]], dim=1)

    def update(self, plans_BNHU: Tensor, cost_BN: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (B, H, U) after the costs of the candidates are known."""
        best_BK = torch.topk(cost_BN, self.elites, dim=1, largest=False).indices
        shape = (-1, -1, *plans_BNHU.shape[2:])
        elites = torch.gather(plans_BNHU, 1, best_BK[:, :, None, None].expand(shape))
        mean = elites.mean(dim=1)
        return mean, (elites - mean[:, None]).square().mean(dim=1).sqrt().clamp(min=self.minimum_std)
