"""Modules to ONNX graphs with everything unrolled, and the check that it is so."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
import onnx_ir
import onnxscript.optimizer
import torch
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
)
from torch import Tensor, nn

from deploy.runtime.graph import Signature
from robot_wm.contracts.errors import UserError

OPSET = 20
_FOLD_BYTES = 1 << 26  # far above any weight
CONTROL_FLOW = frozenset({"Loop", "If", "Scan", "SequenceMap"})


def export_graph(
    module: nn.Module, signature: tuple[Signature, Signature], path: Path, dynamic_batch: bool = False
) -> None:
    """Write `module` as one ONNX file of fixed shapes, opset 20.

    Control flow is what forbids CUDA graphs and TensorRT and what is slow everywhere else, so a graph that has any is
    refused.

    Args:
        module: in evaluation mode; its positional inputs and outputs are those of `signature`, in order.
        signature: inputs and outputs, name to (dtype, shape).
        path: the file.
        dynamic_batch: leave the first axis of every input and output open.

    Raises:
        UserError: the module does not export, or its graph contains Loop, If or Scan.
    """
    inputs, outputs = signature
    # Traced with two rows where their number stays open: one would be taken for good.
    example = tuple(_example(dtype, (2, *shape[1:]) if dynamic_batch else shape) for dtype, shape in inputs.values())
    open_axes = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs) if dynamic_batch else None
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module.eval(),
                example,
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                optimize=False,  # its rewrite rules take most of an export and make the graph no faster
                verbose=False,
                dynamic_shapes=open_axes,
            )
            assert program is not None
            _simplify(program.model)
            program.save(path, external_data=False)
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{type(module).__name__} does not export to ONNX: {reason}", "Avoid what it names") from error
    check_unrolled(onnx.load(path), path.name)


def _simplify(model: onnx_ir.Model) -> None:
    """Compute once, here, what does not depend on the inputs, weights included, and keep one copy of each."""
    onnxscript.optimizer.fold_constants(model, input_size_limit=_FOLD_BYTES, output_size_limit=_FOLD_BYTES)
    for tidy in (
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        DeduplicateInitializersPass(size_limit=_FOLD_BYTES),
        CommonSubexpressionEliminationPass(),
        RemoveUnusedNodesPass(),
    ):
        tidy(model)


def check_unrolled(model: onnx.ModelProto, name: str) -> None:
    """Walk a model, its functions and every nested graph.

    Raises:
        UserError: an operator of CONTROL_FLOW occurs.
    """
    found = sorted({node.op_type for node in _nodes(model)} & CONTROL_FLOW)
    if found:
        raise UserError(
            f"{name} contains {', '.join(found)}", "Unroll loops and replace branches by arithmetic in the module"
        )


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    pending: list[Sequence[onnx.NodeProto]] = [model.graph.node, *(function.node for function in model.functions)]
    while pending:
        for node in pending.pop():
            yield node
            for attribute in node.attribute:
                pending.extend(graph.node for graph in [attribute.g, *attribute.graphs])


def _example(dtype: object, shape: tuple[int, ...]) -> Tensor:
    return torch.zeros(shape, dtype=torch.uint8 if dtype == "uint8" else torch.float32)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its steps on stdout and through loggers; a user of a stage reads neither."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
