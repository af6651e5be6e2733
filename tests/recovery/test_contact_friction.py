"""Contact friction comes back from a log of pushing in which the object's place was measured as well."""

import mujoco
import numpy as np
import pytest

from calibration.parameters import parameter, write
from calibration.signals import Log
from calibration.sysid import FitConfig, identify

MJCF = """
<mujoco model="shove">
  <option timestep="0.002" cone="elliptic"/>
  <worldbody>
    <geom type="plane" size="3 3 0.1" friction="0.05 0.001 0.0001"/>
    <body name="pusher" pos="-0.15 0 0.05">
      <joint name="push" type="slide" axis="1 0 0" damping="1" armature="0.1" range="-0.5 0.5"/>
      <geom type="box" size="0.02 0.1 0.03" density="500"/>
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
JOINTS = ("push", "block_x", "block_y", "block_z", "block_yaw")


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
