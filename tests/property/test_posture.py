"""A body that falls, and a joint that runs into something, are noticed from what the robot measures, in time."""

from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.runtime.safety import CONTACT, FALL, Safety
from robot_wm.contracts import config
from robot_wm.contracts import safety as contract
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation
from sims import robots
from sims.simulation import Simulation
from tests.handmade_bundle import colour, make_spec

_WALLED = """<mujoco>
  <compiler angle="radian"/>
  <option timestep="0.004"/>
  <worldbody>
    <body name="arm"><joint name="turn" axis="0 0 1" range="-3 3" armature="0.05"/>
      <geom type="capsule" fromto="0 0 0 0.4 0 0" size="0.02"/><site name="tip" pos="0.42 0 0"/></body>
    <body name="wall" pos="{place}"><geom type="box" size="0.02 0.02 0.2"/></body>
    <light pos="0 0 2"/>
  </worldbody>
  <actuator><position name="turn" joint="turn" kp="20" kv="2" ctrlrange="-2.5 2.5"/></actuator>
</mujoco>
"""


def walled(folder: Path, place: str) -> Embodiment:
    path = folder / "walled.xml"
    path.write_text(_WALLED.format(place=place), encoding="utf-8")
    values = {
        "name": "walled", "mjcf": {"path": str(path)}, "interface": "joint_position", "end_effector": "tip",
        "camera": {"name": "above", "height": 32, "width": 32, "position_m": [0, 0, 1.5], "target_m": [0.05, 0, 0]},
        "control_rate_hz": 25, "frame_skip": 5, "safety": {"max_step": 0.08},
    }  # fmt: skip
    return config.from_mapping(Embodiment, values)


def guard(simulation: Simulation, **limits: float) -> Safety:
    limits = {"max_step": simulation.embodiment.safety.max_step, **limits}
    spec = make_spec(
        command=simulation.command, proprio=simulation.proprio_names, safety=contract.Safety(**limits), solids=None
    )
    return Safety(spec, sees=False)


def drive(simulation: Simulation, safety: Safety, wanted_U: np.ndarray, ticks: int) -> tuple[int | None, str | None]:
    """Commands as they are filtered until a guard trips; the tick and the guard."""
    safety.reset(simulation.reference())
    for tick in range(ticks):
        now_s = simulation.time_s
        held = safety.check_observation(Observation(colour(0, 0, 0), simulation.proprio(), now_s), now_s, False)
        if held is not None:
            return tick, held
        command_U = safety.filter(wanted_U)
        safety.sent(simulation.step(command_U))
    return None, None


def test_a_joint_that_runs_into_a_wall_is_stopped_and_one_that_moves_freely_is_not(tmp_path: Path) -> None:
    with robots.load(walled(tmp_path, "0 -3 0")) as simulation:
        simulation.reset(0)
        assert drive(simulation, guard(simulation, max_strain=0.1), np.array([2.4]), 60) == (None, None)
    with robots.load(walled(tmp_path, "0.25 0.25 0")) as simulation:
        simulation.reset(0)
        met = None
        safety = guard(simulation, max_strain=0.1)
        tick, held = drive(simulation, safety, np.array([2.4]), 60)
        assert held == CONTACT and tick is not None
        met = simulation.proprio()[0]
        assert 0.5 < met < 0.85, "at the wall"
        assert abs(safety.limits.in_force_U[0] - met) < 1.0, "it did not go on pushing harder and harder"
        assert simulation.data.ncon > 0
        target = safety.limits.in_force_U
        safety.reset(np.array([met]), np.array([0.0]))
        for _ in range(80):  # the answer `park` takes the pressure off
            safety.sent(simulation.step(safety.park()))
        assert simulation.data.ncon == 0 and simulation.proprio()[0] < 0.3 < target[0]


def test_a_humanoid_that_tips_over_is_noticed_while_it_can_still_be_let_go() -> None:
    with robots.load("humanoid_free") as simulation:
        simulation.reset(0)
        rest = simulation.reference()
        tick, held = drive(simulation, guard(simulation, max_lean_rad=0.5), rest, 120)
        assert held == FALL and tick is not None and tick * 0.03 > 0.3
        assert np.arccos(simulation.base.up(simulation.data.qpos)[2]) < 0.5, "before it leans so far"
        assert simulation.base.place(simulation.data.qpos)[2] > 0.9


@given(st.integers(0, 10**6))
@settings(max_examples=20)
def test_up_and_turn_are_those_of_mujoco(seed: int) -> None:
    simulation = _free()
    rng = np.random.default_rng(seed)
    turn = rng.normal(size=4)
    simulation.data.qpos[3:7] = turn / np.linalg.norm(turn)
    simulation.data.qvel[3:6] = rng.normal(size=3)
    mujoco.mj_forward(simulation.model, simulation.data)
    found = dict(zip(simulation.proprio_names, simulation.proprio(), strict=True))
    world_base = simulation.data.xmat[simulation.base.body].reshape(3, 3)
    assert [found[name] for name in contract.BASE_UP] == pytest.approx(world_base[2], abs=1e-5)
    spin = np.zeros(6)
    kind = mujoco.mjtObj.mjOBJ_BODY
    mujoco.mj_objectVelocity(simulation.model, simulation.data, kind, simulation.base.body, spin, 1)
    frame = simulation.model.body_iquat[simulation.base.body]
    turned = np.zeros(3)
    mujoco.mju_rotVecQuat(turned, spin[:3], frame)
    assert [found[f"base_turn_{axis}_velocity"] for axis in "xyz"] == pytest.approx(turned, abs=1e-4)


_KEPT: list[Simulation] = []


def _free() -> Simulation:
    if not _KEPT:
        _KEPT.append(robots.load("humanoid_free"))
        _KEPT[0].reset(0)
    return _KEPT[0]


def test_a_body_on_its_feet_starts_on_the_ground_whatever_its_joints() -> None:
    simulation = _free()
    for seed in range(5):
        simulation.reset(seed)
        depths = [contact.dist for contact in simulation.data.contact]
        assert len(depths) == 0 or min(depths) > -0.002
        for _ in range(3):
            simulation.step(simulation.reference())
        assert simulation.data.ncon > 0


def test_what_cannot_be_watched_is_refused_and_says_so() -> None:
    plain = make_spec("joint_velocity")
    with pytest.raises(UserError, match="max_lean_rad, but base_up_x is not measured"):
        Safety(replace(plain, safety=contract.Safety(0.5, max_lean_rad=0.5)))
    with pytest.raises(UserError, match="max_strain, but no joint"):
        Safety(replace(plain, safety=contract.Safety(0.5, max_strain=0.1)))
    with pytest.raises(UserError, match="max_lean_rad is 0"):
        contract.Safety(0.5, max_lean_rad=0.0)
