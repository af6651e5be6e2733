"""An object whose place was measured beside the robot's joints, as joints of its own: it slides, and turns upright.

It may be lifted and dropped, but not tipped over: what is pushed on a table hardly is, and a free joint's quaternion is
no signal that a joint's position could be compared with.
"""

from dataclasses import replace

import mujoco
import numpy as np

from calibration.signals import Log
from robot_wm.contracts.errors import UserError

_AXES = {"x": (1, 0, 0), "y": (0, 1, 0), "z": (0, 0, 1)}
_UPRIGHT = 0.98  # least cosine of its lean from how it stands in the MJCF


def with_object(spec: mujoco.MjSpec, name: str, log: Log) -> tuple[mujoco.MjSpec, Log]:
    """The MJCF with the object on joints, and the log with their positions.

    Raises:
        UserError: the log does not say where the object was, or it tipped over.
    """
    if log.object_N7 is None:
        raise UserError("log: it does not say where the object was", "Name the feature: object_pose=KEY")
    place, (w, x, y, z) = log.object_N7[:, :3], log.object_N7[:, 3:].T
    lean = 1 - 2 * (x**2 + y**2)  # of the object's z axis along the world's
    if (lean < _UPRIGHT).any():
        raise UserError(f"log: {name} tips over in {int((lean < _UPRIGHT).sum())} rows", "Leave those rows out")
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y**2 + z**2))
    for episode in np.unique(log.episodes):
        yaw[log.episodes == episode] = np.unwrap(yaw[log.episodes == episode])
    position = np.column_stack([place, yaw])
    rate = np.vstack([_rate(log, column) for column in position.T]).T
    names = tuple(f"{name}_{axis}" for axis in (*_AXES, "yaw"))
    joined = replace(
        log,
        position_NJ=np.hstack([log.position_NJ, position]),
        velocity_NJ=None if log.velocity_NJ is None else np.hstack([log.velocity_NJ, rate]),
        valid_NJ=np.hstack([log.valid, np.ones(position.shape, bool)]),
        joints=(*log.joints, *names),
    )
    return _on_joints(spec, name), joined


def _rate(log: Log, column: np.ndarray) -> np.ndarray:
    rate = np.zeros(len(column))
    for episode in np.unique(log.episodes):
        rows = np.flatnonzero(log.episodes == episode)
        if len(rows) > 1:
            rate[rows] = np.gradient(column[rows], log.time_s[rows])
    return rate


def _on_joints(spec: mujoco.MjSpec, name: str) -> mujoco.MjSpec:
    placed = spec.copy()
    body = placed.body(name)
    for joint in list(body.joints):
        placed.delete(joint)
    for key in list(placed.keys):
        placed.delete(key)
    body.pos, body.quat = (0, 0, 0), (1, 0, 0, 0)  # joints then say where it is in the world
    for axis, along in _AXES.items():
        body.add_joint(name=f"{name}_{axis}", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=along)
    body.add_joint(name=f"{name}_yaw", type=mujoco.mjtJoint.mjJNT_HINGE, axis=(0, 0, 1))
    return placed
