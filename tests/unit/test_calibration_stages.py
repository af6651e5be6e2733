"""identify, camera, board and plan as stages: from a dataset and a yaml to a run folder."""

from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest

from calibration.board import Board
from calibration.body_model import BodyModelConfig, measure_body
from calibration.excitation import ExcitationConfig
from calibration.log_faults import examine_log
from calibration.stages.board import BoardConfig, print_board
from calibration.stages.camera import CameraConfig, calibrate_camera
from calibration.stages.identify import IdentifyConfig, identify_body
from calibration.stages.plan import PlanConfig, plan_motion
from calibration.sysid import FitConfig
from deploy.bench import drawn_board
from robot_wm.contracts import files
from robot_wm.contracts.dataset import ACTION, STATE, Feature, image_key
from robot_wm.contracts.embodiment import Camera, Embodiment, Mjcf, Safety, Servos
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import read_run
from robot_wm.data.lerobot_writer import LeRobotWriter
from sims import models, robots
from sims.render import world_to_camera
from tests.swinging_arm import JOINTS, MJCF, chosen, record

WRIST = """
<mujoco><compiler angle="radian"/><option timestep="0.004"/><worldbody>
  <body name="wrist" pos="0 0 0.5">
    <joint name="yaw" axis="0 0 1"/><joint name="pitch" axis="0 1 0"/><joint name="roll" axis="1 0 0"/>
    <geom size="0.03"/><site name="grip" pos="0.02 0.01 0.05"/>
  </body></worldbody>
  <actuator>
    <position name="yaw" joint="yaw" ctrlrange="-2 2"/><position name="pitch" joint="pitch" ctrlrange="-2 2"/>
    <position name="roll" joint="roll" ctrlrange="-2 2"/>
  </actuator></mujoco>
"""


def body(path: Path, xml: str, hand: str, size: tuple[int, int] = (48, 48), **more: object) -> Embodiment:
    path.write_text(xml)
    camera = Camera("front", *size, position_m=(0.0, -1.5, 0.9), target_m=(0.0, 0.0, 0.75))
    return Embodiment("arm", Mjcf(str(path)), "joint_position", hand, camera, 125.0, 25, Safety(max_step=0.05), **more)  # type: ignore[arg-type]


def dataset(
    path: Path, names: tuple[str, ...], position: np.ndarray, command: np.ndarray, frames: np.ndarray | None = None
) -> Path:
    state = np.hstack([position, np.gradient(position, 1 / 125, axis=0)]).astype(np.float32)
    labels = (*(f"{n}_position" for n in names), *(f"{n}_velocity" for n in names))
    features = {
        STATE: Feature("float32", (len(labels),), labels),
        ACTION: Feature("float32", (len(names),), names),
    }
    videos = {}
    if frames is not None:
        features[image_key("front")] = Feature("video", frames.shape[1:], ("height", "width", "channels"))
        videos = {image_key("front"): frames}
    with LeRobotWriter(path, 125.0, features) as writer:
        writer.add_episode({STATE: state, ACTION: command.astype(np.float32)}, videos, "swing")
    return path


def test_identify_writes_a_patch_and_a_model_that_compiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parameters = chosen("damping")
    hidden = np.array([p.nominal for p in parameters]) * [1.8, 0.6]
    log = record(parameters, hidden, 3.0, rate_hz=125.0)
    data = dataset(tmp_path / "log", JOINTS, log.position_NJ, log.command_NU)
    arm = body(tmp_path / "arm.xml", MJCF, "tip", identifiable={"damping": (0.1, 10.0)})
    config = IdentifyConfig(arm, str(data), fit=FitConfig(starts=1), out=str(tmp_path / "runs"))
    run = identify_body(config)
    assert "identify (search)" in (said := capsys.readouterr().err) and "times the measurement noise" in said
    manifest = read_run(run, "identify")
    assert manifest.gates["no_worse_than_the_mjcf"] and manifest.metrics["held_out"] < 1e-3
    found = files.read_json(run / "identified.json")["parameters"]
    assert found["damping:shoulder"]["value"] == pytest.approx(hidden[0], rel=0.02)
    model = mujoco.MjModel.from_xml_path(str(run / "identified.xml"))
    assert model.joint("elbow").damping[0] == pytest.approx(hidden[1], rel=0.02)
    assert identify_body(config) == run


def test_identify_refuses_degrees_and_leaves_nothing_behind(tmp_path: Path) -> None:
    parameters = chosen("damping")
    log = record(parameters, np.array([p.nominal for p in parameters]), 2.0, rate_hz=125.0)
    data = dataset(tmp_path / "log", JOINTS, np.rad2deg(log.position_NJ), log.command_NU)
    arm = body(tmp_path / "arm.xml", MJCF, "tip")
    with pytest.raises(UserError, match="degrees"):
        identify_body(IdentifyConfig(arm, str(data), out=str(tmp_path / "runs")))
    assert list((tmp_path / "runs" / "identify").iterdir()) == []


def test_board_is_written_where_asked(tmp_path: Path) -> None:
    assert print_board(BoardConfig(file=str(tmp_path / "print" / "board.pdf"))).is_file()


