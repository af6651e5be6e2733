"""Robots by name: every body behind its own interface, and a body's yaml drafted from its model file."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import cv2
import mujoco
import numpy as np
import pytest
import yaml

from deploy import cli
from robot_wm.contracts.config import from_mapping
from robot_wm.contracts.embodiment import Camera, Embodiment, Mjcf, Safety, Servos, Site
from robot_wm.contracts.errors import UserError
from sims import catalog, drafting, menagerie, models, robots
from sims.stages.record import RecordConfig, record
from sims.viewpoints import in_view

ARM = """
<mujoco model="arm">
  <compiler angle="radian"/>
  <worldbody>
    <body name="base" pos="0 0 0.2">
      <freejoint/>
      <geom type="box" size="0.1 0.1 0.1"/>
      <body name="upper" pos="0 0 0.12">
        <joint name="shoulder" axis="0 1 0" range="-2 2"/>
        <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.03"/>
        <body name="lower" pos="0.3 0 0">
          <joint name="elbow" axis="0 1 0" range="0.5 2"/>
          <geom type="capsule" fromto="0 0 0 0.25 0 0" size="0.03"/>
        </body>
      </body>
    </body>
    <body name="block" pos="1 0 0.1"><freejoint/><geom type="box" size="0.05 0.05 0.05"/></body>
  </worldbody>
  <keyframe><key name="ready" qpos="0 0 0.2 1 0 0 0 -0.6 0.9 1 0 0.1 1 0 0 0"/></keyframe>
</mujoco>
"""
URDF = """
<robot name="stick">
  <link name="base_link"><collision><geometry><box size="0.2 0.2 0.2"/></geometry></collision>
    <inertial><mass value="2"/><inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="arm"><collision><origin xyz="0.15 0 0"/><geometry><box size="0.4 0.05 0.05"/></geometry></collision>
    <inertial><origin xyz="0.15 0 0"/><mass value="1"/>
      <inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="tool0"/>
  <joint name="turn" type="revolute"><parent link="base_link"/><child link="arm"/><origin xyz="0 0 0.1"/>
    <axis xyz="0 0 1"/><limit lower="-1" upper="1" effort="20" velocity="2"/></joint>
  <joint name="mount" type="fixed"><parent link="arm"/><child link="tool0"/><origin xyz="0.35 0 0"/></joint>
</robot>
"""
NAMED = sorted(catalog.named())


STUCK = """
<mujoco><compiler angle="radian"/><worldbody><camera name="above" pos="0 0 2"/>
  <body name="pillar"><geom type="box" size="0.1 0.1 0.1"/>
    <body name="table" pos="0 0 {height}"><joint name="yaw" axis="0 0 1" range="-1 1"/>
      <geom type="cylinder" size="0.06 0.03"/><geom type="capsule" fromto="0 0 0.05 0.4 0 0.05" size="0.02"/>
      <site name="tip" pos="0.4 0 0.05"/></body></body></worldbody>
  <actuator><velocity name="yaw" joint="yaw" kv="1" ctrlrange="-1 1"/></actuator></mujoco>
