"""Smaller arithmetic for a finished controller: int8 products by ONNX Runtime's quantizer, or fp16 throughout.

int8 quantizes the large matrix products of `plan.onnx`: weights once, to 7 bits per column (with 8, AVX2's pairwise
sums saturate), activations as they come. Scales calibrated on the body's own log were tried instead: slower, with twice
the error (docs/deploy.md). What is small, entry-wise or a convolution stays fp32: converting costs more than it saves.

Whether the result still controls is decided in closed loop (see `deploy.export.gate`), never by the size of an error.
"""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import onnx
import onnx.numpy_helper

from deploy.export.batch import BATCH_FILES
from robot_wm.contracts.bundle import PLAN_FILE
from robot_wm.contracts.errors import UserError

Precision = Literal["fp32", "fp16", "int8"]
LEAST_SIDE = 96  # of a weight matrix that is worth quantizing
_LARGE = frozenset({"Gemm", "MatMul"})


def convert(source: Path, target: Path, precision: Precision) -> None:
    """Write the graph `source` in another precision; inputs and outputs keep their types.

    Raises:
        UserError: the tool that it takes is not installed, or the graph has nothing to quantize.
    """
    makers: dict[str, Callable[[Path, Path], None]] = {"fp16": _to_fp16, "int8": _to_int8}
    makers[precision](source, target)
    props = {prop.key: prop.value for prop in onnx.load(source, load_external_data=False).metadata_props}
    model = onnx.load(target)
    onnx.helper.set_model_props(model, props)  # tools lose what other projects' runners read
    onnx.save(model, target)


def _to_int8(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if source.name not in (PLAN_FILE, BATCH_FILES[PLAN_FILE]):  # convolutions gain nothing here
        onnx.save(onnx.load(source), target)
        return
    model = onnx.load(source)
    names = _straighten(model)
    if not names:
        raise UserError(f"{source.name} has no matrix of {LEAST_SIDE} × {LEAST_SIDE} or more", "Use precision=fp32")
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it recommends a preparation that folding at export has already done
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            straight = Path(folder) / source.name
            onnx.save(model, straight)
            quantize_dynamic(
                straight, target, op_types_to_quantize=sorted(_LARGE), nodes_to_quantize=names, per_channel=True,
                reduce_range=True, weight_type=QuantType.QInt8,
            )  # fmt: skip
    finally:
        logger.setLevel(level)


def _straighten(model: onnx.ModelProto) -> list[str]:
    """Turn transposed weights once, so that products share them; returns the names of the large products.

    The quantizer makes a product and a sum of every Gemm, turns the weight of each by itself, and names the product
    anew.
    """
    weights = {w.name: w for w in model.graph.initializer}
    turned: dict[str, onnx.TensorProto] = {}
    large = []
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{index}"
        weight = weights.get(node.input[1]) if node.op_type in _LARGE else None
        if weight is None or len(weight.dims) != 2:
            continue
        if min(weight.dims) >= LEAST_SIDE:
            large.append(f"{node.name}_MatMul" if node.op_type == "Gemm" else node.name)
        for attribute in node.attribute:
            if attribute.name == "transB" and attribute.i:
                attribute.i = 0
                name = f"{weight.name}.T"
                values = onnx.numpy_helper.to_array(weight).T.copy()
                turned.setdefault(name, onnx.numpy_helper.from_array(values, name))
                node.input[1] = name
    model.graph.initializer.extend(turned.values())
    used = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    kept = [w for w in model.graph.initializer if w.name in used]
    del model.graph.initializer[:], model.graph.value_info[:]
    model.graph.initializer.extend(kept)
    return large


def _to_fp16(source: Path, target: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(source)
    converted = convert_float_to_float16(model, keep_io_types=True, op_block_list=["TopK", "Resize"])
    onnx.save(converted, target)
