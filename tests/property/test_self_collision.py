"""A body that can fold into itself is stopped before it does; MuJoCo's own distances and contacts are the reference."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import solids as tables
from deploy.export import parts
from deploy.runtime.clearance import Clearance
from deploy.runtime.safety import OUT_OF_BOUNDS, SELF_COLLISION, Safety
from deploy.stages import export as stage
from robot_wm.contracts import config
from robot_wm.contracts import safety as contract
from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.dataset import STATE, Feature
from robot_wm.contracts.embodiment import CommandSpace, Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation
from robot_wm.contracts.solids import Joint, Solids
from robot_wm.data.lerobot_writer import LeRobotWriter
from robot_wm.models.kinematics import BodyPoint, Kinematics
from sims import robots
from sims.simulation import Simulation
from tests.handmade_bundle import colour, make_spec

JOINTS = ("first", "second", "third", "slide")
ROUND = {"rod": 'type="capsule" fromto="0 0 0 0.3 0 0" size="0.03"', "ball": 'type="sphere" size="0.06"'}
ANGULAR = {"rod": 'type="box" pos="0.15 0 0" size="0.15 0.05 0.02"', "ball": 'type="cylinder" size="0.05 0.08"'}
_ARM = """
<mujoco model="folding"><compiler angle="radian"/><option timestep="0.005" gravity="0 0 0"/>
  <worldbody>
    <light pos="0 0 2"/><camera name="above" pos="0 0 2"/><geom type="plane" size="2 2 1"/>
    <body name="base" pos="0.1 -0.2 0.5" euler="0.2 0.1 0.3"><geom name="g0" {ball}/>
      <body name="upper" pos="0.08 0 0"><joint name="first" axis="0 0 1" range="-3 3" armature="0.02" ref="0.1"/>
        <geom name="g1" {rod}/><geom type="sphere" size="0.2" contype="0" conaffinity="0"/>
        <body name="middle" pos="0.34 0 0"><joint name="second" axis="0 0.1 1" range="-3 3" armature="0.02"/>
          <geom name="g2" {rod}/>
          <body name="lower" pos="0.34 0 0"><joint name="third" axis="0.1 0 1" range="-3 3" armature="0.02"/>
            <geom name="g3" {rod}/>
            <body name="tip" pos="0.3 0 0.05"><joint name="slide" type="slide" axis="1 0 0.2" range="-0.1 0.1"
              armature="0.1"/><geom name="g4" type="ellipsoid" size="0.03 0.06 0.02"/><site name="tip"/></body>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>{actuators}</actuator>
</mujoco>
"""
few = settings(max_examples=25)


def folding_arm(folder: Path, shapes: dict[str, str]) -> Embodiment:
    path = folder / "folding.xml"
    servos = "".join(f'<velocity name="{name}" joint="{name}" kv="8" ctrlrange="-2 2"/>' for name in JOINTS)
    path.write_text(_ARM.format(actuators=servos, **shapes), encoding="utf-8")
    values = {
        "name": "folding", "mjcf": {"path": str(path)}, "interface": "joint_velocity", "end_effector": "tip",
        "camera": {"name": "above", "height": 32, "width": 32}, "control_rate_hz": 20, "frame_skip": 4,
        "safety": {"max_step": 0.5, "self_clearance_m": 0.02},
    }  # fmt: skip
    return config.from_mapping(Embodiment, values)


@pytest.fixture(scope="module", params=["round", "angular"])
def arm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    shapes = ROUND if request.param == "round" else ANGULAR
    with robots.load(folding_arm(tmp_path_factory.mktemp("arm"), shapes)) as simulation:
        yield request.param, simulation, tables.of_body(simulation)


def place(simulation: Simulation, joints: np.ndarray) -> None:
    simulation.data.qpos[:] = joints
    mujoco.mj_forward(simulation.model, simulation.data)


def mujocos(simulation: Simulation, one: str, other: str) -> float:
    """Distance of two bodies' geoms [m]; negative by how deep they are in each other."""
    geoms = [simulation.model.geom(f"g{['base', 'upper', 'middle', 'lower', 'tip'].index(name)}").id
             for name in (one, other)]  # fmt: skip
    return float(mujoco.mj_geomDistance(simulation.model, simulation.data, *geoms, 5.0, None))


