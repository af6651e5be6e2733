"""Open-loop simulation of a log for many parameter values at once, without recompiling the model.

A compiled model per column of the finite differences is kept, values are written into it in place, and all columns and
segments go through `mujoco.rollout` together. Geoms are left out as long as no contact occurs (collision detection
costs more than the rest of a step); that is checked, not assumed.
"""

import copy
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import mujoco
import mujoco.rollout
import numpy as np
from numpy.typing import NDArray

from calibration import parameters as moved
from calibration.lean import feeling, lean
from calibration.parameters import BIAS, DELAY, KINDS, Parameter
from calibration.signals import Array, Log
from calibration.start_state import start_state
from robot_wm.contracts.errors import UserError

_STATE = mujoco.mjtState.mjSTATE_FULLPHYSICS
_CHUNK_BYTES = 96 << 20  # of states held at once
_BEFORE_S = 1e3  # the first command is taken to have been held before the log began; of a rate, none


class _Segment(NamedTuple):
    """One stretch of the log on the simulation's grid."""

    start_s: float
    knots_s: Array  # of the integral of the commands
    integral_KU: Array
    rows: NDArray[np.int64]  # of the log
    steps: NDArray[np.int64]  # simulation step before each row
    share: Array  # of a step after it
    position_J: Array  # at the start
    velocity_J: Array


@dataclass(frozen=True)
class Prediction:
    """What the simulation says the encoders read, for C columns of values and M samples.

    `torque_CMU` is the torque of each actuator's joint; it has no columns where the log measures none.
    """

    position_CMJ: Array
    velocity_CMJ: Array
    torque_CMU: Array


