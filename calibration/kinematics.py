"""From a MuJoCo model to the table of its kinematics that a calibrated model carries along."""

from collections.abc import Mapping

import mujoco
import numpy as np
from numpy.typing import NDArray

from calibration.signals import Array
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.solids import Joint
from robot_wm.models.kinematics import BodyPoint, Kinematics
from sims import actuation, points
from sims.render import world_to_camera
from sims.simulation import Simulation

_MOST_POINTS = 4  # the hand and joints on the way to it
_APART_M = 0.08  # a joint nearer than this to the next point tells nothing that the point does not
_HINGE, _SLIDE = mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE


def of_body(simulation: Simulation, bias_rad: Mapping[str, float] | None = None) -> Kinematics:
    """The hand and up to three joints between it and the base, in the camera's frame; the hand comes first.

    A body that is commanded by its hand's velocity measures its hand's place: to this table it is a hand on three
    rails. Joints without a command stay as they are in the simulation's present pose.

    `bias_rad` says by how much encoders read too much [rad or m], by joint: a joint is at zero where its encoder reads
    that.

    Raises:
        UserError: a camera that the body carries, so that its own motion would have to be known; commands that do not
            say where the body goes.
    """
    model, data = simulation.model, simulation.data
    if simulation.command.interface == "joint_torque" or len(simulation.proprio_names) != 2 * simulation.command.dim:
        raise UserError(
            f"the commands of {simulation.embodiment.name} do not say where it goes, as a kinematic adapter needs",
            "Give adapter.kind=learned",
        )
    T_cam_world = _fixed_camera(simulation)
    if simulation.command.interface == "end_effector_velocity":
        return _on_rails(T_cam_world, simulation.embodiment.end_effector)
    joints = [int(model.actuator_trnid[i, 0]) for i in actuation.select(simulation.embodiment, model)]
    bias = {joint: (bias_rad or {}).get(model.joint(joint).name, 0.0) for joint in joints}
    builder = _Builder(model, data, {joint: entry for entry, joint in enumerate(joints)}, T_cam_world, bias)
    hand = points.find(model, simulation.embodiment.end_effector)
    body = int(model.site_bodyid[hand.index]) if hand.is_site else hand.index
    offset_m = model.site_pos[hand.index] if hand.is_site else np.zeros(3)
    found, chain = [builder.point(simulation.embodiment.end_effector, body, offset_m)], []
    seen_m = [hand.place(data).copy()]
    above = body
    while above > 0:
        if all(np.linalg.norm(data.xpos[above] - place) > _APART_M for place in seen_m) and builder.moves(above):
            seen_m.append(data.xpos[above].copy())
            chain.append(builder.point(model.body(above).name, above, np.zeros(3)))
        above = int(model.body_parentid[above])
    spread: list[int] = []
    if chain:
        spread = np.unique(np.linspace(0, len(chain) - 1, _MOST_POINTS - 1).round().astype(int)).tolist()
    return Kinematics(tuple(builder.links), (*found, *(chain[i] for i in spread)))


def of_bodies(model: mujoco.MjModel, data: mujoco.MjData, joints: dict[int, int], names: list[str]) -> Kinematics:
    """The origins of the named bodies in the world's frame; `joints`: entry of proprio by joint."""
    builder = _Builder(model, data, joints, np.eye(4))
    found = tuple(builder.point(name, model.body(name).id, np.zeros(3)) for name in names)
    return Kinematics(tuple(builder.links), found)


def of_all(
    model: mujoco.MjModel, data: mujoco.MjData, joints: dict[int, int], bias: dict[int, float]
) -> tuple[list[Joint], list[tuple[int, NDArray[np.float64]]]]:
    """The links in the world's frame, and for every body the link that it is fixed to and its frame in that link's."""
    builder = _Builder(model, data, joints, np.eye(4), bias)
    frames = [builder.frame(body) for body in range(model.nbody)]
    return builder.links, frames


