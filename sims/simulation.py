"""One body in MuJoCo, commanded at its control rate: any MJCF whose actuators drive joints."""

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.embodiment import Camera, Embodiment
from robot_wm.contracts.errors import UserError
from sims import actuation, floating, points
from sims.points import Point
from sims.render import Added, Renderer, world_to_camera
from sims.rollouts import Rollouts
from sims.stability import has_diverged

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_PERTURBATION = {mujoco.mjtJoint.mjJNT_HINGE: 0.05, mujoco.mjtJoint.mjJNT_SLIDE: 0.01}  # rad, m
_OBJECT_M = 0.03  # how far a reset moves the object along x and y
_POSE_ITERATIONS, _DAMPING_M, _MOST_TURN = 60, 0.05, 0.25  # of inverse kinematics


class Simulation:
    """A simulated body behind its embodiment's command interface.

    Attributes:
        embodiment: what was asked for.
        command: the command space that follows from it and from the MJCF.
        proprio_names: entries of `proprio()`: positions, then velocities, of the joints and of a base that floats.
        position_units: of those positions, rad or m each; up directions are as good as angles.
        has_object: whether there is a thing to push about.
        gripper: which command opens and closes a gripper; None where there is none.
        base: what carries the joints, where it floats; None where it is fixed.
        camera: what `frame` sees through: the embodiment's, until another is asked for.
        model, data: MuJoCo's own, for whoever needs more than this class offers.
    """

    gripper: int | None = None
    base: floating.FloatingBase | None = None
    _object_body: int | None = None
    _second_hand: Point | None = None

    def __init__(self, embodiment: Embodiment, model: mujoco.MjModel):
        self.embodiment = embodiment
        self.model = model
        self.data = mujoco.MjData(model)
        self._substeps = actuation.substeps(embodiment, model)
        self._actuators = actuation.select(embodiment, model)
        self._joints = [int(model.actuator_trnid[i, 0]) for i in self._actuators]
        self._qpos = [int(model.jnt_qposadr[j]) for j in self._joints]
        self._qvel = [int(model.jnt_dofadr[j]) for j in self._joints]
        self.command = actuation.command_space(embodiment, model, self._actuators)
        names = [model.joint(j).name for j in self._joints]
        self.base = floating.find(model, self._joints)
        of_base = (self.base.positions, self.base.velocities) if self.base else ((), ())
        positions, velocities = (f"{n}_position" for n in names), (f"{n}_velocity" for n in names)
        self.proprio_names = (*positions, *of_base[0], *velocities, *of_base[1])
        slides = (model.jnt_type[j] == mujoco.mjtJoint.mjJNT_SLIDE for j in self._joints)
        self.position_units = (*("m" if slide else "rad" for slide in slides), *("rad" for _ in of_base[0]))
        self._setup()
        if embodiment.object is not None:
            self._object_body = points.find_object(embodiment, model)
        if embodiment.second_hand is not None:
            self._second_hand = points.find(model, embodiment.second_hand, "second_hand")
        if embodiment.gripper is not None:
            self.gripper = actuation.gripper(embodiment, model, self._actuators)
        self._home_qpos = self._home()

    def _setup(self) -> None:
        """What every kind of body needs: the end effector, the camera, room for the last command."""
        self._end_effector = points.find(self.model, self.embodiment.end_effector)
        self.camera = self.embodiment.camera
        self._renderer = Renderer(self.model, self.camera)
        self._low_U, self._high_U = np.array(self.command.low), np.array(self.command.high)
        self._reference_U = np.zeros(self.command.dim)
        self._rollouts = Rollouts(self.model)

    def reset(self, seed: int) -> None:
        """To the home pose, moved by up to 0.05 rad or 1 cm per joint, at rest; the object by up to 3 cm."""
        rng = np.random.default_rng(seed)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = self._home_qpos
        for joint, address in zip(self._joints, self._qpos, strict=True):
            bound = _PERTURBATION[mujoco.mjtJoint(self.model.jnt_type[joint])]
            value = self.data.qpos[address] + rng.uniform(-bound, bound)
            if self.model.jnt_limited[joint]:
                value = np.clip(value, *self.model.jnt_range[joint])
            self.data.qpos[address] = value
        if self.base:
            self.base.lower(self.data)
        if self._object_body is not None:
            where = int(self.model.jnt_qposadr[self.model.body_jntadr[self._object_body]])
            self.data.qpos[where : where + 2] += rng.uniform(-_OBJECT_M, _OBJECT_M, 2)
        self._reference_U = self.command.hold(self.data.qpos[self._qpos])
        self.data.ctrl[self._actuators] = self._reference_U
        mujoco.mj_forward(self.model, self.data)

    def look_through(self, camera: Camera, added: Added | None = None) -> None:
        """See through another camera from now on, with what `added` puts into its pictures (see Renderer)."""
        self._renderer.close()
        self.camera = camera
        self._renderer = Renderer(self.model, camera, added)

    @property
    def substeps(self) -> int:
        """Into how many parts of a control period a command can come late."""
        return self._substeps

    def step(self, command_U: NDArray[np.float64], late: int = 0) -> NDArray[np.float64]:
        """Advance by one control period; returns the command that was applied, (U,), clipped to the limits.

        Args:
            command_U: in the command space, (U,).
            late: for so many of the `substeps` the command before stays in force.

        Raises:
            UserError: the body became unstable.
        """
        applied_U = self._clip(command_U)
        if late:
            mujoco.mj_step(self.model, self.data, nstep=late)
        self.data.ctrl[self._actuators] = applied_U
        mujoco.mj_step(self.model, self.data, nstep=self._substeps - late)
        mujoco.mj_kinematics(self.model, self.data)  # mj_step leaves body positions one substep behind the joints
        if has_diverged(self.data):
            raise UserError(
                f"the simulation of {self.embodiment.name} became unstable after {self.data.time:.2f} s",
                "Lower safety.max_step, the actuators' gains or the MJCF's timestep, or add damping",
            )
        self._reference_U = applied_U
        return applied_U.copy()

    def _clip(self, command_U: NDArray[np.float64]) -> NDArray[np.float64]:
        command_U = np.asarray(command_U, dtype=np.float64)
        if command_U.shape != (self.command.dim,) or not np.isfinite(command_U).all():
            raise ValueError(f"command {command_U} is not {self.command.dim} finite numbers")
        return np.minimum(np.maximum(command_U, self._low_U), self._high_U)  # five times as fast as np.clip

    def frame(self, height: int | None = None, width: int | None = None) -> NDArray[np.uint8]:
        """What the embodiment's camera sees now, RGB (height, width, 3); the camera's own size by default."""
        return self._renderer.frame(self.data, height, width)

    def depth_mm(self) -> NDArray[np.uint16]:
        """How far away along the view what each pixel of it shows is [mm], (height, width); 0 where nothing is."""
        return self._renderer.depth_mm(self.data)

    def proprio(self) -> NDArray[np.float32]:
        """What `proprio_names` say [rad, rad/s or m, m/s; up directions have length 1], (P,)."""
        return self.measured(self.data.qpos, self.data.qvel).astype(np.float32)

    def measured(self, qpos: NDArray[np.float64], qvel: NDArray[np.float64]) -> NDArray[np.float64]:
        """Proprio (..., P) in states of the whole model, (..., nq) and (..., nv)."""
        parts = [qpos[..., self._qpos], qvel[..., self._qvel]]
        if self.base:
            parts = [parts[0], self.base.up(qpos), parts[1], self.base.turn(qvel)]
        return np.concatenate(parts, axis=-1)

    def joint_limits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest position of each commanded joint [rad or m]; ±half a turn where the MJCF sets none."""
        limited = self.model.jnt_limited[self._joints].astype(bool)[:, None]
        around = self._home_qpos[self._qpos][:, None] + np.array([-np.pi, np.pi])
        low, high = np.where(limited, self.model.jnt_range[self._joints], around).T
        return low, high

    def home(self) -> NDArray[np.float64]:
        """Positions of the commanded joints in the home pose [rad or m], (U,)."""
        return self._home_qpos[self._qpos].copy()

    def bias(self) -> NDArray[np.float64]:
        """The commands of a torque interface that balance gravity and Coriolis forces now, (U,)."""
        gear = self.model.actuator_gear[self._actuators, 0] * self.model.actuator_gainprm[self._actuators, 0]
        return self.data.qfrc_bias[self._qvel] / gear

    def end_effector(self) -> NDArray[np.float64]:
        """Position of the end effector in the world [m], (3,)."""
        return self._end_effector.place(self.data).copy()

    @property
    def has_object(self) -> bool:
        return self._object_body is not None

    def object(self) -> NDArray[np.float64]:
        """Position of the object in the world [m], (3,); only of a body that has one."""
        if not self.has_object:
            raise ValueError(f"{self.embodiment.name} has no object")
        return self.data.xpos[self._object_body].copy()

    def ground_m(self, place_m: NDArray[np.float64]) -> float:
        """How far below a place the next surface is [m], the object's own aside; infinite where there is none."""
        down, geom = np.array([0.0, 0.0, -1.0]), np.zeros(1, np.int32)
        found = mujoco.mj_ray(self.model, self.data, place_m, down, None, 1, self._object_body or 0, geom)
        return float(found) if found >= 0 else np.inf

    def place_object(self, position_m: NDArray[np.float64]) -> None:
        """Put the object somewhere, at rest, turned as the MJCF has it."""
        joint = self.model.body_jntadr[self._object_body]
        place, motion = self.model.jnt_qposadr[joint], self.model.jnt_dofadr[joint]
        self.data.qpos[place : place + 3] = position_m
        self.data.qpos[place + 3 : place + 7] = self.model.qpos0[place + 3 : place + 7]
        self.data.qvel[motion : motion + 6] = 0.0
        mujoco.mj_forward(self.model, self.data)

    def pose(self, joints: NDArray[np.float64]) -> None:
        """Put the joints that proprio measures somewhere, at once and at rest."""
        self.data.qpos[self._qpos] = joints
        self.data.qvel[:] = 0.0
        mujoco.mj_forward(self.model, self.data)

    def pose_hand(self, place_m: NDArray[np.float64]) -> None:
        """Put the joints, at once and at rest, so that the end effector is as near to a point as it gets.

        Damped least squares (Wampler 1986).
        """
        jacobian, (low, high) = np.zeros((3, self.model.nv)), self.joint_limits()
        for _ in range(_POSE_ITERATIONS):
            self._end_effector.fill_jacobian(self.model, self.data, jacobian)
            moved = jacobian[:, self._qvel]
            way = place_m - self.end_effector()
            turn = moved.T @ np.linalg.solve(moved @ moved.T + _DAMPING_M**2 * np.eye(3), way)
            joints = self.data.qpos[self._qpos] + np.clip(turn, -_MOST_TURN, _MOST_TURN)
            self.data.qpos[self._qpos] = np.clip(joints, low, high)
            self.data.qvel[:] = 0.0
            mujoco.mj_forward(self.model, self.data)

    def hand_at(self, joints: NDArray[np.float64]) -> NDArray[np.float64]:
        """Put the commanded joints somewhere; returns where that brings the end effector [m], (3,)."""
        self.data.qpos[self._qpos] = joints
        mujoco.mj_kinematics(self.model, self.data)
        return self.end_effector()

    @property
    def has_two_hands(self) -> bool:
        return self._second_hand is not None

    def hands(self) -> NDArray[np.float64]:
        """Positions of the end effector and of the second hand in the world [m], (2, 3)."""
        return self._points(self.data)[[0, -1]]

    def to_camera(self, point_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """A point of the world [m] in the camera's frame: x right, y down, z along the view."""
        T_cam_world = world_to_camera(self.model, self.data, self.camera)
        return T_cam_world[:3, :3] @ point_m + T_cam_world[:3, 3]

    @property
    def time_s(self) -> float:
        """Simulated time [s]."""
        return float(self.data.time)

    def reference(self) -> NDArray[np.float64]:
        """The command sent last, (U,); after a reset the one that holds the start pose."""
        return self._reference_U.copy()

    def state(self) -> NDArray[np.float64]:
        """Everything that determines the future: MuJoCo's integration state, then the last command."""
        state = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self.data, state, _STATE)
        return np.concatenate([state, self._reference_U])

    def restore(self, state: NDArray[np.float64]) -> None:
        """Return to a state of this body taken before."""
        mujoco.mj_setState(self.model, self.data, state[: -self.command.dim], _STATE)
        self._reference_U = state[-self.command.dim :].copy()
        mujoco.mj_forward(self.model, self.data)
        mujoco.mj_setState(self.model, self.data, state[: -self.command.dim], _STATE)  # forward moves the warm start

    def rollout(self, commands_NKU: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions [m], (N, K, P, 3), that N command sequences would lead to from the present state.

        P counts the end effector, the object and the second hand where there are such, and in Fetch two fingers that
        open. True dynamics on all cores; the present state stays as it is.
        """
        return self._rollouts.follow(self.data, self.controls(commands_NKU), self._substeps, self._points)

    def controls(self, commands_NKU: NDArray[np.float64]) -> NDArray[np.float64]:
        """Commands, clipped to their limits, as controls of all actuators, (N, K, nu); the others stay as they are."""
        control = np.broadcast_to(self.data.ctrl, (*commands_NKU.shape[:2], self.model.nu)).copy()
        control[:, :, self._actuators] = np.clip(commands_NKU, self.command.low, self.command.high)
        return control

    def _points(self, data: mujoco.MjData) -> NDArray[np.float64]:
        """The end effector; where there are such, the object and the second hand [m], (P, 3)."""
        found = [self._end_effector.place(data)]
        if self._object_body is not None:
            found.append(data.xpos[self._object_body])
        if self._second_hand is not None:
            found.append(self._second_hand.place(data))
        return np.stack(found)

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()

    def __enter__(self) -> "Simulation":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _home(self) -> NDArray[np.float64]:
        """Joint positions of the whole model: the embodiment's home, the keyframe "home", or the MJCF's start."""
        keys = [self.model.key(i).name for i in range(self.model.nkey)]
        qpos = self.model.key("home").qpos.copy() if "home" in keys else self.model.qpos0.copy()
        home = self.embodiment.home
        if home and len(home) != len(self._qpos):
            names = ", ".join(self.model.joint(j).name for j in self._joints)
            raise UserError(
                f"embodiment {self.embodiment.name}: home has {len(home)} values",
                f"Give {len(self._qpos)}, one for each of: {names}",
            )
        if home:
            qpos[self._qpos] = home
        return qpos