@pytest.mark.slow
def test_plan_writes_motion_picture_and_video(tmp_path: Path) -> None:
    arm = body(tmp_path / "arm.xml", MJCF, "tip", identifiable={"damping": (0.1, 10.0)})
    motion = ExcitationConfig(duration_s=3.0, candidates=3)
    run = plan_motion(PlanConfig(arm, motion, out=str(tmp_path / "runs")))
    found = files.read_json(run / "motion.json")
    assert np.shape(found["commands"]) == (375, 2) and found["predicted_intervals"]["damping:elbow"]["interval"] > 0
    assert (run / "motion.png").stat().st_size > 10_000 and (run / "motion.mp4").stat().st_size > 1_000


@pytest.mark.slow
def test_camera_is_placed_from_a_log_of_the_board_on_the_hand(tmp_path: Path) -> None:
    rng, board = np.random.default_rng(0), Board()
    lens = drawn_board.lens(rng)
    wrist = body(tmp_path / "wrist.xml", WRIST, "grip", (480, 640))
    model = mujoco.MjModel.from_xml_string(WRIST)
    data = mujoco.MjData(model)
    T_world_cam = np.eye(4)
    T_world_cam[:3, :3] = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # looks along +y, upright
    T_world_cam[:3, 3] = 0.02, -0.6, 0.52
    T_hand_board = np.eye(4)
    T_hand_board[:3, :3] = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    T_hand_board[:3, 3] = -0.11, -0.03, 0.09
    position = rng.uniform(-0.45, 0.45, (18, 3))
    frames = []
    for q in position:
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        T_world_hand = np.eye(4)
        T_world_hand[:3, :3], T_world_hand[:3, 3] = data.site("grip").xmat.reshape(3, 3), data.site("grip").xpos
        T_cam_board = np.linalg.inv(T_world_cam) @ T_world_hand @ T_hand_board
        frames.append(drawn_board.take(board, T_cam_board, lens, rng))
    log = dataset(tmp_path / "log", ("yaw", "pitch", "roll"), position, position, np.stack(frames))
    run = calibrate_camera(CameraConfig(wrist, str(log), out=str(tmp_path / "runs")))
    placed = mujoco.MjModel.from_xml_path(str(run / "camera.xml"))
    np.testing.assert_allclose(placed.camera("front").pos, T_world_cam[:3, 3], atol=2e-3)
    assert read_run(run, "camera").metrics["error_px"] < 0.4
    assert (run / "overlay.png").stat().st_size > 10_000

    config = BodyModelConfig(identify=False, board_data=str(log))
    measured = measure_body(wrist, log, examine_log(log, wrist), config, tmp_path / "runs", 0)
    assert measured.runs == {"camera": run} and measured.camera is not None and measured.camera.error_px < 0.4
    with robots.load(measured.embodiment) as simulation:
        found = world_to_camera(simulation.model, simulation.data, simulation.camera)
    np.testing.assert_allclose(found, np.linalg.inv(T_world_cam), atol=5e-3)
    (tmp_path / "beside").mkdir()
    assert measured.copy_to(tmp_path / "beside") == ["camera.json", "camera.xml", "overlay_before.png", "overlay.png"]


BARE = """
<mujoco model="bare"><compiler angle="radian"/><option timestep="0.004"/><worldbody>
  <body name="base" pos="0 0 1"><freejoint/><geom size="0.1" mass="5"/>
    <body name="upper" pos="0 0 -0.1">
      <joint name="shoulder" axis="0 1 0" range="-2 2" damping="0.3" armature="0.03"/>
      <geom type="capsule" fromto="0 0 0 0 0 -0.25" size="0.025" density="700"/><site name="tip" pos="0 0 -0.25"/>
    </body>
  </body></worldbody>
  <actuator><motor name="shoulder" joint="shoulder"/></actuator></mujoco>
"""


def test_identify_takes_a_changed_model_as_it_is_simulated(tmp_path: Path) -> None:
    """A base held, servos added: neither is in the file."""
    arm = body(tmp_path / "bare.xml", BARE, "tip", identifiable={"damping": (0.1, 10.0)})
    arm = replace(arm, mjcf=replace(arm.mjcf, fixed_base=True, servos=Servos(frequency_hz=2.0)))
    hidden = models.read(arm.mjcf, arm.interface)
    hidden.joint("shoulder").damping = [0.9, 0.0, 0.0]
    model = hidden.compile()
    data, time_s, position = mujoco.MjData(model), np.arange(375) / 125, []
    command = 0.5 * np.sin(2 * np.pi * 0.9 * time_s * np.clip(time_s, 0, 1))[:, None]
    for row in command:
        position.append(data.qpos.copy())
        data.ctrl[:] = row
        mujoco.mj_step(model, data, nstep=2)
    log = dataset(tmp_path / "log", ("shoulder",), np.array(position), command)
    run = identify_body(IdentifyConfig(arm, str(log), fit=FitConfig(starts=1), out=str(tmp_path / "runs")))
    found = files.read_json(run / "identified.json")["parameters"]
    assert found["damping:shoulder"]["value"] == pytest.approx(0.9, rel=0.02)
    assert mujoco.MjModel.from_xml_path(str(run / "identified.xml")).nq == 1
