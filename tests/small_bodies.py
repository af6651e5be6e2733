"""Bodies for tests: a planar arm that a user might have written, and the project's Fetch."""

from pathlib import Path
from typing import Any

import yaml

from robot_wm.contracts.config import from_mapping
from robot_wm.contracts.embodiment import Embodiment

REPOSITORY = Path(__file__).resolve().parents[1]
_ACTUATORS = {
    "joint_position": '<position name="{0}" joint="{0}" kp="60" kv="6" ctrlrange="-2 2"/>',
    "joint_velocity": '<velocity name="{0}" joint="{0}" kv="8" ctrlrange="-3 3"/>',
    "joint_torque": '<motor name="{0}" joint="{0}" ctrlrange="-4 4"/>',
}
_ARM = """
<mujoco model="planar">
  <compiler angle="radian"/>
  <option timestep="0.005" integrator="implicitfast" gravity="0 0 0"/>
  <worldbody>
    <light pos="0 0 2"/>
    <geom type="plane" size="1 1 1" rgba="0.6 0.6 0.6 1"/>
    <camera name="above" pos="0 0 1.5"/>
    <body name="upper" pos="0 0 0.1">
      <joint name="shoulder" axis="0 0 1" range="-2 2" damping="0.3" armature="0.02"/>
      <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.04" rgba="0.8 0.2 0.1 1"/>
      <body name="lower" pos="0.3 0 0">
        <joint name="elbow" axis="0 0 1" range="-2 2" damping="0.3" armature="0.02"/>
        <geom type="capsule" fromto="0 0 0 0.25 0 0" size="0.03" rgba="0.1 0.3 0.8 1"/>
        <site name="tip" pos="0.25 0 0"/>
      </body>
    </body>
  </worldbody>
  <actuator>{actuators}</actuator>
</mujoco>
"""
_STEP = {"joint_position": 0.15, "joint_velocity": 1.5, "joint_torque": 4.0}


def planar_arm(folder: Path, interface: str = "joint_position", **changes: Any) -> Embodiment:
    """A two-joint arm in the plane, seen from above; `changes` go over the yaml's values."""
    path = folder / f"{interface}.xml"
    actuators = "".join(_ACTUATORS[interface].format(joint) for joint in ("shoulder", "elbow"))
    path.write_text(_ARM.format(actuators=actuators), encoding="utf-8")
    values: dict[str, Any] = {
        "name": "planar",
        "mjcf": {"path": str(path)},
        "interface": interface,
        "end_effector": "tip",
        "camera": {"name": "above", "height": 32, "width": 48},
        "control_rate_hz": 20,
        "frame_skip": 4,
        "safety": {"max_step": _STEP[interface]},
    }
    return from_mapping(Embodiment, {**values, **changes})


def fetch(name: str = "fetch") -> Embodiment:
    """The embodiment of `configs/embodiment/NAME.yaml`."""
    text = (REPOSITORY / "configs" / "embodiment" / f"{name}.yaml").read_text(encoding="utf-8")
    return from_mapping(Embodiment, yaml.safe_load(text))
