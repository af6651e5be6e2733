"""The least time a graph can take here: its operations at the machine's matrix rate, its bytes at its bandwidth."""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import onnx.shape_inference

from deploy.runtime.graph import CPU, Graph

_SIDE, _CHAIN = 768, 4  # of the matrices whose product is timed, and how many products one run makes
_COPY_BYTES = 1 << 28  # far more than any cache holds
_REPEATS = 12


@dataclass(frozen=True)
class Machine:
    """What the hardware can do, measured.

    Attributes:
        gflop_s: fp32 matrix products, in 1e9 operations per second; a product and a sum are two.
        gb_s: bytes read and written by a copy that fits no cache, in 1e9 per second.
    """

    gflop_s: float
    gb_s: float


@dataclass(frozen=True)
class Work:
    """What one run of a graph cannot do without.

    Attributes:
        operations: of all its matrix products and convolutions; a product and a sum are two.
        num_bytes: its weights, once, and its inputs and outputs.
        nodes: operators of the graph as it stands in the file.
    """

    operations: int
    num_bytes: int
    nodes: int

    def floor_ms(self, machine: Machine) -> float:
        """The larger of the time for the operations and that for the bytes [ms]."""
        return max(self.operations / machine.gflop_s, self.num_bytes / machine.gb_s) / 1e6


def measure_machine(num_threads: int) -> Machine:
    """The best of some tries, of large matrix products in ONNX Runtime with `num_threads`, and of copies in numpy."""
    steps = "".join(f"x{i + 1} = MatMul(x{i}, w)\n" for i in range(_CHAIN))
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
    products (float[{_SIDE},{_SIDE}] x0) => (float[{_SIDE},{_SIDE}] x{_CHAIN}) {{ {steps} }}"""
    model = onnx.parser.parse_model(text)
    side = np.random.default_rng(0).normal(scale=_SIDE**-0.5, size=(_SIDE, _SIDE)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(side, "w"))
    kind = (np.dtype(np.float32), (_SIDE, _SIDE))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "products.onnx"
        onnx.save(model, path)
        graph = Graph(path, ({"x0": kind}, {f"x{_CHAIN}": kind}), [CPU], num_threads)
        graph.inputs["x0"][:] = side
        products_s = _best_s(graph.run)
    source = np.ones(_COPY_BYTES // 4, np.float32)
    target = np.empty_like(source)
    copy_s = _best_s(lambda: np.copyto(target, source))
    return Machine(2 * _CHAIN * _SIDE**3 / products_s / 1e9, 2 * _COPY_BYTES / copy_s / 1e9)


def measure_work(path: Path) -> Work:
    """Count a graph's operations from its shapes."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True)
    graph = model.graph
    shapes = {w.name: tuple(w.dims) for w in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    operations = 0
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm"):
            turned = any(a.name == "transA" and a.i for a in node.attribute)
            inner = shapes[node.input[0]][-2 if turned else -1]
            operations += 2 * inner * math.prod(shapes[node.output[0]])
        elif node.op_type == "Conv":
            operations += 2 * math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    weights = sum(onnx.numpy_helper.to_array(w).nbytes for w in graph.initializer)
    passed = sum(_num_bytes(value) for value in (*graph.input, *graph.output))
    return Work(operations, weights + passed, len(graph.node))


def _num_bytes(value: onnx.ValueInfoProto) -> int:
    kind = value.type.tensor_type
    item = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
    return item * math.prod(d.dim_value for d in kind.shape.dim)


def _best_s(function: Callable[[], object]) -> float:
    function()
    taken = []
    for _ in range(_REPEATS):
        started_s = time.perf_counter()
        function()
        taken.append(time.perf_counter() - started_s)
    return min(taken)
