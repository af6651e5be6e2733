"""How procedural arms move: the hand along smooth paths, the joints by inverse kinematics."""

import math
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from sims.arms import HAND_SITE, Arm

CONTROL_S = 0.1  # how often the hand gets a new target; the joints move evenly in between
_DAMPING = 0.05  # of the least-squares inverse [m]: keeps steps finite near singular poses
_DOWN_WEIGHT = 0.12  # of the tool's direction against the hand's position [m]
_POSTURE_WEIGHT = 0.02
_MAX_MOVE, _ARRIVED = 0.25, 2e-3  # of a joint, per iteration [rad or m]
_PUSH_SHARE = 0.55  # of plans; an episode of a few seconds holds several
_SPEEDS_M_S = (0.15, 0.75)
_PAUSE_SHARE, _PAUSES_S = 0.15, (0.1, 0.5)
_BEYOND_M = 0.05  # so far may a push leave the workspace
_JOINT_SPEEDS = (0.3, 2.0)  # of an arm that roams [rad/s]
_OPEN_SHARE = 0.8  # of a joint's range that it roams
_CLEAR_M, _SINKS_M = 0.1, 0.02  # every joint of a roaming arm stays so high, or so little below a low shoulder
_POSES = 30  # draws until one such pose is found


class InverseKinematics:
    """Joint positions that put the hand at a point, tool downwards where the arm has the joints for it.

    Damped least squares (Wampler 1986), warm-started from the last solution. For a handful of unknowns calling numpy
    costs more than computing, so there are few calls, and hardly any allocates.

    Args:
        model: with the arm in it.
        arm: its design.
        data: of a simulation, which is posed meanwhile: its joints are put back, what follows from them is not, because
            the next step works it out anyway. Making one takes as long as twenty solutions.

    Attributes:
        joints: the last solution [rad or m].
    """

    def __init__(self, model: mujoco.MjModel, arm: Arm, data: mujoco.MjData | None = None):
        self._model, self._data = model, data or mujoco.MjData(model)
        self._site = model.site(HAND_SITE).id
        hand = self._data.site(HAND_SITE)
        self._hand_m, self._axis = hand.xpos, hand.xmat[::3]  # x of the site, which the tool points along
        joints = [model.joint(name) for name in arm.joints]  # a chain: the degrees of freedom follow each other
        dof = slice(int(joints[0].dofadr[0]), int(joints[-1].dofadr[0]) + 1)
        self._qpos = self._data.qpos[int(joints[0].qposadr[0]) : int(joints[-1].qposadr[0]) + 1]
        self._low, self._high = np.array([joint.range for joint in joints]).T
        self._home, num = arm.home, len(joints)
        whole = np.zeros((6, model.nv))
        self._jacobian_p, self._jacobian_r, self._jacobian = whole[:3], whole[3:], whole[:, dof]
        down = _DOWN_WEIGHT**2 if arm.points_down else 0.0
        self._weights, self._error = np.array([1.0, 1.0, 1.0, down, down, down]), np.zeros(6)
        self._damping, self._posture = _DAMPING**2 * np.eye(num), _DAMPING**2 * _POSTURE_WEIGHT
        self._normal, self._move = np.zeros((num, num)), np.zeros(num)
        self.joints = arm.home.copy()

    def solve(self, target_m: NDArray[np.float64], iterations: int) -> float:
        """Move `joints` towards the target until they rest; returns the distance that is left [m]."""
        held = self._qpos.copy()
        for _ in range(iterations):
            self._step(target_m)
            if np.abs(self._move).max() < _ARRIVED:
                break
        self._qpos[:] = self.joints
        mujoco.mj_kinematics(self._model, self._data)
        self._qpos[:] = held
        return math.dist(target_m, self._hand_m)

    def follow(self, target_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """One step towards a target that is near the last one: enough to keep up; returns `joints`."""
        held = self._qpos.copy()
        self._step(target_m)
        self._qpos[:] = held
        return self.joints

    def _step(self, target_m: NDArray[np.float64]) -> None:
        error, normal, move = self._error, self._normal, self._move
        self._qpos[:] = self.joints
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_jacSite(self._model, self._data, self._jacobian_p, self._jacobian_r, self._site)
        np.subtract(target_m, self._hand_m, out=error[:3])
        error[3], error[4] = -self._axis[1], self._axis[0]  # axis × (0, 0, -1)
        weighted = self._jacobian.T * self._weights
        np.matmul(weighted, self._jacobian, out=normal)
        normal += self._damping
        wanted = weighted @ error + self._posture * (self._home - self.joints)
        mujoco.mju_cholFactor(normal, 0.0)  # in place; numpy's solver takes three times as long for six unknowns
        mujoco.mju_cholSolve(move, normal, wanted)
        np.minimum(np.maximum(move, -_MAX_MOVE, out=move), _MAX_MOVE, out=move)
        self.joints = np.minimum(np.maximum(self.joints + move, self._low), self._high)


_Point = tuple[float, float, float]


@dataclass(frozen=True)
class _Leg:
    """From one place of the hand [m], or one pose [rad or m], to another."""

    start: tuple[float, ...]
    end: tuple[float, ...]
    duration_s: float

    def at(self, t_s: float) -> NDArray[np.float64]:
        """Minimum-jerk profile (Flash and Hogan 1985): at rest at both ends."""
        s = min(max(t_s / self.duration_s, 0.0), 1.0)
        share = s * s * s * (10 - 15 * s + 6 * s * s)
        return np.array([a + share * (b - a) for a, b in zip(self.start, self.end, strict=True)])


class Wander:
    """Where the hand should be: legs between random points, most of them planned to pass through an object.

    Points are tuples: with three numbers at a time Python is faster than numpy.
    """

    def __init__(self, workspace_m: NDArray[np.float64], start_m: NDArray[np.float64], rng: np.random.Generator):
        self._low, self._high = (tuple(corner) for corner in workspace_m.tolist())
        self._rng = rng
        self._at: _Point = tuple(start_m.tolist())  # where the leg ends
        self._leg = _Leg(self._at, self._at, 1e-3)
        self._ahead: list[_Point] = []
        self._elapsed_s = 0.0

    def advance(self, object_m: NDArray[np.float64], period_s: float = CONTROL_S) -> NDArray[np.float64]:
        """The hand's target one control period later [m]; `object_m` is where the thing to push is now."""
        self._elapsed_s += period_s
        if self._elapsed_s >= self._leg.duration_s:
            self._next_leg(object_m)
        return self._leg.at(self._elapsed_s)

    def _next_leg(self, object_m: NDArray[np.float64]) -> None:
        start: _Point = self._at
        self._elapsed_s = 0.0
        if not self._ahead and self._rng.random() < _PAUSE_SHARE:
            self._leg = _Leg(start, start, self._between(*_PAUSES_S))
            return
        if not self._ahead:
            push = self._rng.random() < _PUSH_SHARE
            self._ahead = self._push(start, object_m) if push else [self._anywhere()]
        end = self._at = self._ahead.pop(0)
        self._leg = _Leg(start, end, max(math.dist(start, end) / self._between(*_SPEEDS_M_S), 0.15))

    def _push(self, start_m: _Point, object_m: NDArray[np.float64]) -> list[_Point]:
        """Behind the object as seen from where it should go, then through it."""
        (aim_x, aim_y, _), (x, y, z) = self._anywhere(), object_m.tolist()
        far = math.hypot(aim_x - x, aim_y - y) + 1e-6
        along_x, along_y = (aim_x - x) / far, (aim_y - y) / far
        height = min(max(z + self._between(-0.01, 0.015), 0.02), self._high[2])
        ends = [
            self._near(x + d * along_x, y + d * along_y, height)
            for d in (-self._between(0.08, 0.12), self._between(0.06, 0.16))
        ]
        crosses = (start_m[0] - x) * along_x + (start_m[1] - y) * along_y > -0.04  # else the way there is free
        over = [((start_m[0] + ends[0][0]) / 2, (start_m[1] + ends[0][1]) / 2, height + 0.1)] if crosses else []
        return [*over, *ends]

    def _near(self, x: float, y: float, z: float) -> _Point:
        """Not further than a little outside the workspace."""
        (low_x, low_y, _), (high_x, high_y, _) = self._low, self._high
        return min(max(x, low_x - _BEYOND_M), high_x + _BEYOND_M), min(max(y, low_y - _BEYOND_M), high_y + _BEYOND_M), z

    def _between(self, low: float, high: float) -> float:
        """A number drawn evenly; `Generator.uniform` takes four times as long."""
        return low + (high - low) * float(self._rng.random())

    def _anywhere(self) -> _Point:
        (a, b, c), (u, v, w) = self._low, self._high
        return self._between(a, u), self._between(b, v), self._between(c, w)


class Roam:
    """Where the joints should be: legs between poses drawn at random, as a body babbles while it is being calibrated.

    Args:
        model: with the arm in it.
        arm: its design.
        data: of a simulation, posed meanwhile like that of `InverseKinematics`.
        rng: all randomness comes from here.

    Attributes:
        joints: where they should be now; at first, where the simulation should begin [rad or m].
    """

    def __init__(self, model: mujoco.MjModel, arm: Arm, data: mujoco.MjData, rng: np.random.Generator):
        self._model, self._data, self._rng, self._home = model, data, rng, arm.home
        joints = [model.joint(name) for name in arm.joints]
        self._ids, self._hand_m = [joint.id for joint in joints], data.site(HAND_SITE).xpos
        self._qpos = data.qpos[int(joints[0].qposadr[0]) : int(joints[-1].qposadr[0]) + 1]
        low, high = np.array([joint.range for joint in joints]).T
        self._middle, self._half = (low + high) / 2, _OPEN_SHARE * (high - low) / 2
        mujoco.mj_kinematics(model, data)
        self._lowest_m = min(_CLEAR_M, float(data.xanchor[self._ids[0], 2]) - _SINKS_M)
        self.joints = self._pose(arm.home)
        self._elapsed_s, self._leg = 0.0, _Leg(tuple(self.joints), tuple(self.joints), 1e-3)

    def advance(self, period_s: float) -> NDArray[np.float64]:
        """`joints` one control period later."""
        self._elapsed_s += period_s
        if self._elapsed_s >= self._leg.duration_s:
            start = np.array(self._leg.end)
            end = self._pose(start)
            speed = _JOINT_SPEEDS[0] + (_JOINT_SPEEDS[1] - _JOINT_SPEEDS[0]) * self._rng.random()
            self._leg = _Leg(tuple(start), tuple(end), max(float(np.abs(end - start).max()) / speed, 0.2))
            self._elapsed_s = 0.0
        self.joints = self._leg.at(self._elapsed_s)
        return self.joints

    def _pose(self, start: NDArray[np.float64]) -> NDArray[np.float64]:
        """A pose that keeps clear of the table, and half the way to it does, too; home where none is found."""
        for _ in range(_POSES):
            pose = self._middle + self._half * self._rng.uniform(-1, 1, len(self._half))
            if self._clears(pose) and self._clears((start + pose) / 2):
                return pose
        return self._home

    def _clears(self, pose: NDArray[np.float64]) -> bool:
        held = self._qpos.copy()
        self._qpos[:] = pose
        mujoco.mj_kinematics(self._model, self._data)
        self._qpos[:] = held
        joints = float(self._data.xanchor[self._ids, 2].min())
        return joints > self._lowest_m and float(self._hand_m[2]) > _CLEAR_M