class OpenLoop:
    """Simulates one log open loop: the measured state enters at the start of each segment only.

    Args:
        spec: the body's MJCF.
        log: commands and measurements; joints and actuators are found in the MJCF by name.
        parameters: what varies.
        rows: the part of the log to simulate; commands from before it count where there is a delay.
        segment_s: longest segment.
        contact: simulate contacts; None finds out whether there are any at the MJCF's values.
    """

    def __init__(
        self,
        spec: mujoco.MjSpec,
        log: Log,
        parameters: Sequence[Parameter],
        rows: slice = slice(None),
        segment_s: float = np.inf,
        contact: bool | None = None,
    ):
        self.log, self.parameters = log, tuple(parameters)
        self.full = spec.copy().compile()
        self._joints = np.array([_find(self.full, "joint", name) for name in log.joints])
        self._actuators = np.array([_find(self.full, "actuator", name) for name in log.actuators])
        self._qpos, self._qvel = self.full.jnt_qposadr[self._joints], self.full.jnt_dofadr[self._joints]
        _, stiffness, damping = self.full.actuator_biasprm[self._actuators, :3].T
        self._rates = (stiffness == 0) & (damping != 0)  # velocity servos
        first, last, _ = rows.indices(len(log.time_s))
        self._segments = [
            self._segment(stretch, int(a), int(b))
            for stretch in log.stretches()
            for a, b in _cut(log.time_s, max(stretch.start, first), min(stretch.stop, last), segment_s)
        ]
        if not self._segments:
            raise UserError("log: no stretch of ten samples without a gap", "Record again")
        self.rows = np.concatenate([s.rows for s in self._segments])
        self._steps = max(int(s.steps[-1]) for s in self._segments) + 1
        self._sort = np.array([p.kind for p in self.parameters])
        self._servo = _servo_joints(self.full, self._actuators, self._joints)
        self.contact = self._touches(self.nominal) if contact is None else contact
        self._felt = self._actuators[:0] if log.torque_NU is None else self._actuators
        self._base = lean(spec, self.full, self.contact)
        if len(self._felt):
            self._base = feeling(spec, self._felt, self.full, self.contact)
        self._models: list[mujoco.MjModel] = []
        self._data = [mujoco.MjData(self._base) for _ in range(len(os.sched_getaffinity(0)))]
        self._scratch = mujoco.MjData(self._base)

    @property
    def nominal(self) -> Array:
        """The parameters' values in the MJCF."""
        return np.array([p.nominal for p in self.parameters])

    def predict(self, values_CP: Array) -> Prediction:
        """Positions and velocities at the log's samples for every row of values."""
        values_CP = np.atleast_2d(values_CP)
        size = max(1, _CHUNK_BYTES // (8 * len(self._segments) * self._steps * (1 + 2 * self.full.nv)))
        parts = [self._simulate(values_CP[i : i + size]) for i in range(0, len(values_CP), size)]
        kinds = ("position_CMJ", "velocity_CMJ", "torque_CMU")
        return Prediction(*(np.concatenate([getattr(p, kind) for p in parts]) for kind in kinds))

    def signals(self, values_CP: Array) -> Array:
        """What `measured` should be for every row of values, (C, M, S)."""
        found = self.predict(values_CP)
        velocity = [found.velocity_CMJ] if self.log.compare_velocity else []
        return np.concatenate([found.position_CMJ, *velocity, found.torque_CMU], axis=2)

    def measured(self) -> Array:
        """The log's signals at the simulated samples, (M, S)."""
        return self.log.signals_NS[self.rows]

    def valid(self) -> NDArray[np.bool_]:
        """Which of it counts, (M, S)."""
        others = self.measured()[:, len(self.log.joints) :]
        return np.hstack([self.log.valid[self.rows], np.isfinite(others)])

    def trees(self) -> NDArray[np.int64]:
        """Kinematic tree of each signal of the log: without contact, what moves in one is not felt in another."""
        own = np.tile(self._qvel, 1 + self.log.compare_velocity)
        dofs = np.append(own, self.full.jnt_dofadr[self.full.actuator_trnid[self._felt, 0]])
        trees = self.full.dof_treeid[dofs].astype(np.int64)
        return np.zeros_like(trees) if self.contact or self.full.neq or self.full.ntendon else trees

    def tree_of(self, each: Parameter) -> int:
        """Kinematic tree that a parameter belongs to; -1 when it may belong to all."""
        if self.contact or self.full.neq or self.full.ntendon:
            return -1
        sort, found = KINDS[each.kind].target, moved.index(self.full, each.kind, each.target)
        if sort == "actuator":
            sort, found = "joint", int(self.full.actuator_trnid[found, 0])
        if sort == "site":
            sort, found = "body", int(self.full.site_bodyid[found])
        if sort == "joint":
            return int(self.full.dof_treeid[self.full.jnt_dofadr[found]])
        return int(self.full.body_treeid[found]) if sort == "body" else -1

    def uses_contact_rightly(self, values_P: Array) -> bool:
        """Whether contacts are simulated, or leaving them out changes nothing at these values."""
        return self.contact or not self._touches(values_P)

    def _touches(self, values_P: Array) -> bool:
        """Whether the full model differs from one without contacts anywhere in the log."""
        states = []
        for flag in (0, int(mujoco.mjtDisableBit.mjDSBL_CONTACT)):
            model = copy.copy(self.full)
            model.opt.disableflags |= flag
            moved.write(model, self.full, mujoco.MjData(model), self.parameters, values_P)
            start, control = self._inputs(values_P[None])
            states.append(mujoco.rollout.rollout(model, mujoco.MjData(model), start, control)[0])
        return not np.array_equal(*states)

    def _segment(self, stretch: slice, first: int, last: int) -> _Segment:
        dt, known = float(self.full.opt.timestep), slice(stretch.start, last)
        time_s, start_s = self.log.time_s[first:last], self.log.time_s[first]
        knots = self.log.time_s[known]
        knots = np.concatenate([[knots[0] - _BEFORE_S], knots, [knots[-1] + _BEFORE_S]])
        before = np.where(self._rates, 0.0, self.log.command_NU[known][:1])
        command = np.vstack([before, self.log.command_NU[known]])
        limited = self.full.actuator_ctrllimited[self._actuators].astype(bool)
        low, high = self.full.actuator_ctrlrange[self._actuators].T
        command = np.where(limited, np.clip(command, low, high), command)
        integral = np.vstack([np.zeros(command.shape[1]), np.cumsum(command * np.diff(knots)[:, None], axis=0)])
        exact = (time_s - start_s) / dt
        steps = np.floor(exact + 1e-6).astype(np.int64)
        share = np.clip(exact - steps, 0.0, 1.0)
        share[share < 2e-6] = 0.0
        position, velocity = start_state(self.log, stretch, first)
        return _Segment(start_s, knots, integral, np.arange(first, last), steps, share, position, velocity)

    def _inputs(self, values_CP: Array) -> tuple[Array, Array]:
        """Initial states (C·S, state) and controls (C·S, K, nu)."""
        num, model = len(values_CP), self.full
        bias_CJ = self._bias(values_CP)
        delay_C = values_CP[:, self._sort == DELAY].sum(axis=1)
        state = np.zeros((num, len(self._segments), mujoco.mj_stateSize(model, _STATE)))
        control = np.zeros((num, len(self._segments), self._steps, model.nu))
        fresh = np.empty(state.shape[2])
        mujoco.mj_getState(model, mujoco.MjData(model), fresh, _STATE)
        state[:] = fresh
        grid = np.arange(self._steps + 1) * float(model.opt.timestep)
        delays, which = np.unique(delay_C, return_inverse=True)
        for s, segment in enumerate(self._segments):
            state[:, s, 1 + self._qpos] = segment.position_J - bias_CJ
            state[:, s, 1 + model.nq + self._qvel] = segment.velocity_J
            held = np.empty((len(delays), self._steps, len(self._actuators)))
            for d, delay in enumerate(delays):
                at = segment.start_s + grid - delay
                for u in range(len(self._actuators)):
                    integral = np.interp(at, segment.knots_s, segment.integral_KU[:, u])
                    held[d, :, u] = np.diff(integral) / model.opt.timestep
            control[:, s, :, self._actuators] = np.moveaxis(held[which], 2, 0)
            for u, joint in enumerate(self._servo):  # a servo compares its command with its own, biased encoder
                if joint >= 0:
                    control[:, s, :, self._actuators[u]] -= bias_CJ[:, joint, None]
        return state.reshape(-1, state.shape[2]), control.reshape(-1, *control.shape[2:])

    def _bias(self, values_CP: Array) -> Array:
        bias = np.zeros((len(values_CP), len(self.log.joints)))
        for p, each in enumerate(self.parameters):
            if each.kind == BIAS:
                bias[:, self.log.joints.index(each.target)] = values_CP[:, p]
        return bias

    def _simulate(self, values_CP: Array) -> Prediction:
        num, count = len(values_CP), len(self._segments)
        while len(self._models) < num:
            self._models.append(copy.copy(self._base))
        for model, values in zip(self._models, values_CP, strict=False):
            moved.write(model, self._base, self._scratch, self.parameters, values)
        start, control = self._inputs(values_CP)
        models = [m for m in self._models[:num] for _ in range(count)]
        states, sensed = mujoco.rollout.rollout(models, self._data, start, control, skip_checks=False)
        states = np.concatenate([start[:, None], states], axis=1).reshape(num, count, self._steps + 1, -1)
        bias_CJ, dt = self._bias(values_CP), float(self.full.opt.timestep)
        found = [
            _sample(states[:, s], each, self._qpos, self.full.nq + self._qvel, dt)
            for s, each in enumerate(self._segments)
        ]
        position, velocity = (np.concatenate(part, axis=1) for part in zip(*found, strict=True))
        # the torque of the step that led to the sample, or contains it
        force = sensed.reshape(num, count, self._steps, -1)[..., : len(self._felt)]
        ends = [np.maximum(each.steps - (each.share == 0), 0) for each in self._segments]
        torque = np.concatenate([force[:, s, end] for s, end in enumerate(ends)], axis=1)
        position = np.nan_to_num(position + bias_CJ[:, None], nan=1e3)
        return Prediction(position, np.nan_to_num(velocity), np.nan_to_num(torque))


def _sample(states_CKS: Array, segment: _Segment, qpos: NDArray, qvel: NDArray, dt: float) -> tuple[Array, Array]:
    """State at the log's own times: cubic Hermite between steps, from positions and velocities at both ends."""
    before, after = segment.steps, segment.steps + 1
    q0, v0 = states_CKS[:, before][:, :, 1 + qpos], states_CKS[:, before][:, :, 1 + qvel]
    if not segment.share.any():
        return q0, v0
    q1, v1 = states_CKS[:, after][:, :, 1 + qpos], states_CKS[:, after][:, :, 1 + qvel]
    s = segment.share[:, None]
    position = (
        (1 + 2 * s) * (1 - s) ** 2 * q0
        + s * (1 - s) ** 2 * dt * v0
        + s**2 * (3 - 2 * s) * q1
        + s**2 * (s - 1) * dt * v1
    )
    return position, v0 + s * (v1 - v0)


def _cut(time_s: Array, first: int, last: int, longest_s: float) -> list[tuple[int, int]]:
    """Rows `first` to `last` in parts of at most `longest_s`, parts of fewer than ten rows left out."""
    if last - first < 10:
        return []
    count = max(1, int(np.ceil((time_s[last - 1] - time_s[first]) / longest_s)))
    return [(a, b) for a, b in itertools.pairwise(np.linspace(first, last, count + 1).astype(int)) if b - a >= 10]


def _servo_joints(model: mujoco.MjModel, actuators: NDArray, joints: NDArray) -> list[int]:
    """For each actuator the column of the joint whose position it servoes, -1 where it is no position servo."""
    found = []
    for a in actuators:
        joint = int(model.actuator_trnid[a, 0])
        servo = model.actuator_biastype[a] == mujoco.mjtBias.mjBIAS_AFFINE and model.actuator_biasprm[a, 1] != 0
        found.append(list(joints).index(joint) if servo and joint in joints else -1)
    return found


def _find(model: mujoco.MjModel, sort: str, name: str) -> int:
    found = mujoco.mj_name2id(model, getattr(mujoco.mjtObj, f"mjOBJ_{sort.upper()}"), name)
    if found < 0:
        count = model.njnt if sort == "joint" else model.nu
        names = ", ".join(getattr(model, sort)(i).name for i in range(count))
        raise UserError(f"log: {sort} {name!r} is not in the MJCF", f"It has: {names}")
    return found