def touching(simulation: Simulation) -> set[tuple[str, str]]:
    """Bodies of the arm that MuJoCo has in contact, each pair from the base outwards; the floor is no body."""
    model, found = simulation.model, set()
    for contact in simulation.data.contact:
        one, other = (model.body(model.geom_bodyid[geom]).name for geom in sorted(contact.geom))
        found |= {(one, other)} if contact.dist < 0 and one != "world" else set()
    return found


@given(st.integers(0, 10**6))
@few
def test_distances_are_mujocos_and_never_larger(arm, seed: int) -> None:
    """Equal for balls and capsules; smaller where a capsule stands for what is inside it."""
    shapes, simulation, solids = arm
    rng = np.random.default_rng(seed)
    joints = np.append(rng.uniform(-2.8, 2.8, 3), rng.uniform(-0.1, 0.1))
    place(simulation, joints)
    found = Clearance(solids).between(np.append(joints, np.zeros(4))[None])[0]
    nearest: dict[tuple[str, str], float] = {}
    for (i, j), distance in zip(solids.pairs, found, strict=True):
        names = solids.capsules[i].name, solids.capsules[j].name
        nearest[names] = min(distance, nearest.get(names, np.inf))
    assert set(nearest) == {
        ("base", "middle"), ("base", "lower"), ("base", "tip"), ("upper", "lower"), ("upper", "tip"), ("middle", "tip")
    }  # fmt: skip
    for names, distance in nearest.items():
        theirs = mujocos(simulation, *names)
        if theirs != 0.0:  # what MuJoCo 3.11 says of some boxes that are apart; contacts below decide on those
            assert distance <= max(theirs, 0.0) + 1e-5, names
        if shapes == "round" and "tip" not in names and theirs > 0:
            assert distance == pytest.approx(theirs, abs=1e-5), names
    assert not touching(simulation) - set(nearest) - {
        ("base", "upper"), ("upper", "middle"), ("middle", "lower"), ("lower", "tip")
    }  # fmt: skip
    assert all(nearest[names] < 1e-6 for names in touching(simulation) & set(nearest)), "no contact is overlooked"


def spec_of(simulation: Simulation, solids: Solids | None, clearance_m: float | None) -> ControllerSpec:
    space: CommandSpace = simulation.command
    safety = contract.Safety(0.5, self_clearance_m=clearance_m, max_acceleration=5.0)
    return make_spec(command=space, proprio=simulation.proprio_names, safety=safety, solids=solids)


def fold(simulation: Simulation, safety: Safety, towards: np.ndarray) -> tuple[bool, str | None]:
    """Drive the arm at full speed; brake from when a guard trips. Whether it touched itself, and the guard."""
    joints, speed, held, touched = np.array([0.1, 0.0, 0.0, 0.0]), np.zeros(4), None, False
    safety.reset(np.zeros(4))
    for tick in range(60):
        observation = Observation(colour(0, 0, 0), np.append(joints, speed).astype(np.float32), tick / 20)
        held = held or safety.check_observation(observation, tick / 20, False)
        speed = safety.brake() if held else safety.filter(towards)
        safety.sent(speed)
        joints = joints + speed / 20
        place(simulation, joints)
        touched |= bool(touching(simulation) & {("upper", "lower"), ("base", "lower"), ("base", "middle")})
    assert not held or safety.limits.at_rest
    return touched, held


@pytest.mark.parametrize("towards", [(0, 1, 1, 0), (1, -2, -2, 0), (0, 2, 1.8, 0)])
def test_the_arm_that_folds_is_stopped_before_it_touches_itself(arm, towards: tuple[float, ...]) -> None:
    _, simulation, solids = arm
    wanted = np.array(towards, dtype=float)
    touched, held = fold(simulation, Safety(spec_of(simulation, None, None), sees=False), wanted)
    assert touched and held is None, "what it does without the guard"
    touched, held = fold(simulation, Safety(spec_of(simulation, solids, 0.01), sees=False), wanted)
    assert held == SELF_COLLISION
    assert not touched


