"""Forward kinematics in torch, from the table that calibration writes, are MuJoCo's."""

from collections.abc import Iterator

import mujoco
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import kinematics as tables
from robot_wm.contracts.config import from_mapping, to_mapping
from robot_wm.contracts.errors import UserError
from robot_wm.models.kinematics import ForwardKinematics, Kinematics
from sims import actuation, robots
from sims.simulation import Simulation
from tests.small_bodies import fetch, planar_arm

CHAIN = """
<mujoco><compiler angle="radian"/><worldbody>
  <body name="base" pos="0.1 0.2 0.3" euler="0.3 -0.2 0.5">
    <joint name="lift" type="slide" axis="0.1 0.2 1" range="-1 1"/><geom size="0.02"/>
    <body name="held" pos="0 0.1 0.2" quat="0.9 0.1 0.3 0.2">
      <joint name="undriven" axis="1 0 1" pos="0.02 0 0.05" ref="0.4"/><geom size="0.02"/>
      <body name="arm" pos="0.2 0 0.1">
        <joint name="first" axis="0 1 0.2" pos="-0.03 0.01 0" ref="0.2"/>
        <joint name="second" axis="1 0 0" pos="0 0 0.1"/>
        <geom size="0.02"/>
        <body name="tip" pos="0.1 0.3 0"><joint name="third" axis="0 0 1"/><geom size="0.02"/>
          <site name="end" pos="0.05 0 0.02"/></body>
      </body>
      <body name="aside" pos="0 -0.2 0"><joint name="fourth" axis="0.6 0 0.8"/><geom size="0.02"/></body>
    </body>
  </body>
  <body name="loose" pos="1 1 1"><freejoint/><geom size="0.05"/></body>
</worldbody></mujoco>
"""
NAMED = ("humanoid", *(pytest.param(name, marks=pytest.mark.slow) for name in ("so101", "panda", "shadow_hand", "g1")))
some = settings(max_examples=10)


@given(st.integers(0, 10**6))
@some
def test_every_body_of_a_chain_with_all_kinds_of_joints(seed: int) -> None:
    model = mujoco.MjModel.from_xml_string(CHAIN)
    data, rng = mujoco.MjData(model), np.random.default_rng(seed)
    data.qpos[:] += rng.uniform(-1, 1, model.nq)
    mujoco.mj_forward(model, data)
    driven = [j for j in range(model.njnt) if model.joint(j).name not in ("undriven", "")]
    names = [model.body(b).name for b in range(1, model.nbody)]
    table = tables.of_bodies(model, data, {j: entry for entry, j in enumerate(driven)}, names)
    _assert_is_mujocos(model, data, table, driven, rng)


@pytest.fixture(scope="module")
def bodies() -> Iterator[dict[str, Simulation]]:
    found: dict[str, Simulation] = {}
    yield found
    for simulation in found.values():
        simulation.close()


@pytest.mark.parametrize("name", NAMED)
def test_every_named_body_of_the_robots_that_ship(name: str, bodies: dict[str, Simulation]) -> None:
    try:
        simulation = bodies.setdefault(name, robots.load(name))
    except UserError as error:
        pytest.skip(str(error))
    model, rng = simulation.model, np.random.default_rng(0)
    joints = [int(model.actuator_trnid[i, 0]) for i in actuation.select(simulation.embodiment, model)]
    names = [model.body(b).name for b in range(1, model.nbody) if model.body(b).name]
    table = tables.of_bodies(model, simulation.data, {j: entry for entry, j in enumerate(joints)}, names)
    _assert_is_mujocos(model, simulation.data, table, joints, rng)


@pytest.mark.parametrize("name", ["planar", "fetch", *NAMED[1:3]])
def test_the_hand_is_where_the_camera_sees_it(name: str, bodies: dict[str, Simulation], tmp_path) -> None:
    try:
        body = planar_arm(tmp_path) if name == "planar" else name
        simulation = bodies.setdefault(name, robots.load(fetch() if name == "fetch" else body))
    except UserError as error:
        pytest.skip(str(error))
    table = tables.of_body(simulation)
    kinematics = ForwardKinematics(from_mapping(Kinematics, to_mapping(table)))
    for seed in range(3):
        simulation.reset(seed)
        for _ in range(4):
            simulation.step(simulation.command.hold(simulation.reference()) + 0.02)
        hand = kinematics(torch.from_numpy(simulation.proprio())[None])[0, 0]
        # Joints without a command give way a little under load, and proprio is of the end of the last step.
        assert hand.numpy() == pytest.approx(simulation.to_camera(simulation.end_effector()), abs=1e-4)


def test_encoders_that_read_too_much_are_allowed_for(tmp_path) -> None:
    """What was identified as an encoder's bias is no motion of the arm."""
    bias = {"shoulder": 0.05, "elbow": -0.08}
    with robots.load(planar_arm(tmp_path)) as simulation:
        proprio = torch.from_numpy(simulation.proprio())[None]
        shifted = proprio + torch.tensor([[*bias.values(), 0.0, 0.0]])
        right = ForwardKinematics(tables.of_body(simulation))(proprio)
        assert torch.allclose(ForwardKinematics(tables.of_body(simulation, bias))(shifted), right, atol=1e-6)
        assert not torch.allclose(ForwardKinematics(tables.of_body(simulation))(shifted), right, atol=1e-3)


def _assert_is_mujocos(
    model: mujoco.MjModel, data: mujoco.MjData, table: Kinematics, joints: list[int], rng: np.random.Generator
) -> None:
    kinematics, addresses = ForwardKinematics(table), model.jnt_qposadr[joints]
    poses, wanted = rng.uniform(-2, 2, (8, len(joints))), []
    for pose in poses:
        data.qpos[addresses] = pose
        mujoco.mj_kinematics(model, data)
        wanted.append([data.body(point.name).xpos.copy() for point in table.points])
    found = kinematics(torch.from_numpy(poses).float())
    assert found.numpy() == pytest.approx(np.array(wanted), abs=1e-5)
