"""The real Fetch environments of gymnasium-robotics behind the project's command interface."""

import contextlib
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.embodiment import CommandSpace, Embodiment
from robot_wm.contracts.errors import UserError
from sims import points
from sims.simulation import Simulation

MAX_EPISODE_STEPS = 50  # the length of the registered tasks
_METRES_PER_ACTION = 0.05  # the environments move their gripper's target by at most this per step
_WELDED_BODY, _MOCAP_BODY, _OBJECT_BODY = "robot0:gripper_link", "robot0:mocap", "object0"
_TARGET_SITE, _GRIP_SITE = "target0", "robot0:grip"
_GRIPPER_ROTATION = np.array([1.0, 0.0, 1.0, 0.0])  # what the environments add to the orientation, every step
_FINGERS = ("robot0:r_gripper_finger_joint", "robot0:l_gripper_finger_joint")


class FetchSimulation(Simulation):
    """FetchReach-v4, FetchPush-v4 or FetchPickAndPlace-v4.

    Commands are the gripper's velocity in the world [m/s], (3,); where the environment lets it open, a fourth closes
    (down to -1) or opens it (up to 1). Proprio is the gripper's place, then its velocity, its opening among both where
    it opens.

    Stepping goes through the environment's own parts; what its `step` observes besides takes as long as its physics,
    and `proprio` gives what matters of it. Where the gripper opens, the environment leaves positions one physics
    step (2 ms) behind the joints; here they are brought up to date, or no state could be restored. The picture lacks
    the red target (it would give the goal away) and the axes of the motion-capture body (no real robot carries them).

    Attributes:
        goal_m: the environment's goal of the present episode [m], (3,): of the gripper, or of the block.
        threshold_m: the environment's criterion of success [m].
    """

    def __init__(self, embodiment: Embodiment):
        self._env = _make(embodiment)
        self.embodiment = embodiment
        self.model, self.data = self._env.model, self._env.data
        self._rate_hz = 1.0 / self._env.dt
        if not np.isclose(self._rate_hz, embodiment.control_rate_hz):
            raise UserError(
                f"embodiment {embodiment.name}: control_rate_hz is {embodiment.control_rate_hz:g}",
                f"{embodiment.environment} runs at {self._rate_hz:g} Hz",
            )
        self.gripper = None if self._env.block_gripper else 3
        self._top_speed_m_s = _METRES_PER_ACTION * self._rate_hz
        self.command = _command_space(embodiment, self._top_speed_m_s, self.gripper is not None)
        parts = ("x", "y", "z", "opening") if self.gripper is not None else ("x", "y", "z")
        self.proprio_names = (*(f"gripper_{p}_position" for p in parts), *(f"gripper_{p}_velocity" for p in parts))
        self.position_units = ("m",) * len(parts)
        self._setup()
        if self._env.has_object:
            self._object_body = self.model.body(_OBJECT_BODY).id
        self.model.site(_TARGET_SITE).rgba[3] = 0.0
        self.model.geom_rgba[self.model.geom_bodyid == self.model.body(_MOCAP_BODY).id, 3] = 0.0
        self._welded_body = self.model.body(_WELDED_BODY).id
        self._finger_qpos = [int(self.model.joint(name).qposadr[0]) for name in _FINGERS]
        self._finger_bodies = [int(self.model.joint(name).bodyid[0]) for name in _FINGERS]
        self._driven_qpos = self.model.jnt_qposadr[self.model.actuator_trnid[:, 0]]
        self._finger_dofs = [int(self.model.joint(name).dofadr[0]) for name in _FINGERS]
        self._grip, self._jacobian_3V = points.find(self.model, _GRIP_SITE), np.zeros((3, self.model.nv))

    @property
    def goal_m(self) -> NDArray[np.float64]:
        return self._env.goal.copy()

    @property
    def threshold_m(self) -> float:
        return float(self._env.distance_threshold)

    @property
    def start_m(self) -> NDArray[np.float64]:
        """Where the gripper starts every episode [m], (3,); goals lie within 0.15 m of it along x and y."""
        return self._env.initial_gripper_xpos.copy()

    def reset(self, seed: int) -> None:
        """The environment's own reset: always the same pose; the goal and the block's place depend on the seed."""
        self._env.reset(seed=seed)
        self._reference_U = np.zeros(self.command.dim)

    @property
    def substeps(self) -> int:
        """One: the environment takes a command for a whole period."""
        return 1

    def step(self, command_U: NDArray[np.float64], late: int = 0) -> NDArray[np.float64]:
        """One environment step; returns the applied command, (U,)."""
        applied_U = self._clip(command_U)
        self._advance(self.data, applied_U)
        self._reference_U = applied_U
        return applied_U.copy()

    def _advance(self, data: mujoco.MjData, command_U: NDArray[np.float64]) -> None:
        """What the environment's step does, with the same numbers: no observations, rewards or look-ups by name."""
        data.mocap_pos[0] = data.xpos[self._welded_body] + command_U[:3] / self._top_speed_m_s * _METRES_PER_ACTION
        data.mocap_quat[0] = data.xquat[self._welded_body] + _GRIPPER_ROTATION
        data.ctrl[:] = data.qpos[self._driven_qpos] + (0.0 if self.gripper is None else command_U[3])
        mujoco.mj_step(self.model, data, nstep=self._env.n_substeps)
        if self.gripper is None:
            data.qpos[self._finger_qpos] = 0.0
        mujoco.mj_forward(self.model, data)

    def proprio(self) -> NDArray[np.float32]:
        """Gripper position [m] and velocity [m/s] as the environment observes them, (6,), or (8,) with its opening."""
        self._grip.fill_jacobian(self.model, self.data, self._jacobian_3V)
        position, velocity = self._grip.place(self.data), self._jacobian_3V @ self.data.qvel
        if self.gripper is not None:
            position = np.append(position, self.data.qpos[self._finger_qpos].sum())
            velocity = np.append(velocity, self.data.qvel[self._finger_dofs].sum())
        return np.concatenate([position, velocity]).astype(np.float32)

    def set_opening(self, opening_m: float) -> None:
        """Put the fingers at a distance from each other, at rest."""
        self.data.qpos[self._finger_qpos] = opening_m / 2
        mujoco.mj_forward(self.model, self.data)

    def rollout(self, commands_NKU: NDArray[np.float64]) -> NDArray[np.float64]:
        """As for any body; a thread per core, because the environment places its mocap target anew at every step."""
        commands_NKU = np.clip(commands_NKU, self.command.low, self.command.high)
        state = self.state()[: -self.command.dim]
        workers = self._rollouts.workers()
        shares = np.array_split(commands_NKU, len(workers))
        with ThreadPoolExecutor(len(workers)) as pool:
            found = list(pool.map(self._follow, workers, shares, [state] * len(workers)))
        return np.concatenate(found)

    def _follow(self, data: mujoco.MjData, commands_NKU: NDArray[np.float64], state: NDArray[np.float64]) -> Any:
        """Where the steps of each sequence lead, on a copy of the state."""
        positions = np.empty((*commands_NKU.shape[:2], 1 + self.has_object + 2 * (self.gripper is not None), 3))
        for n, k in np.ndindex(*positions.shape[:2]):
            if k == 0:
                mujoco.mj_setState(self.model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
                mujoco.mj_kinematics(self.model, data)
            self._advance(data, commands_NKU[n, k])
            positions[n, k] = self._points(data)
        return positions

    def _points(self, data: mujoco.MjData) -> NDArray[np.float64]:
        """As for any body; then the two fingers, where they open."""
        points = super()._points(data)
        return np.vstack([points, data.xpos[self._finger_bodies]]) if self.gripper is not None else points

    def close(self) -> None:
        super().close()
        self._env.close()


def _make(embodiment: Embodiment) -> Any:
    try:
        import gymnasium

        with contextlib.redirect_stderr(io.StringIO()):  # it prints a notice about environments nobody asked for
            import gymnasium_robotics
    except ImportError as error:
        raise UserError(f"{embodiment.environment} needs {error.name}", "Run pip install 'robot-wm[sim]'") from None
    gymnasium.register_envs(gymnasium_robotics)
    return gymnasium.make(embodiment.environment, max_episode_steps=MAX_EPISODE_STEPS).unwrapped


def _command_space(embodiment: Embodiment, top_speed_m_s: float, grips: bool) -> CommandSpace:
    if embodiment.interface != "end_effector_velocity" or embodiment.max_speed_m_s > top_speed_m_s + 1e-9:
        raise UserError(
            f"embodiment {embodiment.name}: {embodiment.interface} up to {embodiment.max_speed_m_s:g} m/s",
            f"{embodiment.environment} takes end_effector_velocity up to {top_speed_m_s:g} m/s",
        )
    free = 1 - 2 * embodiment.safety.margin
    limits = (embodiment.max_speed_m_s * free,) * 3 + (free,) * grips
    return CommandSpace(
        interface="end_effector_velocity",
        names=("vx", "vy", "vz") + ("gripper",) * grips,
        unit="m/s" + ", gripper -1 to 1" * grips,
        low=tuple(-limit for limit in limits),
        high=limits,
        max_step=(embodiment.safety.max_step,) * 3 + (2.0,) * grips,  # a gripper may turn round at once
        frame_skip=embodiment.frame_skip,
        control_rate_hz=embodiment.control_rate_hz,
    )
