"""Building blocks shared by the networks."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn


def mlp(sizes: tuple[int, ...]) -> nn.Sequential:
    """Linear layers of the given sizes with LayerNorm and SiLU between them; the last one is plain."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def area_matrix(source: int, target: int) -> Tensor:
    """Rows that average `source` pixels into `target` pixels by covered area, (target, source).

    Two products with such matrices resize an image as OpenCV's INTER_AREA does, and export to any runtime.
    """
    edges = np.arange(target + 1) * (source / target)
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(source)[None]
    overlap = np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None)
    return torch.tensor(overlap / overlap.sum(1, keepdims=True), dtype=torch.float32)


class AdaptiveBlock(nn.Module):
    """Residual MLP block whose LayerNorm is scaled and shifted by a condition (AdaLN-zero, arXiv:2212.09748)."""

    def __init__(self, width: int, condition: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(condition, 3 * width)
        self.inner = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x_BW: Tensor, condition_BC: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(condition_BC).chunk(3, dim=-1)
        return x_BW + (1 + gate) * self.inner(self.norm(x_BW) * (1 + scale) + shift)
