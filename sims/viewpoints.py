"""Where the cameras of a procedural scene are: static in front, then to the side, swinging, or on the wrist."""

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.embodiment import Camera
from sims.looks import pick
from sims.render import focal, world_to_camera
from sims.things import add_swing

NAMES = ("front", "second", "third")
_UP = np.array([0.0, 0.0, 1.0])
_KINDS, _ODDS = ("static", "moving", "wrist"), (0.35, 0.3, 0.35)  # of the second camera
_FOVY_DEG, _WRIST_FOVY_DEG = (24.0, 66.0), (65.0, 95.0)
_AZIMUTH, _ROOM = 1.15, (0.95, 1.6)  # to either side [rad]; half the picture's height over the frame's half diagonal
_WHOLE_AZIMUTH, _WHOLE_ROOM = 1.9, (0.95, 1.4)  # the same of a first camera that frames the whole arm
_ASIDE = (0.5, 1.4)  # between the first camera and another one, as seen from the workspace [rad]
_MOST_AZIMUTH = 1.6  # from straight ahead; further round the arm itself would be in the way
_SWAY = (0.06, 0.2)  # of a moving camera about the workspace, to either side [rad]


def add_cameras(
    spec: mujoco.MjSpec,
    tool: Any,
    hand_m: float,
    workspace_m: NDArray[np.float64],
    arm_m: NDArray[np.float64] | None,
    num: int,
    size: int,
    rng: Any,
) -> tuple[Camera, ...]:
    """The scene's cameras, in the model and as the contract's.

    The first is static. The others, where there are any, are static, swing about the workspace, or look along the
    tool from the wrist; those have no `position_m`, because MuJoCo knows where they are.

    Args:
        tool: the body that a camera on the wrist is fixed to.
        hand_m: how far the hand is along the tool's x.
        workspace_m: its lowest and highest corner, (2, 3).
        arm_m: points of the arm, (N, 3), that the first camera frames too; None: the workspace only.
        num: 1 to 3.
        size: height and width [px].
    """
    widest = _AZIMUTH if arm_m is None else _WHOLE_AZIMUTH
    azimuth, elevation = rng.uniform(-widest, widest), rng.uniform(0.2, 0.95)
    space = _Frame.around(workspace_m, _ROOM)
    first = space if arm_m is None else _Frame.around(np.concatenate([workspace_m, arm_m]), _WHOLE_ROOM)
    cameras = [_static(spec, NAMES[0], azimuth, elevation, first, size, rng)]
    kinds = [pick(rng, _KINDS, _ODDS)]
    kinds.append("wrist" if kinds[0] != "wrist" else pick(rng, _KINDS[:2]))
    for name, kind in zip(NAMES[1:num], kinds, strict=False):
        if kind == "wrist":
            cameras.append(_on_wrist(tool, name, hand_m, size, rng))
            continue
        side = 1 if azimuth < 0 else -1
        aside = min(max(azimuth + side * rng.uniform(*_ASIDE), -_MOST_AZIMUTH), _MOST_AZIMUTH)
        place = _static if kind == "static" else _moving
        cameras.append(place(spec, name, aside, rng.uniform(0.2, 1.1), space, size, rng))
    return tuple(cameras)


@dataclass(frozen=True)
class _Frame:
    """What a camera frames: a box, its middle and half its edges [m], and how much room it leaves, least and most."""

    middle: NDArray[np.float64]
    half: NDArray[np.float64]
    room: tuple[float, float]

    @classmethod
    def around(cls, points_m: NDArray[np.float64], room: tuple[float, float]) -> "_Frame":
        low, high = points_m.min(axis=0), points_m.max(axis=0)
        return cls((low + high) / 2, (high - low) / 2, room)


def in_view(
    model: mujoco.MjModel, data: mujoco.MjData, camera: Camera, points_m: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which points of the world, (N, 3), lie in the camera's picture; what stands in between does not count."""
    T_cam_world = world_to_camera(model, data, camera)
    x, y, z = T_cam_world[:3, :3] @ points_m.T + T_cam_world[:3, 3:]
    top = z / focal(model, camera)
    return (z > 0) & (np.abs(y) < top) & (np.abs(x) < top * camera.width / camera.height)


def look_at(position: NDArray[np.float64], target: NDArray[np.float64], up: NDArray[np.float64] = _UP) -> Any:
    """Quaternion of a MuJoCo camera, which looks along its -z with y up."""
    axes, quat = np.zeros((3, 3)), np.zeros(4)
    right, above, back = axes
    back[:] = position - target
    mujoco.mju_normalize3(back)
    mujoco.mju_cross(right, up, back)
    mujoco.mju_normalize3(right)
    mujoco.mju_cross(above, back, right)
    mujoco.mju_mat2Quat(quat, axes.T.ravel())
    return quat


def _aim(
    azimuth: float, elevation: float, frame: _Frame, rng: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Position, target and field of view [deg], so close that the frame fills the picture."""
    fovy = float(rng.uniform(*_FOVY_DEG))
    extent = float(np.linalg.norm(frame.half)) * rng.uniform(*frame.room)
    distance = extent / np.tan(np.radians(fovy / 2)) + 0.12
    target = frame.middle + frame.half * rng.normal(0, 0.2, 3)
    ahead = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    position = target + distance * ahead
    position[2] = max(position[2], 0.06)
    return position, target, fovy


def _static(
    spec: mujoco.MjSpec, name: str, azimuth: float, elevation: float, frame: _Frame, size: int, rng: Any
) -> Camera:
    position, target, fovy = _aim(azimuth, elevation, frame, rng)
    spec.worldbody.add_camera(name=name, pos=position, quat=look_at(position, target), fovy=fovy)
    (x, y, z), (u, v, w) = position.tolist(), target.tolist()
    return Camera(name, size, size, (x, y, z), (u, v, w), fovy)


def _moving(
    spec: mujoco.MjSpec, name: str, azimuth: float, elevation: float, frame: _Frame, size: int, rng: Any
) -> Camera:
    position, target, fovy = _aim(azimuth, elevation, frame, rng)
    axis = _UP + rng.normal(0, 0.1, 3)
    rig = add_swing(spec, f"{name}_rig", target, axis, pick(rng, (-1, 1)) * rng.uniform(*_SWAY), rng)
    arm = position - target
    rig.add_camera(name=name, pos=arm, quat=look_at(arm, np.zeros(3)), fovy=fovy)
    return Camera(name, size, size, fovy_deg=fovy)


def _on_wrist(tool: Any, name: str, hand_m: float, size: int, rng: Any) -> Camera:
    """Beside the tool, looking a little past the hand."""
    fovy, around = float(rng.uniform(*_WRIST_FOVY_DEG)), rng.uniform(-0.6, 0.6)
    out = np.array([0.0, np.sin(around), np.cos(around)])
    position = out * rng.uniform(0.09, 0.13) + np.array([rng.uniform(-0.05, 0.0), 0.0, 0.0])
    target = np.array([hand_m + rng.uniform(0.0, 0.08), 0.0, 0.0])
    tool.add_camera(name=name, pos=position, quat=look_at(position, target, out), fovy=fovy)
    return Camera(name, size, size, fovy_deg=fovy)
