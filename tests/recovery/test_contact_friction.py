"""Contact friction comes back from a log of pushing in which the object's place was measured as well."""

from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest

from calibration.identification import IdentifyConfig, identify_body
from calibration.parameters import parameter, write
from calibration.pushed_object import with_object
from calibration.signals import Log
from calibration.sysid import FitConfig, identify
from robot_wm.contracts import files
from robot_wm.contracts.dataset import ACTION, STATE, Feature
from robot_wm.contracts.embodiment import Camera, Embodiment, Mjcf, Safety
from robot_wm.contracts.errors import UserError
from robot_wm.data.lerobot_writer import LeRobotWriter

MJCF = """
<mujoco model="shove">
  <option timestep="0.002" cone="elliptic"/>
  <worldbody>
    <geom type="plane" size="3 3 0.1" friction="0.05 0.001 0.0001"/>
    <body name="pusher" pos="-0.15 0 0.05">
      <joint name="push" type="slide" axis="1 0 0" damping="1" armature="0.1" range="-0.5 0.5"/>
      <geom type="box" size="0.02 0.1 0.03" density="500"/>
      <site name="tip"/>
    </body>
    <body name="block" pos="0 0 0.03">
      <joint name="block_x" type="slide" axis="1 0 0"/>
      <joint name="block_y" type="slide" axis="0 1 0"/>
      <joint name="block_z" type="slide" axis="0 0 1"/>
      <joint name="block_yaw" type="hinge" axis="0 0 1"/>
      <geom name="block" type="box" size="0.03 0.05 0.03" density="600" friction="0.8 0.005 0.0001"/>
    </body>
  </worldbody>
  <actuator><position name="push" joint="push" kp="400" kv="30" ctrlrange="-0.5 0.5"/></actuator>
</mujoco>
"""
FREE = MJCF.replace('<joint name="block_x" type="slide" axis="1 0 0"/>', '<freejoint name="block"/>')
for gone in (
    '<joint name="block_y" type="slide" axis="0 1 0"/>',
    '<joint name="block_z" type="slide" axis="0 0 1"/>',
    '<joint name="block_yaw" type="hinge" axis="0 0 1"/>',
):
    FREE = FREE.replace(gone, "")
POSE, TORQUE = "observation.environment_state", "observation.effort"
JOINTS = ("push", "block_x", "block_y", "block_z", "block_yaw")


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [0.3, 0.55])
def test_friction_is_recovered_from_shoves(hidden: float) -> None:
    spec = mujoco.MjSpec.from_string(MJCF)
    asked = [parameter(spec.copy().compile(), "friction", "block", 0.2, 2.0)]
    log = _shoves(spec, asked, hidden)
    assert np.ptp(log.position_NJ[:, 1]) > 0.1
    found = identify(spec, log, asked, FitConfig(fit_share=0.7, starts=3))
    assert found.values[0] == pytest.approx(hidden, rel=0.1)
    assert found.rmse["held_out"] < 0.3 * found.rmse["held_out_before"]


def _shoves(spec: mujoco.MjSpec, asked: list, hidden: float) -> Log:
    """Three shoves, each further and from where the one before left the block; 100 Hz, .2 mm of noise."""
    nominal, model = spec.copy().compile(), spec.copy().compile()
    write(model, nominal, mujoco.MjData(model), asked, np.array([hidden]))
    data = mujoco.MjData(model)
    rows = []
    for row in range(400):
        time_s = row / 100
        shove = int(time_s / 1.2)
        command = 0.1 + 0.12 * shove if 0.3 < time_s - 1.2 * shove < 0.6 else -0.02
        rows.append((time_s, command, data.qpos.copy()))
        data.ctrl[:] = command
        for _ in range(5):
            mujoco.mj_step(model, data)
    time_N, command_N, position = (np.array(column) for column in zip(*rows, strict=True))
    noisy = position + 2e-4 * np.random.default_rng(0).normal(size=position.shape)
    return Log(time_N, command_N[:, None], noisy, JOINTS, ("push",))


def _dataset(folder: Path, hidden: float) -> tuple[Path, Embodiment]:
    """The same shoves as a dataset of a body whose object is free, with the object's pose and the drive's force."""
    spec = mujoco.MjSpec.from_string(MJCF)
    log = _shoves(spec, [parameter(spec.copy().compile(), "friction", "block", 0.2, 2.0)], hidden)
    position, rows = log.position_NJ, len(log.time_s)
    state = np.hstack([position[:, :1], np.gradient(position[:, :1], 0.01, axis=0)])
    yaw = position[:, 4]
    turned = np.column_stack([np.cos(yaw / 2), np.zeros((rows, 2)), np.sin(yaw / 2)])
    pose = np.hstack([position[:, 1:4] + [0, 0, 0.03], turned])
    features = {
        STATE: Feature("float32", (2,), ("push_position", "push_velocity")),
        ACTION: Feature("float32", (1,), ("push",)),
        POSE: Feature("float32", (7,), ("x", "y", "z", "qw", "qx", "qy", "qz")),
    }
    values = {STATE: state, ACTION: log.command_NU, POSE: pose}
    with LeRobotWriter(folder / "log", 100.0, features) as writer:
        writer.add_episode({k: v.astype(np.float32) for k, v in values.items()}, {}, "shove")
    (folder / "shove.xml").write_text(FREE)
    camera = Camera("front", 48, 48, position_m=(0.0, -1.5, 0.9), target_m=(-0.1, 0.0, 0.05))
    return folder / "log", Embodiment(
        "shove", Mjcf(str(folder / "shove.xml")), "joint_position", "tip", camera, 100.0, 5, Safety(max_step=0.5),
        object="block", identifiable={"friction:block": (0.2, 2.0)},
    )  # fmt: skip


def test_identify_takes_the_objects_pose_from_a_dataset(tmp_path: Path) -> None:
    data, body = _dataset(tmp_path, 0.3)
    fit = FitConfig(fit_share=0.7, starts=2)
    run = identify_body(IdentifyConfig(body, str(data), object_pose=POSE, fit=fit, out=str(tmp_path / "runs")))
    found = files.read_json(run / "identified.json")
    assert found["parameters"]["friction:block"]["value"] == pytest.approx(0.3, rel=0.1)
    assert found["rmse"]["held_out"] < 0.3 * found["rmse"]["held_out_before"]
    patched = mujoco.MjModel.from_xml_path(str(run / "identified.xml"))
    assert patched.geom("block").friction[0] == pytest.approx(0.3, rel=0.1) and patched.nq == 8


def test_a_feature_that_the_log_lacks_is_refused(tmp_path: Path) -> None:
    data, body = _dataset(tmp_path, 0.3)
    for asked in ({"object_pose": "nowhere"}, {"torques": POSE}):
        with pytest.raises(UserError, match="the log has no feature"):
            identify_body(IdentifyConfig(body, str(data), out=str(tmp_path / "runs"), **asked))  # type: ignore[arg-type]


def test_an_object_that_tips_over_is_refused() -> None:
    spec = mujoco.MjSpec.from_string(FREE)
    log = _shoves(mujoco.MjSpec.from_string(MJCF), [parameter(spec.copy().compile(), "friction", "block")], 0.5)
    pose = np.tile([0.0, 0, 0.03, 1, 0, 0, 0], (len(log.time_s), 1))
    pose[300:, 3:] = [np.sqrt(0.5), np.sqrt(0.5), 0, 0]  # on its side
    with pytest.raises(UserError, match="tips over in 100 rows"):
        with_object(spec, "block", replace(log, object_N7=pose))
