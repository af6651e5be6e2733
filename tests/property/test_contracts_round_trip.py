"""What a contract writes, it reads back as the same value: through plain mappings and through JSON."""

import json
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.config import from_mapping, to_mapping
from robot_wm.contracts.embodiment import Camera, CommandSpace, Embodiment, Mjcf, Safety
from robot_wm.contracts.run import Artifact, Manifest

INTERFACES = st.sampled_from(["joint_position", "joint_velocity", "joint_torque", "end_effector_velocity"])
TEXT = st.text(max_size=12)
NAME = st.text(string.ascii_letters + "_/:é", min_size=1, max_size=10)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(1e-6, 1e6)
COUNT = st.integers(1, 1000)
POINT = st.tuples(FLOAT, FLOAT, FLOAT)
SHA256 = st.text("0123456789abcdef", min_size=64, max_size=64)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FLOAT | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
MAPPING = st.dictionaries(TEXT, JSON, max_size=4)

CAMERA = st.builds(
    Camera, NAME, COUNT, COUNT, st.none() | POINT, st.none() | POINT, st.floats(1.0, 179.0, allow_nan=False)
)
SAFETY = st.builds(Safety, POSITIVE, st.floats(0, 0.5, exclude_max=True), POSITIVE, st.integers(0, 9))
FACTORS = st.tuples(st.floats(0, 1), st.floats(1.5, 10))
EMBODIMENT = st.builds(
    Embodiment,
    name=NAME,
    mjcf=st.builds(Mjcf, NAME, st.none() | NAME),
    interface=INTERFACES,
    end_effector=NAME,
    camera=CAMERA,
    control_rate_hz=POSITIVE,
    frame_skip=COUNT,
    safety=SAFETY,
    actuators=st.lists(NAME, max_size=4).map(tuple),
    home=st.lists(FLOAT, max_size=4).map(tuple),
    max_speed_m_s=POSITIVE,
    environment=st.none() | NAME,
    identifiable=st.dictionaries(NAME, FACTORS, max_size=3),
)
ARTIFACTS = st.dictionaries(NAME, st.builds(Artifact, TEXT, SHA256), max_size=3)
MANIFEST = st.builds(
    Manifest,
    schema=st.just(1),
    stage=NAME,
    name=TEXT,
    created_utc=TEXT,
    wall_s=FLOAT,
    command=TEXT,
    config=MAPPING,
    seed=st.none() | st.integers(0, 2**32 - 1),
    inputs=ARTIFACTS,
    outputs=ARTIFACTS,
    gates=MAPPING,
    metrics=MAPPING,
    versions=st.dictionaries(NAME, TEXT, max_size=3),
    git_revision=st.none() | SHA256,
    machine=TEXT,
    embodiment_sha256=st.none() | SHA256,
)


@st.composite
def command_spaces(draw: st.DrawFn) -> CommandSpace:
    size = draw(st.integers(1, 4))

    def entries(values: st.SearchStrategy) -> tuple:
        return tuple(draw(st.lists(values, min_size=size, max_size=size)))

    low = entries(st.floats(-100, 100))
    high = tuple(value + span for value, span in zip(low, entries(st.floats(0.01, 100)), strict=True))
    steps = entries(st.floats(0.01, 10))
    return CommandSpace(draw(INTERFACES), entries(NAME), draw(TEXT), low, high, steps, draw(COUNT), draw(POSITIVE))


SPEC = st.builds(
    ControllerSpec,
    schema=st.just(1),
    embodiment=NAME,
    embodiment_sha256=SHA256,
    camera=NAME,
    height=COUNT,
    width=COUNT,
    proprio=st.lists(NAME, min_size=1, max_size=4).map(tuple),
    command=command_spaces(),
    safety=SAFETY,
    latent_dim=COUNT,
    history=COUNT,
    horizon=st.integers(1, 99),
    candidates=st.integers(1, 99),
    iterations=st.integers(1, 99),
    opset=COUNT,
    files=st.dictionaries(NAME, SHA256, max_size=2),
    parity=st.dictionaries(NAME, st.floats(0, 1), max_size=3),
    lineage=st.dictionaries(NAME, SHA256, max_size=3),
)


def through_json(value: object) -> object:
    """Written and read again as strict JSON, then built as the same kind."""
    text = json.dumps(to_mapping(value), allow_nan=False)
    return from_mapping(type(value), json.loads(text), "file")


@given(EMBODIMENT)
def test_embodiment(value: Embodiment) -> None:
    back = through_json(value)
    assert back == value
    assert isinstance(back, Embodiment)
    assert back.digest() == value.digest(), "whoever reads the file knows it for the same body"
    assert from_mapping(Embodiment, to_mapping(value)) == value


@given(command_spaces())
def test_command_space(value: CommandSpace) -> None:
    assert through_json(value) == value


@given(SPEC)
def test_controller_spec(value: ControllerSpec) -> None:
    assert through_json(value) == value, "every limit at full precision"


@given(MANIFEST)
def test_manifest(value: Manifest) -> None:
    assert through_json(value) == value


@given(command_spaces(), st.integers(0, 2**32 - 1))
def test_commands_inside_the_limits_survive_plan_units(space: CommandSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = np.asarray(space.low), np.asarray(space.high)
    reference_U = rng.uniform(low, high)
    chunk_KU = rng.uniform(low, high, (space.frame_skip % 8 + 1, space.dim))
    back_KU = space.denormalize(space.normalize(chunk_KU, reference_U), reference_U)
    assert back_KU == pytest.approx(chunk_KU, rel=1e-9, abs=1e-9 * float(np.abs([low, high]).max() + 1))


@given(EMBODIMENT, st.sampled_from(["interface", "home", "control_rate_hz", "camera", "mjcf"]))
def test_another_body_has_another_digest(value: Embodiment, key: str) -> None:
    changes = {
        "interface": "joint_torque" if value.interface != "joint_torque" else "joint_velocity",
        "home": [*value.home, 0.0],
        "control_rate_hz": value.control_rate_hz * 2,
        "camera": to_mapping(value.camera) | {"height": value.camera.height + 1},
        "mjcf": {"path": value.mjcf.path + "x"},
    }
    assert from_mapping(Embodiment, to_mapping(value) | {key: changes[key]}).digest() != value.digest()
