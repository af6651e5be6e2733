"""LeWM's own plan shape, 300 candidates × 30 iterations × 5 chunks, on a GPU where there is one.

Through the compiled PyTorch planner in one CUDA graph: 30 unrolled iterations make an ONNX file of some ten thousand
nodes, and whether ONNX Runtime's CUDA provider takes it whole has not been tried.
"""

from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from deploy.bench.parity import random_controllable
from deploy.bench.result import Row
from robot_wm.evaluation.statistics import percentile
from robot_wm.planning.planner import Planner, PlannerConfig

SEARCH = PlannerConfig(candidates=300, iterations=30, horizon=5)
_TARGET_MS, _PLANS = 50.0, 200
_NAME = "plan 300 × 30 × 5"


def gpu_plan(seed: int) -> list[Row]:
    """p50 and p95 in fp32 and bfloat16; one row that says so where there is no GPU."""
    if not torch.cuda.is_available():
        return [Row(f"{_NAME} on a GPU: not measured, there is none here", None, "ms", n=0)]
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        planner = random_controllable(seed, SEARCH).planner.cuda()
        run = capture(planner, _inputs(planner, seed), dtype)
        taken_ms = np.array([_timed_ms(run) for _ in range(_PLANS)])
        for percent in (50, 95):
            found = percentile(taken_ms, percent)
            name = f"{_NAME}, {torch.cuda.get_device_name()}, {dtype}, compiled PyTorch in a CUDA graph: p{percent}"
            target = _TARGET_MS if percent == 95 and dtype == torch.float32 else None
            rows.append(Row(name, found.value, "ms", _PLANS, found.low, found.high, None, target, "lower"))
    return rows


@torch.no_grad()
def capture(planner: Planner, inputs: tuple[Tensor, ...], dtype: torch.dtype) -> Callable[[], None]:
    """The whole search as one CUDA graph over fixed buffers, its step compiled."""
    planner.evaluate = torch.compile(planner.evaluate, dynamic=False)  # type: ignore[method-assign]

    def plan() -> None:
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32, cache_enabled=False):
            planner(*inputs)

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            plan()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        plan()
    return graph.replay


def _inputs(planner: Planner, seed: int) -> tuple[Tensor, ...]:
    torch.manual_seed(seed)
    body, U, H = planner.body, planner.body.command.dim, SEARCH.horizon
    shapes = (
        (1, body.history, body.latent_dim), (1, body.latent_dim), (1, len(body.position_P)), (1, U), (1, H, U),
        (1, SEARCH.iterations, SEARCH.candidates, H, U),
    )  # fmt: skip
    return tuple(torch.randn(shape, device="cuda") for shape in shapes)


def _timed_ms(run: Callable[[], None]) -> float:
    torch.cuda.synchronize()
    started_s = perf_counter()
    run()
    torch.cuda.synchronize()
    return 1e3 * (perf_counter() - started_s)
