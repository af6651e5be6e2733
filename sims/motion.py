"""How procedural arms move: the hand along smooth paths, the joints by inverse kinematics."""

import math
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from sims.arms import HAND_SITE, Arm

CONTROL_S = 0.05
_DAMPING = 0.05  # of the least-squares inverse [m]: keeps steps finite near singular poses
_DOWN_WEIGHT = 0.12  # of the tool's direction against the hand's position [m]
_POSTURE_WEIGHT = 0.02
_MAX_MOVE, _ARRIVED = 0.25, 5e-4  # of a joint, per iteration [rad or m]
_PUSH_SHARE = 0.55  # of plans; an episode of a few seconds holds several
_SPEEDS_M_S = (0.15, 0.75)
_PAUSE_SHARE, _PAUSES_S = 0.15, (0.1, 0.5)


class InverseKinematics:
    """Joint positions that put the hand at a point, tool downwards where the arm has the joints for it.

    Damped least squares (Wampler 1986) on a copy of the model's state, warm-started from the last solution. One
    iteration per control period is a fifth of what a recorded frame costs, so nothing is allocated on the way.
    """

    def __init__(self, model: mujoco.MjModel, arm: Arm):
        self._model, self._data = model, mujoco.MjData(model)
        self._site = model.site(HAND_SITE).id
        hand = self._data.site(HAND_SITE)
        self._hand_m, self._axis = hand.xpos, hand.xmat[::3]  # x of the site, which the tool points along
        self._all_qpos = self._data.qpos
        self._qpos = np.array([model.joint(j).qposadr[0] for j in arm.joints])
        self._dof = np.array([model.joint(j).dofadr[0] for j in arm.joints])
        self._low, self._high = np.array([model.joint(j).range for j in arm.joints]).T
        self._home, num = arm.home, len(arm.joints)
        self._jacobian_p, self._jacobian_r = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        self._jacobian, self._error = (
            np.zeros((6 if arm.points_down else 3, num)),
            np.zeros(6 if arm.points_down else 3),
        )
        self._damping, self._move = _DAMPING**2 * np.eye(num), np.zeros(num)
        self.joints = arm.home.copy()
        self._forward()

    def solve(self, target_m: NDArray[np.float64], iterations: int) -> float:
        """Move `joints` towards the target until they rest; returns the distance that is left [m]."""
        jacobian, error, move = self._jacobian, self._error, self._move
        for _ in range(iterations):
            mujoco.mj_jacSite(self._model, self._data, self._jacobian_p, self._jacobian_r, self._site)
            error[:3] = target_m - self._hand_m
            jacobian[:3] = self._jacobian_p[:, self._dof]
            if len(error) > 3:
                error[3], error[4] = -_DOWN_WEIGHT * self._axis[1], _DOWN_WEIGHT * self._axis[0]  # axis × (0, 0, -1)
                jacobian[3:] = _DOWN_WEIGHT * self._jacobian_r[:, self._dof]
            posture = (_DAMPING**2 * _POSTURE_WEIGHT) * (self._home - self.joints)
            normal = jacobian.T @ jacobian + self._damping
            mujoco.mju_cholFactor(normal, 0.0)  # in place; numpy's solver takes three times as long for six unknowns
            mujoco.mju_cholSolve(move, normal, jacobian.T @ error + posture)
            np.minimum(np.maximum(move, -_MAX_MOVE, out=move), _MAX_MOVE, out=move)
            self.joints = np.minimum(np.maximum(self.joints + move, self._low), self._high)
            self._forward()
            if np.abs(move).max() < _ARRIVED:
                break
        return math.dist(target_m, self._hand_m)

    def _forward(self) -> None:
        self._all_qpos[self._qpos] = self.joints
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)


@dataclass
class _Leg:
    start_m: NDArray[np.float64]
    end_m: NDArray[np.float64]
    duration_s: float

    def at(self, t_s: float) -> NDArray[np.float64]:
        """Minimum-jerk profile (Flash and Hogan 1985): at rest at both ends."""
        s = min(max(t_s / self.duration_s, 0.0), 1.0)
        return self.start_m + (self.end_m - self.start_m) * (10 * s**3 - 15 * s**4 + 6 * s**5)


class Wander:
    """Where the hand should be: legs between random points, most of them planned to pass through an object."""

    def __init__(self, workspace_m: NDArray[np.float64], start_m: NDArray[np.float64], rng: np.random.Generator):
        self._workspace, self._rng = workspace_m, rng
        self._leg = _Leg(start_m, start_m, 1e-3)
        self._ahead: list[NDArray[np.float64]] = []
        self._elapsed_s = 0.0

    def advance(self, object_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """The hand's target one control period later [m]; `object_m` is where the thing to push is now."""
        self._elapsed_s += CONTROL_S
        if self._elapsed_s >= self._leg.duration_s:
            self._next_leg(object_m)
        return self._leg.at(self._elapsed_s)

    def _next_leg(self, object_m: NDArray[np.float64]) -> None:
        rng, start = self._rng, self._leg.end_m
        self._elapsed_s = 0.0
        if not self._ahead and rng.random() < _PAUSE_SHARE:
            self._leg = _Leg(start, start, rng.uniform(*_PAUSES_S))
            return
        if not self._ahead:
            push = rng.random() < _PUSH_SHARE
            low, high = self._workspace
            self._ahead = self._push(start, object_m) if push else [rng.uniform(low, high)]
        end = self._ahead.pop(0)
        distance = float(np.linalg.norm(end - start))
        self._leg = _Leg(start, end, max(distance / rng.uniform(*_SPEEDS_M_S), 0.15))

    def _push(self, start_m: NDArray[np.float64], object_m: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Behind the object as seen from where it should go, then through it."""
        low, high = self._workspace
        aim = self._rng.uniform(low, high)[:2]
        direction = aim - object_m[:2]
        direction /= np.linalg.norm(direction) + 1e-6
        height = np.clip(object_m[2] + self._rng.uniform(-0.01, 0.015), 0.02, high[2])
        behind = np.append(object_m[:2] - direction * self._rng.uniform(0.08, 0.12), height)
        beyond = np.append(object_m[:2] + direction * self._rng.uniform(0.06, 0.16), height)
        reach = np.array([0.05, 0.05])
        behind[:2] = np.clip(behind[:2], low[:2] - reach, high[:2] + reach)
        beyond[:2] = np.clip(beyond[:2], low[:2] - reach, high[:2] + reach)
        crosses = np.dot(start_m[:2] - object_m[:2], direction) > -0.04  # else the way there is free
        over = [np.append((start_m[:2] + behind[:2]) / 2, height + 0.1)] if crosses else []
        return [*over, behind, beyond]
