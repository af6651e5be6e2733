"""What other projects' runners find in the graphs, read the way each of them reads it."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from deploy.export.metadata import Joints, attach, metadata, read_joints
from robot_wm.contracts.errors import UserError
from tests.handmade_bundle import make_spec, write_bundle
from tests.small_bodies import fetch, planar_arm

AWKWARD = Joints(("shoulder", "elbow"), (100 / 3, 60.1), (math.pi, 1e-5), (-0.1 - 0.2, 2.0**-30))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with metadata as export writes them."""
    folder = write_bundle(tmp_path / "bundle")
    for name in ("encode.onnx", "plan.onnx"):
        attach(folder / name, metadata(make_spec(), AWKWARD, name))
    return folder


def test_mjlab_reads_every_number_exactly(bundle: Path) -> None:
    """mjlab's own deployments split the values that ONNX Runtime gives at commas."""
    session = onnxruntime.InferenceSession(str(bundle / "plan.onnx"), providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map
    assert tuple(found["joint_names"].split(",")) == AWKWARD.names
    for key, wanted in (
        ("joint_stiffness", AWKWARD.stiffness), ("joint_damping", AWKWARD.damping),
        ("default_joint_pos", AWKWARD.default), ("action_scale", (1.0, 1.0)),
    ):  # fmt: skip
        assert tuple(float(x) for x in found[key].split(",")) == wanted
    assert tuple(found["command_names"].split(",")) == make_spec().command.names
    assert tuple(found["observation_names"].split(",")) == make_spec().proprio
    assert found["run_path"] == "sha256:" + "1" * 64


def test_holosoma_parses_every_value_and_lerobot_finds_its_keys(bundle: Path) -> None:
    """holosoma's loader calls json.loads on every property of a file; LeRobot's on those it looks for."""
    props = onnx.load(bundle / "encode.onnx").metadata_props
    found = {prop.key: json.loads(prop.value) for prop in props}
    assert tuple(found["dof_names"]) == AWKWARD.names
    for key, wanted in (("kp", AWKWARD.stiffness), ("kd", AWKWARD.damping), ("default_angles", AWKWARD.default)):
        assert np.array_equal(np.array(found[key]), np.array(wanted))
    assert found["action_scale"] == [1.0, 1.0]


def test_writing_twice_leaves_one_of_each(bundle: Path) -> None:
    attach(bundle / "plan.onnx", metadata(make_spec(), AWKWARD, "plan.onnx"))
    keys = [prop.key for prop in onnx.load(bundle / "plan.onnx").metadata_props]
    assert len(keys) == len(set(keys))


def test_gains_and_home_come_from_the_mjcf(tmp_path: Path) -> None:
    joints = read_joints(planar_arm(tmp_path, "joint_position", home=[0.1, -0.2]))
    assert joints == Joints(("shoulder", "elbow"), (60.0, 60.0), (6.0, 6.0), (0.1, -0.2))
    joints = read_joints(planar_arm(tmp_path, "joint_velocity"))
    assert joints == Joints(("shoulder", "elbow"), (0.0, 0.0), (8.0, 8.0), (0.0, 0.0))


def test_commands_that_move_no_joint_name_none(tmp_path: Path) -> None:
    assert read_joints(fetch()) is None
    found = metadata(make_spec(), None, "encode.onnx") | metadata(make_spec(), None, "plan.onnx")
    assert set(found) == {"action_scale", "command_names", "observation_names", "run_path"}


def test_a_name_that_readers_would_split_is_refused() -> None:
    with pytest.raises(UserError, match="'a,b' has a comma"):
        metadata(make_spec(), replace(AWKWARD, names=("a,b", "c")), "plan.onnx")