def swing(simulation: Simulation, safety: Safety) -> tuple[float, str | None]:
    """Turn the stretched arm at full speed; brake from when a guard trips. How far out its hand was, and the guard."""
    joints, speed, held, farthest = np.array([0.1, 0.0, 0.0, 0.0]), np.zeros(4), None, -np.inf
    safety.reset(np.zeros(4))
    for tick in range(20):
        seen = Observation(colour(0, 0, 0), np.append(joints, speed).astype(np.float32), tick / 20)
        held = held or safety.check_observation(seen, tick / 20, False)
        speed = safety.brake() if held else safety.filter(np.array([2.0, 0.0, 0.0, 0.0]))
        safety.sent(speed)
        joints = joints + speed / 20
        place(simulation, joints)
        farthest = max(farthest, float(simulation.data.site("tip").xpos[1]))
    return farthest, held


def test_the_arm_is_stopped_before_it_leaves_its_box(arm) -> None:
    _, simulation, solids = arm
    spec = spec_of(simulation, solids, None)
    place(simulation, np.array([0.1, 0.0, 0.0, 0.0]))
    wall_m = float(simulation.data.site("tip").xpos[1]) + 0.3
    box = ((-9.0, -9.0, -9.0), (9.0, wall_m, 9.0))
    farthest, held = swing(simulation, Safety(spec, sees=False))
    assert farthest > wall_m + 0.05 and held is None, "what it does without the box"
    farthest, held = swing(simulation, Safety(replace(spec, safety=replace(spec.safety, workspace_m=box)), sees=False))
    assert held == OUT_OF_BOUNDS
    assert farthest < wall_m
    home = np.array([[0.1, 0, 0, 0, 0, 0, 0, 0]], dtype=np.float32)
    assert not parts.leaves(solids, home, box)
    assert parts.leaves(solids, home, ((-9.0, -9.0, -9.0), (9.0, wall_m - 0.31, 9.0)))
    with pytest.raises(UserError, match="workspace_m is"):
        contract.Safety(0.5, workspace_m=((0.0, 0.0, 0.0), (1.0, 0.0, 1.0)))


def test_a_servo_is_stopped_for_where_its_target_is(arm) -> None:
    """The arm stands still and apart; its command is already inside itself."""
    _, simulation, solids = arm
    spec = spec_of(simulation, solids, 0.01)
    space = replace(spec.command, interface="joint_position", low=(-3.0,) * 4, high=(3.0,) * 4)
    safety = Safety(replace(spec, command=space), sees=False)
    still = Observation(colour(0, 0, 0), np.zeros(8, np.float32), 0.0)
    safety.reset(np.zeros(4))
    assert safety.check_observation(still, 0.0, False) is None
    safety.reset(np.array([0.0, 2.9, 2.9, 0.0]))
    assert safety.check_observation(still, 0.0, False) == SELF_COLLISION


def test_what_export_leaves_out_and_what_encoders_read(tmp_path: Path) -> None:
    body = folding_arm(tmp_path, ROUND)
    found = parts.measure(body, 0.5, None)
    assert "lower and upper" in found[1], "34 cm less two radii are nearer than half a metre at home"
    assert not any("upper" in (found[0].capsules[i].name, found[0].capsules[j].name) and
                   "lower" in (found[0].capsules[i].name, found[0].capsules[j].name)
                   for i, j in found[0].pairs)  # fmt: skip
    link = Joint(-1, (1.0, 0, 0, 0, 1, 0, 0, 0, 1), (0.0, 0, 0), "hinge", (0.0, 0, 1), (0.0, 0, 0), 1, 0.25)
    calibrated = Kinematics((link,), (BodyPoint("tip", 0, (0.0, 0.0, 0.0)),))
    (plain, _), (shifted, _) = (parts.measure(body, 0.01, table) for table in (None, calibrated))
    pose = np.array([[0.3, 1.0, 2.0, 0.02, 0, 0, 0, 0]])
    moved = pose + np.eye(8)[1] * 0.25  # the second encoder reads that much too much
    assert Clearance(shifted).between(moved) == pytest.approx(Clearance(plain).between(pose))


