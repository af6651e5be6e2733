"""Bundles that are incomplete, altered or not what they say: refused in one line, before a robot moves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.runtime.controller import Controller
from robot_wm.contracts import files
from robot_wm.contracts.errors import UserError
from tests.handmade_bundle import ENCODE, PLAN, make_spec, write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def change(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = bundle / "controller.json"
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


def refusal(bundle: Path) -> str:
    with pytest.raises(UserError) as error:
        Controller(bundle)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["encode.onnx", "plan.onnx"])
def test_truncated_graph(bundle: Path, name: str) -> None:
    data = (bundle / name).read_bytes()
    (bundle / name).write_bytes(data[: len(data) // 2])
    assert name in refusal(bundle)
    assert "truncated or altered" in refusal(bundle)


@pytest.mark.parametrize("name", ["encode.onnx", "plan.onnx", "controller.json"])
def test_missing_file(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    assert name in refusal(bundle)


def test_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert "nowhere" in refusal(tmp_path / "nowhere")


def test_truncated_json(bundle: Path) -> None:
    (bundle / "controller.json").write_text((bundle / "controller.json").read_text()[:100])
    assert "not valid JSON" in refusal(bundle)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda v: v.update(schema=4), "schema is 4"),
        (lambda v: v.update(colour="red"), "'colour'"),
        (lambda v: v.pop("command"), "'command' is missing"),
        (lambda v: v.update(horizon="long"), "horizon"),
        (lambda v: v["command"].update(high=[-3.0, 1.5]), "low must be below"),
        (lambda v: v["command"].update(low=[-1.0]), "one entry per command"),
        (lambda v: v["files"].pop("plan.onnx"), "plan.onnx"),
        (lambda v: v["files"].update({"../../secret": "0"}), "leaves the folder"),
        (lambda v: v.update(candidates=64), "noise"),
        (lambda v: v.update(latent_dim=4), "latent"),
        (lambda v: v["proprio"].pop(), "proprio"),
        (lambda v: v.update(proprio=[]), "0 entries of proprio"),
        (lambda v: v.update(opset=0), "opset 0"),
        (lambda v: v.update(horizon=0), "horizon is 0"),
        (lambda v: v.update(precision="int4"), "'int4'"),
        (lambda v: v.update(closed_loop={"fp32": 1.5}), "fp32 is 1.5"),
        (lambda v: v["parity"].update(command=-1.0), "command is -1.0"),
        (lambda v: v["parity"].update(tipped=2.0), "tipped is 2.0"),
    ],
)
def test_altered_json(bundle: Path, edit: Callable[[dict[str, Any]], object], words: str) -> None:
    change(bundle, edit)
    assert words in refusal(bundle)


def test_file_that_is_no_graph_although_its_hash_is_right(bundle: Path) -> None:
    (bundle / "plan.onnx").write_bytes(b"not a graph")
    change(bundle, lambda v: v["files"].update({"plan.onnx": files.sha256(bundle / "plan.onnx")}))
    assert "not a graph that ONNX Runtime can load" in refusal(bundle)


def test_graph_of_another_export(tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "bundle", make_spec(), plan=PLAN.replace("[1,2,5,3,2]", "[1,2,6,3,2]"))
    assert "noise is float32 (1, 2, 6, 3, 2), controller.json says float32 (1, 2, 5, 3, 2)" in refusal(other)


def test_graph_that_takes_float_frames(tmp_path: Path) -> None:
    encode = ENCODE.replace("uint8[", "float[")
    assert "frame is float32" in refusal(write_bundle(tmp_path / "bundle", encode=encode))