class _Builder:
    """Walks up from the bodies that are asked for; a link is made for every joint that has an entry of proprio."""

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        joints: dict[int, int],
        T_cam_world: NDArray[np.float64],
        bias: dict[int, float] | None = None,
    ):
        self.links: list[Joint] = []
        self._model, self._data, self._joints, self._bias = model, data, joints, bias or {}
        self._frames: dict[int, tuple[int, NDArray[np.float64]]] = {0: (-1, T_cam_world)}

    def moves(self, body: int) -> bool:
        """Whether a commanded joint is above it; its own only turn it about its origin, or about a point nearby."""
        return self.frame(int(self._model.body_parentid[body]))[0] >= 0

    def point(self, name: str, body: int, offset_m: Array) -> BodyPoint:
        link, T_link_body = self.frame(body)
        return BodyPoint(name, link, triple(T_link_body[:3, :3] @ offset_m + T_link_body[:3, 3]))

    def frame(self, body: int) -> tuple[int, NDArray[np.float64]]:
        """The link that a body is fixed to, and its frame in that link's."""
        if body not in self._frames:
            link, T = self.frame(int(self._model.body_parentid[body]))
            first, count = int(self._model.body_jntadr[body]), int(self._model.body_jntnum[body])
            joints = range(first, first + count) if count else range(0)
            if self._model.body_mocapid[body] >= 0 or any(self._kind(j) not in (_HINGE, _SLIDE) for j in joints):
                self._frames[body] = link, T @ self._as_it_is(body)  # free, or placed by hand: as it lies now
                return self._frames[body]
            T = T @ _transform(self._model.body_quat[body], self._model.body_pos[body])
            for joint in joints:
                link, T = self._through(joint, link, T)
            self._frames[body] = link, T
        return self._frames[body]

    def _through(self, joint: int, link: int, T: NDArray[np.float64]) -> tuple[int, NDArray[np.float64]]:
        model = self._model
        axis, anchor_m, kind = model.jnt_axis[joint], model.jnt_pos[joint], self._kind(joint)
        address = int(model.jnt_qposadr[joint])
        zero = float(model.qpos0[address])
        if joint in self._joints:
            name = "hinge" if kind == _HINGE else "slide"
            place = tuple(T[:3, :3].ravel().tolist()), triple(T[:3, 3])
            read = zero + self._bias.get(joint, 0.0)
            self.links.append(Joint(link, *place, name, triple(axis), triple(anchor_m), self._joints[joint], read))  # type: ignore[arg-type]
            return len(self.links) - 1, np.eye(4)
        moved = float(self._data.qpos[address]) - zero
        if kind == _SLIDE:
            return link, T @ _transform(np.array([1.0, 0, 0, 0]), moved * axis)
        quat = np.zeros(4)
        mujoco.mju_axisAngle2Quat(quat, axis, moved)
        turn = _transform(quat, np.zeros(3))
        turn[:3, 3] = anchor_m - turn[:3, :3] @ anchor_m
        return link, T @ turn

    def _kind(self, joint: int) -> mujoco.mjtJoint:
        return mujoco.mjtJoint(self._model.jnt_type[joint])

    def _as_it_is(self, body: int) -> NDArray[np.float64]:
        """A body's frame in its parent's, in the present pose."""

        def world(b: int) -> NDArray[np.float64]:
            return _transform(self._data.xquat[b], self._data.xpos[b])

        return np.linalg.inv(world(int(self._model.body_parentid[body]))) @ world(body)


def _on_rails(T_cam_world: NDArray[np.float64], name: str) -> Kinematics:
    rails = []
    for entry, axis in enumerate(np.eye(3)):
        T = T_cam_world if entry == 0 else np.eye(4)
        place = tuple(T[:3, :3].ravel().tolist()), triple(T[:3, 3])
        rails.append(Joint(entry - 1, *place, "slide", triple(axis), (0.0, 0.0, 0.0), entry, 0.0))  # type: ignore[arg-type]
    return Kinematics(tuple(rails), (BodyPoint(name, 2, (0.0, 0.0, 0.0)),))


def _fixed_camera(simulation: Simulation) -> NDArray[np.float64]:
    """`T_cam_world` (4, 4) of a camera that stands still."""
    model, camera = simulation.model, simulation.camera
    if camera.position_m is None and model.body_weldid[model.camera(camera.name).bodyid[0]] != 0:
        raise UserError(
            f"the kinematic adapter needs a camera that stands still, {camera.name!r} is carried by the body",
            "Give adapter.kind=learned, or another camera",
        )
    return world_to_camera(model, simulation.data, camera)


def _transform(quat: Array, position_m: Array) -> NDArray[np.float64]:
    R = np.zeros(9)
    mujoco.mju_quat2Mat(R, np.asarray(quat, dtype=np.float64))
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R.reshape(3, 3), position_m
    return T


def triple(values: Array) -> tuple[float, float, float]:
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return x, y, z
