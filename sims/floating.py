"""A base that floats: what its inertial unit measures of it, and putting it onto the ground."""

from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.safety import BASE_UP

TURN = ("base_turn_x_velocity", "base_turn_y_velocity", "base_turn_z_velocity")  # [rad/s], in the base's frame
_OVER_GROUND_M = 0.001
_FREE = mujoco.mjtJoint.mjJNT_FREE


class FloatingBase:
    """The free joint that carries a robot's commanded joints.

    Attributes:
        positions, velocities: names of what is measured of it beside the joints: the world's up direction in its frame
            (what an accelerometer shows at rest), and how fast it turns.
    """

    positions, velocities = BASE_UP, TURN

    def __init__(self, model: mujoco.MjModel, joint: int):
        self._model, self.body = model, int(model.jnt_bodyid[joint])
        self._qpos, self._qvel = int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint])
        carried = model.body_rootid == model.body_rootid[self.body]
        solid = (model.geom_contype | model.geom_conaffinity).astype(bool)
        self._geoms = np.flatnonzero(carried[model.geom_bodyid] & solid)

    def up(self, qpos: NDArray[np.float64]) -> NDArray[np.float64]:
        """The world's up direction in the base's frame, (..., 3), of positions (..., nq) of the whole model."""
        w, x, y, z = np.moveaxis(qpos[..., self._qpos + 3 : self._qpos + 7], -1, 0)
        return np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z], axis=-1)

    def turn(self, qvel: NDArray[np.float64]) -> NDArray[np.float64]:
        """How fast it turns, in its own frame [rad/s], (..., 3)."""
        return qvel[..., self._qvel + 3 : self._qvel + 6]

    def place(self, qpos: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where it is in the world [m], (..., 3)."""
        return qpos[..., self._qpos : self._qpos + 3]

    def speed(self, qvel: NDArray[np.float64]) -> NDArray[np.float64]:
        """How fast it moves, in the world's axes [m/s], (..., 3)."""
        return qvel[..., self._qvel : self._qvel + 3]

    def lower(self, data: mujoco.MjData) -> None:
        """Move the body up or down until its lowest point touches the world's plane, or a height of 0."""
        model = self._model
        mujoco.mj_forward(model, data)
        planes = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)
        ground = float(data.geom_xpos[planes[0], 2]) if len(planes) else 0.0
        lowest = min(_lowest(model, data, int(geom)) for geom in self._geoms)
        data.qpos[self._qpos + 2] += ground + _OVER_GROUND_M - lowest

    def push(self, data: mujoco.MjData, change_m_s: NDArray[np.float64]) -> None:
        """Change its velocity at once, (3,)."""
        data.qvel[self._qvel : self._qvel + 3] += change_m_s


def find(model: mujoco.MjModel, joints: Sequence[int]) -> FloatingBase | None:
    """The base that carries all of those joints; None where it is fixed."""
    free = np.flatnonzero(model.jnt_type == _FREE)
    roots = {int(model.body_rootid[model.jnt_bodyid[joint]]) for joint in joints}
    bases = [int(j) for j in free if {int(model.body_rootid[model.jnt_bodyid[j]])} == roots]
    return FloatingBase(model, bases[0]) if bases else None


def _lowest(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> float:
    """Height of the lowest point of a geom: exact for balls and capsules, else of its bounding box."""
    kind, size, place = model.geom_type[geom], model.geom_size[geom], data.geom_xpos[geom]
    rotation = data.geom_xmat[geom].reshape(3, 3)
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return float(place[2] - size[0])
    if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        return float(place[2] - size[0] - abs(rotation[2, 2]) * size[1])
    centre, half = model.geom_aabb[geom].reshape(2, 3)
    return float(place[2] + rotation[2] @ centre - np.abs(rotation[2]) @ half)