"""


@pytest.mark.parametrize(("height", "stuck"), [(0.115, True), (0.14, False)])
def test_a_turntable_that_reaches_into_its_pedestal_is_told_before_and_after_recording(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], height: float, stuck: bool
) -> None:
    path = arm_file(tmp_path, STUCK.format(height=height), "turntable.xml")
    assert cli.main(["robots", str(path), f"out={tmp_path}", "size=32"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert ("pillar and table stand 15 mm inside each other" in said) == stuck
    body = catalog.find(str(path))
    config = RecordConfig(out=str(tmp_path / "runs"), embodiment=body, transitions=24, workers=1)
    record(config)
    said = " ".join(capsys.readouterr().err.split())
    assert ("warning: yaw moves by" in said) == stuck


def arm_file(folder: Path, text: str = ARM, name: str = "arm.xml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def message(call):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMED)
def test_named_body_steps_under_its_own_interface_and_its_camera_sees_its_end_effector(name):
    missing = catalog.missing(catalog.read(catalog.named()[name]))
    if missing:
        pytest.skip(f"{name} is not installed ({missing})")
    with robots.load(name, seed=1) as body:
        camera, place_m = body.embodiment.camera, body.end_effector()
        assert in_view(body.model, body.data, camera, place_m[None]).all()
        rng, command, first = np.random.default_rng(0), body.command, body.frame(48, 48)
        for _ in range(round(2 * command.control_rate_hz)):
            change = rng.uniform(-1, 1, command.dim) * command.max_step
            body.step(body.reference() + change)
        speeds = body.data.qvel
        assert np.isfinite(body.state()).all()
        assert not body.data.warning.number[mujoco.mjtWarning.mjWARN_BADQPOS :].any()
        assert np.abs(speeds).max() < 25
        assert np.linalg.norm(body.end_effector() - place_m) > 0.003
        assert np.abs(body.frame(48, 48).astype(int) - first).max() > 20  # and it is seen to move


@pytest.mark.parametrize("name", ["fetch", "shadow_hand", "humanoid"])
def test_same_seed_and_commands_same_bytes_and_pixels(name):
    def run():
        with robots.load(name, seed=3) as body:
            for _ in range(3):
                body.step(np.asarray(body.command.high) * 0.5)
            return body.state().tobytes(), body.frame(32, 32).tobytes()

    assert run() == run()


def test_draft_of_a_bare_arm_holds_its_base_drives_its_joints_and_starts_where_the_keyframe_says(tmp_path):
    path = arm_file(tmp_path)
    with robots.load(str(path)) as body:
        embodiment = body.embodiment
        assert embodiment.mjcf.fixed_base
        assert embodiment.mjcf.room
        assert embodiment.interface == "joint_position"
        assert embodiment.end_effector == "lower"
        assert embodiment.object == "block"
        assert body.command.names == ("shoulder", "elbow")
        np.testing.assert_allclose(body.command.low, [-2, 0.5])
        np.testing.assert_allclose(embodiment.home, [-0.6, 0.9])
        assert body.model.joint("shoulder").type[0] == mujoco.mjtJoint.mjJNT_HINGE
        assert body.model.nq == 2 + 7  # the block still falls where it likes
        start = body.proprio()[:2]
        for _ in range(25):
            body.step(body.reference())
        np.testing.assert_allclose(body.proprio()[:2], start, atol=0.02)


def test_drafted_yaml_is_the_same_body_wherever_it_is_written(tmp_path, monkeypatch):
    path = arm_file(tmp_path / "models")
    drafted = catalog.find(str(path))
    place = arm_file(tmp_path / "mine" / "embodiment", drafting.to_yaml(drafted, tmp_path / "mine/embodiment/arm.yaml"),
                     "arm.yaml")  # fmt: skip
    monkeypatch.chdir(tmp_path / "models")
    found = catalog.find("arm", [tmp_path / "mine"])
    assert Path(found.mjcf.path).resolve() == path
    assert found.digest() != drafted.digest()  # another path
    assert replace(found, mjcf=drafted.mjcf) == drafted
    assert from_mapping(Embodiment, yaml.safe_load(place.read_text())).mjcf.path == "../../models/arm.xml"
    robots.load("arm", folders=[tmp_path / "mine"]).close()


def test_urdf_is_a_body_with_the_frames_that_it_names(tmp_path):
    path = arm_file(tmp_path, URDF, "stick.urdf")
    with robots.load(str(path)) as body:
        assert body.command.names == ("turn",)
        assert body.embodiment.end_effector == "tool0"
        target = body.reference() + 0.5
        for _ in range(50):
            body.step(target)
        assert body.proprio()[0] == pytest.approx(target[0], abs=0.03)  # its own base is not in the way


def test_urdf_without_collision_geometry_is_refused_with_what_shows_it(tmp_path):
    bare = URDF.replace("collision>", "visual>")
    with pytest.raises(UserError, match=r"no part of the robot has a shape.*discardvisual"):
        robots.load(str(arm_file(tmp_path, bare, "bare.urdf")))
    shown = bare.replace("<link", '<mujoco><compiler discardvisual="false"/></mujoco><link', 1)
    robots.load(str(arm_file(tmp_path, shown, "shown.urdf"))).close()


@pytest.mark.parametrize(
    ("interface", "unit"), [("joint_position", "rad"), ("joint_velocity", "rad/s"), ("joint_torque", "N·m")]
)
def test_servos_take_what_the_interface_says(tmp_path, interface, unit):
    values = {
        "name": "arm",
        "mjcf": {"path": str(arm_file(tmp_path)), "keep": ["base"], "fixed_base": True, "servos": {}, "room": True,
                 "sites": {"tip": {"body": "lower", "position_m": [0.25, 0, 0]}}},
        "interface": interface,
        "end_effector": "tip",
        "camera": {"name": "side", "position_m": [0.2, -2, 0.5], "target_m": [0.2, 0, 0.4]},
        "control_rate_hz": 20,
        "frame_skip": 2,
        "safety": {"max_step": 1.0},
    }  # fmt: skip
    with robots.load(from_mapping(Embodiment, values)) as body:
        assert body.command.unit == unit
        assert body.model.nq == 2  # the block is gone
        before = body.end_effector()
        for _ in range(10):
            body.step(body.reference() + 0.2 * np.asarray(body.command.high))
        assert np.linalg.norm(body.end_effector() - before) > 0.02
        assert np.abs(body.proprio()).max() < 20


def test_body_keeps_its_digest_when_a_version_brings_new_ways_to_change_its_model():
    arm = Embodiment("arm", Mjcf("arm.xml"), "joint_position", "tip", Camera("above"), 20.0, 4, Safety(0.1))
    assert arm.digest() == "cb95f697be8753e5d5f3869687e3781a64b0c231829d487643b8d87eee7f8a1d"
    assert replace(arm, mjcf=replace(arm.mjcf, room=True)).digest() != arm.digest()


def test_procedural_body_is_one_of_many(tmp_path):
    with robots.load("procedural/7") as body, robots.load("procedural/7") as again:
        assert body.embodiment == again.embodiment
        assert body.has_object
        for _ in range(25):
            body.step(body.reference())
        assert np.abs(body.data.qvel).max() < 5
    assert "procedural/x is no procedural body" in message(lambda: robots.load("procedural/x"))


def test_menagerie_robots_come_from_the_folder_that_menagerie_root_names(tmp_path, monkeypatch):
    monkeypatch.setenv("MENAGERIE_ROOT", str(tmp_path))
    arm_file(tmp_path / "acme_arm", ARM, "acme.xml")
    arm_file(tmp_path / "acme_arm", '<mujoco><include file="acme.xml"/></mujoco>', "scene.xml")
    assert menagerie.names() == ["acme_arm"]
    with robots.load("menagerie/acme_arm") as body:
        assert body.embodiment.mjcf.path == "acme_arm/scene.xml"
        assert body.command.dim == 2
    assert catalog.find("menagerie/acme_arm/acme").mjcf.path == "acme_arm/acme.xml"
    assert menagerie.download("acme_arm") == tmp_path / "acme_arm"  # nothing to fetch
    assert "Robots there: acme_arm" in message(lambda: robots.load("menagerie/other"))
    assert "Model files there: acme.xml, scene.xml" in message(lambda: robots.load("menagerie/acme_arm/hand"))
    monkeypatch.setenv("MENAGERIE_ROOT", str(tmp_path / "nowhere"))
    assert "MENAGERIE_ROOT" in message(lambda: robots.load("menagerie/acme_arm"))


def test_nothing_is_downloaded_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("MENAGERIE_ROOT", raising=False)
    if importlib.util.find_spec("mujoco_menagerie") is None:
        assert "pip install mujoco-menagerie" in message(lambda: robots.load("menagerie/unitree_g1"))
        pytest.skip("mujoco-menagerie is not installed")
    monkeypatch.setenv("MENAGERIE_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("MENAGERIE_BASE_URL", "file:///nowhere")
    refused = message(lambda: robots.load("menagerie/unitree_g1"))
    assert "robot-wm robots menagerie/unitree_g1 download=true" in refused
    assert not list(tmp_path.iterdir())
    assert "could not be downloaded" in message(lambda: menagerie.download("unitree_g1"))
    assert "has no robot 'nobody'" in message(lambda: robots.load("menagerie/nobody"))


def test_unknown_robot_lists_those_there():
    refused = message(lambda: robots.load("pandra"))
    assert "robot 'pandra' is not known" in refused
    assert "fetch, " in refused
    assert "panda, " in refused


def test_missing_package_says_how_to_install_it(tmp_path):
    fetch = catalog.find("fetch")
    there = {**vars(fetch), "environment": None, "mjcf": Mjcf("robot.xml", "no_such_robots")}
    assert "Run pip install no-such-robots" in message(lambda: robots.load(Embodiment(**there)))
    assert catalog.missing(Embodiment(**there)) == "pip install no-such-robots"


def test_camera_that_sees_nothing_of_the_workspace_is_refused(tmp_path):
    drafted = catalog.find(str(arm_file(tmp_path)))
    camera = {**vars(drafted.camera), "position_m": (2.0, 0.0, 1.0), "target_m": (4.0, 0.0, 1.0)}
    away = Embodiment(**{**vars(drafted), "camera": type(drafted.camera)(**camera)})
    refused = message(lambda: robots.load(away))
    assert "camera 'overview' of arm sees nothing of where 'lower' goes" in refused
    assert "camera.target_m" in refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sites": {"tip": Site("hand")}}, ["body 'hand' is not in the MJCF", "base, upper, lower, block"]),
        ({"keep": ("robot",)}, ["body 'robot' is not in the MJCF"]),
        ({"path": "nowhere.xml"}, ["nowhere.xml does not exist"]),
    ],
)
def test_changes_that_the_model_file_does_not_allow(tmp_path, change, words):
    mjcf = Mjcf(**{"path": str(arm_file(tmp_path)), **change})
    refused = message(lambda: models.compile_model(mjcf))
    assert all(word in refused for word in words)


@pytest.mark.parametrize(
    ("text", "words"),
    [("name: [", "cannot be read"), ("name: x", "'mjcf' is missing"), ("- 1", "Give a mapping"), ("", "is missing")],
)
def test_yaml_that_is_no_embodiment(tmp_path, text, words):
    path = arm_file(tmp_path, text, "x.yaml")
    assert words in message(lambda: catalog.find(str(path)))


def test_servos_that_cannot_work():
    assert "must be positive" in message(lambda: Servos(frequency_hz=0))


def test_model_file_without_joints(tmp_path):
    path = arm_file(tmp_path, '<mujoco><worldbody><geom size="1"/></worldbody></mujoco>', "rock.xml")
    assert "has no hinge or slide joint" in message(lambda: robots.load(str(path)))


def test_command_shows_a_users_robot_and_writes_its_picture_and_yaml(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arm_file(tmp_path)
    assert cli.main(["robots", "arm.xml", "size=48", "yaml=mine/embodiment/my_arm.yaml"]) == 0
    shown = capsys.readouterr()
    assert shown.out.strip() == "robots/arm.png"
    assert "shoulder" in shown.err
    assert Path("robots/arm.png").read_bytes().startswith(b"\x89PNG")
    assert cli.main(["robots", "my_arm", "--config-dir", "mine", "size=48"]) == 0
    assert "Commands: joint_position [rad]" in capsys.readouterr().err
    assert cli.main(["robots", "no_arm", "--config-dir", "mine"]) == 2
    assert "my_arm" in capsys.readouterr().err
    assert cli.main(["robots", "sheet=faces"]) == 2
    assert cli.main(["robots", "fetch", "download=true"]) == 2


def test_list_has_joints_limits_and_a_picture_of_each_body(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["robots", "size=40"]) == 0
    shown = capsys.readouterr()
    assert shown.out.strip() == "robots/bodies.png"
    assert all(name in shown.err for name in ("fetch", "humanoid", "panda", "shadow_hand", "-1.57 to 1.57"))
    sheet = cv2.imread("robots/bodies.png")
    assert sheet.shape[1] >= 4 * 40 and sheet.std() > 20


def test_sheet_shows_many_arms_on_one_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["robots", "sheet=arms", "size=24"]) == 0
    assert Path("robots/arms.png").is_file()