def test_a_log_that_comes_nearer_is_told_of(arm) -> None:
    _, _, solids = arm
    folded = np.array([[0, a, a, 0, 0, 0, 0, 0] for a in np.linspace(0, 2.5, 600)], dtype=np.float32)
    least_m, where, distance_N = parts.nearest(solids, folded)
    assert least_m == distance_N.min() < 0 < distance_N[0]
    assert where in ("base and lower", "upper and lower", "upper and tip", "base and tip")
    assert distance_N[7] == pytest.approx(Clearance(solids).least(folded[7:8]), abs=1e-6)
    assert parts.nearest(replace(solids, pairs=()), folded)[0] == np.inf


def test_export_says_what_it_watches_and_what_the_log_comes_near_to(tmp_path: Path, capfd) -> None:
    folded = np.array([[0, a, a, 0, 0, 0, 0, 0] for a in np.linspace(0, 2.5, 50)], dtype=np.float32)
    with LeRobotWriter(tmp_path / "log", 20.0, {STATE: Feature("float32", (8,))}) as writer:
        writer.add_episode({STATE: folded}, {})
    body = SimpleNamespace(
        embodiment=folding_arm(tmp_path, ROUND), planner=SimpleNamespace(body=SimpleNamespace(adapter=None))
    )
    solids = stage._solids(body, tmp_path / "log")
    assert solids is not None and len(solids.pairs) == 6
    said = " ".join(capfd.readouterr().err.split())
    assert "5 capsules stand for the body, 6 pairs are kept apart" in said
    assert "of it nearer than self_clearance_m (20 mm): flights like it will be stopped" in said
    body.embodiment = replace(body.embodiment, safety=contract.Safety(0.5))
    assert stage._solids(body, tmp_path / "log") is None, "nobody asked"


def test_a_gripper_may_close(tmp_path: Path) -> None:
    body = replace(folding_arm(tmp_path, ROUND), gripper="slide")
    with robots.load(body) as simulation:
        solids = tables.of_body(simulation)
    names = {(solids.capsules[i].name, solids.capsules[j].name) for i, j in solids.pairs}
    assert ("middle", "tip") in names, "the third joint moves them too"
    assert ("lower", "tip") not in names


def test_tables_are_checked_before_they_are_used(arm) -> None:
    _, simulation, solids = arm
    spec = spec_of(simulation, solids, 0.01)
    assert config.from_mapping(ControllerSpec, config.to_mapping(spec), "controller.json") == spec
    with pytest.raises(UserError, match="does not know the body's parts"):
        Safety(replace(spec, solids=None))
    part, joint = solids.capsules[0], solids.joints[0]
    for broken, said in (
        (replace(solids, pairs=((0, 99),)), "a capsule that there is not"),
        (replace(solids, pairs=((0, 1),) * 40_000), "40000 pairs"),
        (replace(solids, joints=(replace(joint, entry=8),)), "measured by entry 8"),
        (replace(solids, joints=(replace(joint, parent=0),)), "hangs on 0"),
        (replace(solids, joints=(replace(joint, zero=np.inf),)), "not finite"),
        (replace(solids, capsules=(replace(part, radius_m=0.0),)), "with radius 0.0"),
        (replace(solids, capsules=(replace(part, link=7),)), "on joint 7"),
    ):
        with pytest.raises(UserError, match=said):
            replace(spec, solids=broken)
    with pytest.raises(UserError, match=r"self_clearance_m is -0\.1"):
        contract.Safety(0.5, self_clearance_m=-0.1)


def test_a_body_that_does_not_measure_its_joints_is_refused(tmp_path: Path) -> None:
    with robots.load(folding_arm(tmp_path, ROUND)) as simulation:
        simulation.command = replace(simulation.command, interface="end_effector_velocity")
        with pytest.raises(UserError, match="does not measure the joints that it moves"):
            tables.of_body(simulation)
