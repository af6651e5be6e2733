"""What several processes at one training (ranks) compute together: each has its share of every batch.

Every rank draws what is random for the whole batch, from generators in the same state, and takes its share; every mean
is made that of the whole batch. So any number of ranks sees what one process would see, and takes the same steps but
for rounding. In one process each function here does what its name says and nothing more.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def count() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which one this is, from 0."""
    return dist.get_rank() if count() > 1 else 0


def share(values: Tensor, dim: int = 0) -> Tensor:
    """This rank's part of what was drawn for a whole batch."""
    return values.chunk(count(), dim)[rank()]


def mean(values: Tensor) -> Tensor:
    """The average over ranks, the same bits on each; differentiable."""
    return values if count() == 1 else _Sum.apply(values) / count()


def agree(tensors: Iterable[Tensor]) -> None:
    """Every rank takes over the values of the first."""
    if count() > 1:
        for tensor in tensors:
            values = tensor.detach().contiguous()
            dist.broadcast(values, 0)
            tensor.detach().copy_(values)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their average over ranks, all of them in one message.

    Not DistributedDataParallel's hooks: they wait for its own `forward`, and a step calls six parts of the model beside
    each other, whose gradients meet in the latents. A few million parameters are one message of some megabytes, which
    takes less time than the bookkeeping that would hide it.
    """
    if count() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    for gradient, averaged in zip(gradients, (flat / count()).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(averaged.view_as(gradient))


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(None, gradient.contiguous())


@contextmanager
def shared_statistics(normalize: nn.BatchNorm1d) -> Iterator[None]:
    """Within, the layer normalises by mean and variance of the whole batch, as SyncBatchNorm does on GPUs alone."""
    if count() == 1:
        yield
        return
    normalize.forward = partial(_normalized, normalize)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del normalize.forward


@torch.compiler.disable
def _normalized(layer: nn.BatchNorm1d, x_BD: Tensor) -> Tensor:
    if not layer.training:
        return nn.BatchNorm1d.forward(layer, x_BD)
    mean_D = mean(x_BD.mean(0))
    variance_D = mean((x_BD - mean_D).square().mean(0))
    num = len(x_BD) * count()
    assert layer.running_mean is not None and layer.running_var is not None and layer.num_batches_tracked is not None
    assert layer.momentum is not None
    with torch.no_grad():
        layer.num_batches_tracked.add_(1)
        layer.running_mean.lerp_(mean_D, layer.momentum)
        layer.running_var.lerp_(variance_D * num / (num - 1), layer.momentum)
    return (x_BD - mean_D) * (variance_D + layer.eps).rsqrt()
