"""A low-rank update of the dynamics: few numbers for few transitions, gone into the weights when the fit is over."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class _Update(nn.Module):
    """A matrix with the product of a tall and a wide one added, which is nothing at first (Hu et al. 2021, LoRA)."""

    def __init__(self, weight: Tensor, rank: int):
        super().__init__()
        rows, columns = weight.shape
        self.tall = nn.Parameter(torch.zeros(rows, rank))
        self.wide = nn.Parameter(torch.randn(rank, columns) / columns**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.tall @ self.wide


@contextmanager
def low_rank(module: nn.Module, rank: int) -> Iterator[None]:
    """Inside, the matrices of a module change by an update of this rank and nothing else; biases change freely.

    Matrices with no more rows or columns than that change freely as well, and with rank 0 all do. Behind it the module
    is an ordinary one again, its parameters named as they were and trainable.
    """
    layers = [
        each for each in module.modules() if isinstance(each, nn.Linear) and rank and min(each.weight.shape) > rank
    ]
    for layer in layers:
        layer.weight.requires_grad_(False)
        parametrize.register_parametrization(layer, "weight", _Update(layer.weight, rank))
    try:
        yield
    finally:
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
            layer.weight.requires_grad_(True)
