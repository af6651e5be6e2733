"""Measured torques give back what positions alone cannot: how heavy an arm is, where all that is known is ratios."""

from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest

from calibration.log_faults import examine_log
from calibration.parameters import parameter, write
from calibration.signals import Log
from calibration.sysid import FitConfig, identify
from robot_wm.contracts.dataset import ACTION, STATE, Feature
from robot_wm.contracts.embodiment import Camera, Embodiment, Mjcf, Safety
from robot_wm.contracts.errors import UserError
from robot_wm.data.lerobot_writer import LeRobotWriter
from tests.swinging_arm import JOINTS, MJCF, excitation

HIDDEN = np.array([1.7, 1.5, 1.6, 1.4, 1.8, 1.5, 1.5])  # over the MJCF's


def spec() -> mujoco.MjSpec:
    """Without gravity, stiffness or friction loss: gains, damping and inertia are known up to a common factor."""
    arm = mujoco.MjSpec.from_string(MJCF.replace("<option ", '<option gravity="0 0 0" '))
    for actuator in arm.actuators:
        actuator.forcelimited = False
    for joint in arm.joints:
        joint.frictionloss = 0
        joint.stiffness[0] = 0
    return arm


def log(torques: bool) -> tuple[Log, list]:
    model, hidden = spec().compile(), spec().compile()
    asked = [parameter(model, kind, j, 0.2, 5.0) for kind in ("gain", "damping", "armature") for j in JOINTS]
    asked.append(parameter(model, "mass", "lower", 0.2, 5.0))
    write(hidden, model, mujoco.MjData(hidden), asked, HIDDEN * [p.nominal for p in asked])
    data, rng = mujoco.MjData(hidden), np.random.default_rng(0)
    time_s = np.arange(500) / 125
    command, rows = excitation(time_s), []
    for target in command:
        rows.append((data.qpos.copy(), data.qfrc_actuator.copy()))
        data.ctrl[:] = target
        mujoco.mj_step(hidden, data, 2)
    position, torque = (np.array(x) for x in zip(*rows, strict=True))
    position += 1e-4 * rng.normal(size=position.shape)
    torque += 0.01 * rng.normal(size=torque.shape)
    return Log(time_s, command, position, JOINTS, JOINTS, torque_NU=torque if torques else None), asked


def test_inertia_and_gains_come_back_with_torques_and_not_without() -> None:
    config = FitConfig(fit_share=0.7, starts=1)
    measured, asked = log(torques=True)
    arm = spec()
    found = identify(arm, measured, asked, config)
    ratio = found.values / [p.nominal for p in asked]
    assert ratio == pytest.approx(HIDDEN, rel=0.1)
    assert all(e.identifiable for e in found.estimates)
    assert found.rmse["held_out"] < 3e-4 < found.rmse["held_out_before"]
    blind = identify(arm, log(torques=False)[0], asked, config)
    assert blind.rmse["held_out"] < 3e-4, "the motion is told as well"
    assert np.median(blind.values / found.values) < 0.75


def test_torques_of_another_shape_are_refused() -> None:
    with pytest.raises(UserError, match="torques"):
        replace(log(torques=True)[0], torque_NU=np.zeros((500, 3)))


def test_torques_are_read_from_the_feature_that_is_named(tmp_path: Path) -> None:
    measured, key = log(torques=True)[0], "observation.effort"
    state = np.hstack([measured.position_NJ, np.gradient(measured.position_NJ, 1 / 125, axis=0)])
    assert measured.torque_NU is not None
    columns = {STATE: state, ACTION: measured.command_NU, key: measured.torque_NU}
    labels = {STATE: tuple(f"{j}_{k}" for k in ("position", "velocity") for j in JOINTS), ACTION: JOINTS, key: JOINTS}
    features = {name: Feature("float32", (len(labels[name]),), labels[name]) for name in columns}
    with LeRobotWriter(tmp_path / "log", 125.0, features) as writer:
        writer.add_episode({k: v.astype(np.float32) for k, v in columns.items()}, {}, "swing")
    (tmp_path / "arm.xml").write_text(MJCF)
    camera = Camera("front", 48, 48, position_m=(0.0, -1.5, 0.9), target_m=(0.0, 0.0, 0.75))
    safety, mjcf = Safety(max_step=0.05), Mjcf(str(tmp_path / "arm.xml"))
    body = Embodiment("arm", mjcf, "joint_position", "tip", camera, 125.0, 25, safety)
    read = examine_log(tmp_path / "log", body, torques=key).log
    np.testing.assert_allclose(read.torque_NU, measured.torque_NU, atol=1e-6)
    assert examine_log(tmp_path / "log", body).log.torque_NU is None
