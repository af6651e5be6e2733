"""What every procedural scene must be able to do, so that whoever records or trains on it need not look."""

import copy
import itertools

import mujoco
import numpy as np
from numpy.typing import NDArray

from sims.arms import ARM_GROUP
from sims.motion import InverseKinematics
from sims.scenes import Scene
from sims.viewpoints import in_view

_REACHED_M = 0.03  # a corner of the workspace counts as reached from here
_SOLVES, _SOLVES_FROM_HOME, _ITERATIONS = 6, 20, 10  # of inverse kinematics, from the last corner and from home
_STILL, _NEAR_HOME = 0.05, 0.05  # [rad/s or m/s, rad or m] after holding
_AT_REST_M = 0.01
_SEEN_SHARE = 0.5  # of the workspace's corners, by a camera that does not sit on the wrist


def check(scene: Scene, seconds: float = 10.0) -> list[str]:
    """The faults of a scene; none when it is sound.

    It is finite and stable: under its own controller the arm holds its home pose for `seconds`, and nothing on the
    table moves by itself. Its hand reaches the corners of the workspace, and the middles of its edges. Every camera
    sees the workspace, or the hand when it is on the wrist.
    """
    return [*_unstable(scene, seconds), *_out_of_reach(scene), *_blind(scene)]


def _unstable(scene: Scene, seconds: float) -> list[str]:
    model = copy.copy(scene.model)
    model.geom_contype[model.geom_contype == ARM_GROUP] = 0  # an object in the way is no fault of the arm's
    data = mujoco.MjData(model)
    joints = [model.joint(name) for name in scene.arm.joints]
    qpos, qvel = [j.qposadr[0] for j in joints], [j.dofadr[0] for j in joints]
    data.qpos[qpos] = scene.arm.home
    servos = [model.actuator(name).id for name in scene.arm.joints]
    holds_position = bool((model.actuator_biasprm[servos, 1] != 0).all())
    data.ctrl[servos] = scene.arm.home if holds_position else 0.0
    mujoco.mj_kinematics(model, data)
    places_m = {name: data.body(name).xpos.copy() for name in scene.objects}
    mujoco.mj_step(model, data, nstep=round(seconds / model.opt.timestep))
    if not (np.isfinite(data.qpos).all() and np.isfinite(data.qvel).all()) or data.warning.number.any():
        return ["its state is not finite"]
    faults = []
    if np.abs(data.qvel[qvel]).max() > _STILL:
        faults.append(f"it still moves at {np.abs(data.qvel[qvel]).max():.2f} after {seconds:g} s")
    off = np.abs(data.qpos[qpos] - scene.arm.home).max()
    if off > _NEAR_HOME:
        faults.append(f"it has left its home pose by {off:.2f}")
    for name, place_m in places_m.items():
        if np.linalg.norm(data.body(name).xpos - place_m) > _AT_REST_M:
            faults.append(f"{name} has moved by itself")
    return faults


def _out_of_reach(scene: Scene) -> list[str]:
    low_m, high_m = scene.workspace_m
    inverse = InverseKinematics(scene.model, scene.arm)
    faults = []
    for share in itertools.product((0.0, 0.5, 1.0), (0.0, 0.5, 1.0), (0.0, 1.0)):
        target_m = low_m + np.array(share) * (high_m - low_m)
        left_m = _reach(inverse, target_m, _SOLVES)
        if left_m > _REACHED_M:
            inverse.joints = scene.arm.home.copy()
            left_m = _reach(inverse, target_m, _SOLVES_FROM_HOME)
        if left_m > _REACHED_M:
            faults.append(f"its hand stays {left_m * 100:.0f} cm from {np.round(target_m, 2).tolist()}")
    return faults


def _reach(inverse: InverseKinematics, target_m: NDArray[np.float64], solves: int) -> float:
    """The distance that is left when it is small enough or time is up [m]."""
    left_m = np.inf
    for _ in range(solves):
        left_m = inverse.solve(target_m, _ITERATIONS)
        if left_m < _REACHED_M:
            break
    return float(left_m)


def _blind(scene: Scene) -> list[str]:
    model, data = scene.model, mujoco.MjData(scene.model)
    data.qpos[[model.joint(name).qposadr[0] for name in scene.arm.joints]] = scene.arm.home
    mujoco.mj_forward(model, data)
    corners = np.array(list(itertools.product(*scene.workspace_m.T)))
    faults = []
    for camera in scene.cameras:
        on_wrist = camera.position_m is None and model.body(model.camera(camera.name).bodyid[0]).name == "tool"
        points = data.site("hand").xpos[None] if on_wrist else corners
        seen = in_view(model, data, camera, points)
        if seen.mean() < _SEEN_SHARE:
            faults.append(f"camera {camera.name} sees {seen.sum()} of {len(points)} points of the workspace")
    return faults
