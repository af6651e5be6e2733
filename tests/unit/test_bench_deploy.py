"""The floor under a decision: operations and bytes counted from the graph, and which of the two binds."""

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

from deploy.bench.floor import Machine, Work, measure_work

GRAPH = """<ir_version: 10, opset_import: ["" : 20]>
counted (float[1,3,8,8] image, float[6,10] x) => (float[1,4,8,8] features, float[2,5,6] y)
<int64[1] zero = {0}, int64[1] five = {5}>
{
  features = Conv<pads = [1,1,1,1]>(image, kernel)
  h = Gemm<transB = 1>(x, turned, bias)
  part = Slice(h, zero, five, zero)
  y = MatMul(part, other)
}"""


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    model = onnx.parser.parse_model(GRAPH)
    for name, shape in (("kernel", (4, 3, 3, 3)), ("turned", (20, 10)), ("bias", (20,)), ("other", (2, 20, 6))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name))
    onnx.save(model, tmp_path / "graph.onnx")
    return tmp_path / "graph.onnx"


def test_products_are_counted_from_shapes(graph: Path) -> None:
    work = measure_work(graph)
    assert work.operations == 2 * (4 * 64 * 27 + 6 * 20 * 10 + 2 * 5 * 6 * 20)
    assert work.nodes == 4
    weights = 4 * (4 * 27 + 20 * 10 + 20 + 2 * 20 * 6) + 8 * 2
    assert work.num_bytes == weights + 4 * (3 * 64 + 60 + 4 * 64 + 60)


def test_the_floor_is_whichever_limit_binds() -> None:
    work = Work(operations=2_000_000_000, num_bytes=1_000_000, nodes=1)
    assert work.floor_ms(Machine(gflop_s=100.0, gb_s=10.0)) == pytest.approx(20.0)
    assert work.floor_ms(Machine(gflop_s=1e6, gb_s=0.1)) == pytest.approx(10.0)
