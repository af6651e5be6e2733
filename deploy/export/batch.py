"""The same graphs for any number of rows at once: many frames to encode, or one machine that plans for many robots.

A robot runs the graphs of batch 1, whose shapes are fixed: that is what CUDA graphs and TensorRT ask for.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from deploy.export.graphs import export_graph
from deploy.export.parity import MOST_TIPPED, Recorded
from deploy.runtime.graph import CPU, Signature, encode_signature, plan_signature
from robot_wm.contracts.bundle import ENCODE_FILE, PLAN_FILE, ControllerSpec
from robot_wm.contracts.errors import UserError

BATCH_FILES = {ENCODE_FILE: "encode_batch.onnx", PLAN_FILE: "plan_batch.onnx"}
_ROWS = (1, 3)  # compared with PyTorch; 2 is what the graphs are traced with


def export_batch(encoder: nn.Module, planner: nn.Module, spec: ControllerSpec, folder: Path) -> None:
    """Write both graphs of BATCH_FILES into `folder`; UserError as `export_graph`."""
    export_graph(encoder, encode_signature(spec), folder / BATCH_FILES[ENCODE_FILE], dynamic_batch=True)
    export_graph(planner, plan_signature(spec), folder / BATCH_FILES[PLAN_FILE], dynamic_batch=True)


def check_batch(
    encoder: nn.Module, planner: nn.Module, spec: ControllerSpec, folder: Path, recorded: Recorded, tolerance: float
) -> None:
    """Compare the batch graphs with PyTorch on batches of several sizes.

    Raises:
        UserError: an output of the encoder differs by more than `tolerance`, or those of more plans than rounding tips
            (MOST_TIPPED, and at least one).
    """
    generator = torch.Generator().manual_seed(0)
    plans, off = 0, 0
    for rows in _ROWS:
        picked = torch.arange(rows) % len(recorded.frames_NYXC)
        frames = torch.from_numpy(recorded.frames_NYXC)[picked]
        worst_B = _differences(folder / BATCH_FILES[ENCODE_FILE], encode_signature(spec), encoder, [frames])
        if not worst_B.max() <= tolerance:
            raise UserError(
                f"{BATCH_FILES[ENCODE_FILE]} differs from PyTorch by {worst_B.max():.3g}, more than {tolerance:g}",
                "No bundle was written; export without dynamic_batch",
            )
        inputs, _ = plan_signature(spec)
        values = [0.5 * torch.randn((rows, *shape[1:]), generator=generator) for _, shape in inputs.values()]
        plans += rows
        worst_B = _differences(folder / BATCH_FILES[PLAN_FILE], plan_signature(spec), planner, values)
        off += int((~(worst_B <= tolerance)).sum())
    if off > max(1, MOST_TIPPED * plans):
        raise UserError(
            f"{off} of {plans} plans of {BATCH_FILES[PLAN_FILE]} differ from PyTorch by more than {tolerance:g}",
            "No bundle was written; export without dynamic_batch",
        )


@torch.no_grad()
def _differences(
    path: Path, signature: tuple[Signature, Signature], module: nn.Module, values: Sequence[Tensor]
) -> np.ndarray:
    """The largest difference from PyTorch in each row of the batch, (B,)."""
    session = onnxruntime.InferenceSession(str(path), providers=[CPU])
    found = session.run(list(signature[1]), {name: v.numpy() for name, v in zip(signature[0], values, strict=True)})
    wanted = module(*values)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    return np.max(
        [np.abs(a - b.numpy()).reshape(len(a), -1).max(1) for a, b in zip(found, wanted, strict=True)], axis=0
    )
