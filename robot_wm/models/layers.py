"""Building blocks shared by the networks."""

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mlp(sizes: tuple[int, ...]) -> nn.Sequential:
    """Linear layers of the given sizes with LayerNorm and SiLU between them; the last one is plain."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3 × 3 convolution, GroupNorm, SiLU; both channel counts but the first are multiples of 8."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1), nn.GroupNorm(8, outputs), nn.SiLU())


class ResidualConv(nn.Module):
    """Two convolutions beside the identity, which is all that the block is at first (arXiv:1603.05027)."""

    def __init__(self, channels: int):
        super().__init__()
        self.inner = nn.Sequential(
            nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
        )  # fmt: skip
        for parameter in self.inner[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x_BCYX: Tensor) -> Tensor:
        return x_BCYX + self.inner(x_BCYX)


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
        # Three products, with the ones inside their biases: a search spends a fifth of its time on entry-wise steps.
        width, weight, bias = x_BW.shape[-1], self.modulation.weight, self.modulation.bias
        shift = F.linear(condition_BC, weight[:width], bias[:width])
        scale = F.linear(condition_BC, weight[width : 2 * width], bias[width : 2 * width] + 1)
        gate = F.linear(condition_BC, weight[2 * width :], bias[2 * width :] + 1)
        return x_BW + gate * self.inner(self.norm(x_BW) * scale + shift)
