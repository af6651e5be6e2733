"""A two-joint arm with hidden parameters and a log of it, small enough to be identified in a second."""

import mujoco
import mujoco.rollout
import numpy as np

from calibration.parameters import Parameter, parameter, write
from calibration.signals import Log

MJCF = """
<mujoco model="swinging_arm">
  <compiler angle="radian"/>
  <option timestep="0.004"/>
  <worldbody>
    <body name="upper" pos="0 0 1">
      <joint name="shoulder" axis="0 1 0" range="-2 2" damping="0.6" armature="0.03" frictionloss="0.06"/>
      <geom name="upper" type="capsule" fromto="0 0 0 0 0 -0.25" size="0.025" density="700"/>
      <body name="lower" pos="0 0 -0.25">
        <joint name="elbow" axis="0 1 0" range="-2 2" damping="0.3" armature="0.02" frictionloss="0.04"
               stiffness="0.2"/>
        <geom name="lower" type="capsule" fromto="0 0 0 0 0 -0.2" size="0.02" density="700"/>
        <site name="tip" pos="0.01 0 -0.2"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position name="shoulder" joint="shoulder" kp="15" kv="0.2" ctrlrange="-1.5 1.5" forcerange="-8 8"/>
    <position name="elbow" joint="elbow" kp="10" dampratio="0.4" ctrlrange="-1.5 1.5" forcerange="-6 6"/>
  </actuator>
</mujoco>
"""
JOINTS = ("shoulder", "elbow")


def spec() -> mujoco.MjSpec:
    return mujoco.MjSpec.from_string(MJCF)


def chosen(*kinds: str) -> list[Parameter]:
    """Parameters of both joints; payload of the tip, delay of the log."""
    model = spec().compile()
    found = []
    for kind in kinds:
        if kind == "delay":
            found.append(parameter(model, kind, "", 0.0, 0.12, absolute=True))
        elif kind == "payload":
            found.append(parameter(model, kind, "tip", 0.0, 0.5, absolute=True))
        elif kind == "bias":
            found += [parameter(model, kind, joint, -0.2, 0.2, absolute=True) for joint in JOINTS]
        else:
            found += [parameter(model, kind, joint, 0.1, 10.0) for joint in JOINTS]
    return found


def excitation(time_s: np.ndarray, seed: int = 0) -> np.ndarray:
    """Sums of sines after a quarter of a second at rest, (N, 2)."""
    rng = np.random.default_rng(seed)
    command = np.zeros((len(time_s), 2))
    for joint in range(2):
        for frequency in (0.4, 0.9, 1.7, 2.9):
            phase = rng.uniform(0, 2 * np.pi)
            command[:, joint] += 0.3 / np.sqrt(frequency) * np.sin(2 * np.pi * frequency * time_s + phase)
    ramp = np.clip((time_s - time_s[0] - 0.25) / 0.5, 0, 1)[:, None]
    return command * ramp


def record(
    parameters: list[Parameter],
    values: np.ndarray,
    duration_s: float = 4.0,
    noise_rad: float = 1e-4,
    seed: int = 0,
    rate_hz: float = 250.0,
) -> Log:
    """A log of the arm with these values, sampled at `rate_hz`; delay and biases act as they do on a robot."""
    model = spec().compile()
    hidden = spec().compile()
    write(hidden, model, mujoco.MjData(hidden), parameters, values)
    by_name = dict(zip((p.name for p in parameters), values, strict=True))
    delay = by_name.get("delay", 0.0)
    bias = np.array([by_name.get(f"bias:{joint}", 0.0) for joint in JOINTS])
    step = hidden.opt.timestep
    grid = np.arange(round(duration_s / step) + 60) * step
    # the hidden arm runs without delay; what the log shows at t happened at t - delay
    command = excitation(np.floor(grid * rate_hz + 1e-9) / rate_hz, seed)  # held from row to row
    start = np.zeros(mujoco.mj_stateSize(hidden, mujoco.mjtState.mjSTATE_FULLPHYSICS))
    data = mujoco.MjData(hidden)
    for _ in range(800):  # settle at rest
        data.ctrl[:] = command[0] - bias
        mujoco.mj_step(hidden, data)
    data.time = 0.0
    mujoco.mj_getState(hidden, data, start, mujoco.mjtState.mjSTATE_FULLPHYSICS)
    states = mujoco.rollout.rollout(hidden, mujoco.MjData(hidden), start, command[None] - bias)[0][0]
    position = np.vstack([start[1:3], states[:-1, 1:3]])
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    seen = np.column_stack([np.interp(time_s - delay, grid, q) for q in position.T]) + bias
    seen += noise_rad * np.random.default_rng(seed + 1).normal(size=seen.shape)
    return Log(time_s, excitation(time_s, seed), seen, JOINTS, JOINTS)
