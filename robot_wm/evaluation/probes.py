"""What a frozen representation tells linearly: ridge probes, fitted on some scenes and judged on others."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Probe:
    """A linear map with offset, (D, K) and (K,)."""

    weight_DK: Tensor
    offset_K: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """(..., D) to (..., K)."""
        return features @ self.weight_DK + self.offset_K


def fit_probe(features_ND: Tensor, targets_NK: Tensor, ridge: float = 1e-3) -> Probe:
    """Least squares, penalised by `ridge` times the features' mean variance; unknown targets (NaN) do not count.

    Raises:
        ValueError: no row whose target is known.
    """
    known = ~targets_NK.isnan().any(-1)
    if not known.any():
        raise ValueError("no target is known")
    x, y = features_ND[known].double(), targets_NK[known].double()
    centre, middle = x.mean(0), y.mean(0)
    x = x - centre
    covariance = x.T @ x / len(x)
    penalty = ridge * covariance.diagonal().mean().clamp(min=1e-12) * torch.eye(len(covariance), dtype=x.dtype)
    weight = torch.linalg.solve(covariance + penalty, x.T @ (y - middle) / len(x))
    return Probe(weight.float(), (middle - centre @ weight).float())


@dataclass(frozen=True)
class Judged:
    """How well targets are explained: R² over all entries, of each entry, and the median distance (target's unit)."""

    r2: float
    r2_K: tuple[float, ...]
    median: float


def judge(predicted_NK: Tensor, targets_NK: Tensor) -> Judged:
    """R² against the mean of the targets; unknown targets (NaN) do not count."""
    known = ~targets_NK.isnan().any(-1)
    y, error = targets_NK[known], (predicted_NK - targets_NK)[known]
    left_K, spread_K = error.square().sum(0), (y - y.mean(0)).square().sum(0)
    r2_K = tuple((1 - left_K / spread_K).tolist())
    return Judged(float(1 - left_K.sum() / spread_K.sum()), r2_K, float(error.norm(dim=-1).median()))
