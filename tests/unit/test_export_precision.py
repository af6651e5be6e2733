"""Smaller arithmetic: what is converted, what is kept, and that success in closed loop alone decides."""

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import onnxruntime
import pytest

from deploy.export.gate import check_closed_loop, closed_loop
from deploy.export.metadata import attach
from deploy.export.precision import convert
from deploy.export.variant import export_variant
from deploy.runtime.controller import Controller
from robot_wm.contracts.bundle import read_bundle
from robot_wm.contracts.errors import UserError
from tests.handmade_bundle import colour, write_bundle
from tests.small_bodies import planar_arm

PRODUCTS = """<ir_version: 10, opset_import: ["" : 20]>
plan (float[4,128] x) => (float[4,8] y)
{
  a = Gemm<transB = 1>(x, large, bias)
  b = Tanh(a)
  c = Gemm<transB = 1>(b, large, bias)
  y = Gemm<transB = 1>(c, small)
}"""


def products(path: Path) -> Path:
    """Two products that share a large weight, and a small one."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(PRODUCTS)
    for name, shape in (("large", (128, 128)), ("bias", (128,)), ("small", (8, 128))):
        values = rng.normal(scale=0.1, size=shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, path)
    attach(path, {"kept": "yes"})
    return path


def outputs(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).normal(size=(4, 128)).astype(np.float32)
    return np.asarray(session.run(None, {"x": x})[0])


def test_int8_takes_large_products_shares_their_weights_and_stays_near(tmp_path: Path) -> None:
    source = products(tmp_path / "plan.onnx")
    (tmp_path / "int8").mkdir()
    convert(source, tmp_path / "int8" / "plan.onnx", "int8")
    model = onnx.load(tmp_path / "int8" / "plan.onnx")
    assert [node.op_type for node in model.graph.node].count("MatMulInteger") == 2
    weights = [onnx.numpy_helper.to_array(w) for w in model.graph.initializer if len(w.dims) == 2]
    assert sorted((w.dtype.name, w.size) for w in weights) == [("float32", 8 * 128), ("int8", 128 * 128)]
    assert max(np.abs(w).max() for w in weights if w.dtype == np.int8) <= 64, "7 bits, or AVX2's sums saturate"
    exact = outputs(source)
    assert 0 < np.abs(outputs(tmp_path / "int8" / "plan.onnx") - exact).max() < 0.05 * np.abs(exact).max()
    assert {prop.key: prop.value for prop in model.metadata_props} == {"kept": "yes"}


def test_fp16_keeps_the_types_of_inputs_and_outputs(tmp_path: Path) -> None:
    source = products(tmp_path / "plan.onnx")
    convert(source, tmp_path / "half.onnx", "fp16")
    assert np.allclose(outputs(tmp_path / "half.onnx"), outputs(source), atol=0.01)
    assert (tmp_path / "half.onnx").stat().st_size < 0.6 * source.stat().st_size


def test_graph_without_large_products_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    with pytest.raises(UserError, match="no matrix of 96 × 96 or more"):
        convert(bundle / "plan.onnx", tmp_path / "plan.onnx", "int8")


def test_variant_is_written_when_it_controls_as_well(tmp_path: Path) -> None:
    source = read_bundle(write_bundle(tmp_path / "source"))
    found = export_variant(source, tmp_path / "half", "fp16", lambda _: {"fp32": 18, "fp16": 15}, 20)
    assert found.spec.precision == "fp16" and found.spec.parity == {}
    assert found.spec.closed_loop == {"fp32": 0.9, "fp16": 0.75}
    controller = Controller(found)
    controller.set_goal(colour(1, 1, 1))
    assert controller.step(colour(0.5, 0.5, 0.5), np.zeros(4, np.float32)).is_finite


def test_variant_that_controls_worse_is_not_written(tmp_path: Path) -> None:
    source = read_bundle(write_bundle(tmp_path / "source"))
    with pytest.raises(UserError, match=r"in fp16 the controller reaches 11 of 20.*in fp32 18 \(70 to 97 %\)"):
        export_variant(source, tmp_path / "half", "fp16", lambda _: {"fp32": 18, "fp16": 11}, 20)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_gate_allows_the_interval_and_no_less() -> None:
    check_closed_loop({"fp32": 20, "int8": 17}, 20)
    with pytest.raises(UserError, match="int8"):
        check_closed_loop({"fp32": 20, "int8": 16}, 20)
    check_closed_loop({"fp32": 10, "int8": 20}, 20)  # better is no fault


@pytest.mark.slow
def test_both_bundles_try_the_same_pairs_in_the_twin(tmp_path: Path) -> None:
    body = planar_arm(tmp_path, camera={"name": "above", "height": 8, "width": 8})
    bundle = read_bundle(write_bundle(tmp_path / "bundle"))
    reached = closed_loop(body, {"fp32": bundle, "same": bundle}, 8, 0)
    assert reached["fp32"] == reached["same"] and set(reached) == {"fp32", "same"}
