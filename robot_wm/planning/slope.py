"""The model's gradient as a graph of plain operations, so that a search that descends along it exports as well."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

from robot_wm.planning.planner import Planner, flatten, pose


@contextmanager
def traced_slope(planner: Planner) -> Iterator[None]:
    """Within it, the slope of one problem's candidates is such a graph (shapes are those of a batch of one).

    The exporter does not see into torch.func.grad; what it computes is written out beforehand.
    """
    if not planner.config.sampler.descends:
        yield
        return
    eager = planner.slope
    with torch.no_grad():
        planner.slope = make_fx(lambda *inputs: eager(*inputs), _decompositions())(*_example(planner))
    try:
        yield
    finally:
        del planner.slope  # a module gives its place to nothing else
        planner.slope = eager


def _example(planner: Planner) -> tuple[Tensor, ...]:
    body, size = planner.body, planner.config
    problem = pose(
        body,
        torch.zeros(1, body.history, body.latent_dim),
        torch.zeros(1, body.latent_dim),
        torch.zeros(1, body.proprio_dim),
        torch.zeros(1, body.command.dim),
        torch.zeros(1, body.proprio_dim),
    )
    return torch.zeros(1, size.candidates, size.horizon, body.command.dim), *flatten(problem)


def _decompositions() -> dict[Any, Any]:
    """The core operators; memory that is claimed before it is filled is zeros instead, which ONNX knows."""
    table: dict[Any, Any] = dict(core_aten_decompositions())

    def zeros(size: list[int], physical_layout: list[int], **kinds: Any) -> Tensor:
        return torch.zeros(size, dtype=kinds.get("dtype"))

    table[torch.ops.aten.empty_permuted.default] = zeros
    return table
