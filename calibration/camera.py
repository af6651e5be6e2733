"""Where a camera is and how it sees: intrinsics from a board, the place by hand-eye, both refined by reprojection."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from calibration.board import Array, View
from robot_wm.contracts.errors import UserError

_LEAST_VIEWS, _LEAST_TURN_RAD = 5, 0.15
_FLIP = np.diag([1.0, -1.0, -1.0])  # MuJoCo cameras look along -z with y up, OpenCV's along z with y down


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole with OpenCV's distortion coefficients (k1, k2, p1, p2, and k3 = 0).

    Attributes:
        matrix: (3, 3) [px].
        distortion: (5,).
        size: width and height [px].
        error_px: RMS reprojection error of the views it was fitted to.
    """

    matrix: Array
    distortion: Array
    size: tuple[int, int]
    error_px: float


@dataclass(frozen=True)
class Placement:
    """The camera's place relative to what it was mounted to, and the board's on the other side of the arm.

    Attributes:
        T_mount_cam: camera (x right, y down, z ahead) in the mount's frame: the base's, or the hand's.
        T_other_board: board in the other one's frame.
        lens: the intrinsics, refined: known hand poses tell a shifted principal point from a turned camera.
        error_px: RMS reprojection error.
        interval_m, interval_rad: half-widths of the 95 % intervals of the camera's position and direction.
    """

    T_mount_cam: Array
    T_other_board: Array
    lens: Intrinsics
    error_px: float
    interval_m: float
    interval_rad: float


def intrinsics(views: Sequence[View], size: tuple[int, int]) -> Intrinsics:
    """Focal lengths, principal point and distortion from views of the board.

    Views that fit three times worse than the median (a blurred picture) are left out of a second fit.

    Raises:
        UserError: too few views, or views that are all alike.
    """
    if len(views) < _LEAST_VIEWS:
        raise UserError(f"the board is found in {len(views)} pictures", f"Give at least {_LEAST_VIEWS}, better 15")
    kept = list(views)
    for _ in range(2):
        points = [v.corners_m.astype(np.float32) for v in kept]
        pixels = [v.corners_px.astype(np.float32) for v in kept]
        error, matrix, distortion, turns, _, deviations, _, each = cv2.calibrateCameraExtended(
            points, pixels, size, None, None, flags=cv2.CALIB_FIX_K3
        )
        good = each.ravel() <= 3 * np.median(each)
        if good.all() or good.sum() < _LEAST_VIEWS:
            break
        kept = [v for v, g in zip(kept, good, strict=True) if g]
    spread = max(
        np.linalg.norm((Rotation.from_rotvec(t.ravel()) * Rotation.from_rotvec(turns[0].ravel()).inv()).as_rotvec())
        for t in turns
    )
    if spread < _LEAST_TURN_RAD or deviations[0, 0] > 0.05 * matrix[0, 0]:
        raise UserError(
            "the views of the board are too much alike to tell the focal length from the distance",
            "Tilt the board by 20 to 40 degrees in several directions, near and far",
        )
    return Intrinsics(matrix, distortion.ravel()[:5], size, float(error))


def board_pose(view: View, lens: Intrinsics) -> Array:
    """`T_cam_board` (4, 4) of one view."""
    found, turn, place = cv2.solvePnP(view.corners_m, view.corners_px, lens.matrix, lens.distortion)
    if not found:
        raise UserError("the board's pose cannot be computed", "Give a picture that shows more of it")
    return _transform(np.concatenate([turn.ravel(), place.ravel()]))


def place(views: Sequence[View], T_base_hand: Sequence[Array], lens: Intrinsics, on_hand: bool = False) -> Placement:
    """Hand-eye calibration: closed form first (OpenCV, Park and Martin 1994), then all reprojections at once.

    Args:
        views: the board in each picture.
        T_base_hand: the hand's pose of each, from the body's kinematics.
        lens: of the camera.
        on_hand: the camera moves with the hand and the board lies still; otherwise the board moves with the hand.

    Raises:
        UserError: too few poses, or poses that turn about one axis only.
    """
    if len(views) != len(T_base_hand) or len(views) < _LEAST_VIEWS:
        raise UserError(
            f"{len(views)} views and {len(T_base_hand)} hand poses", f"Give at least {_LEAST_VIEWS} of both, paired"
        )
    _check_turns(T_base_hand)
    # the camera's mount and the board's, seen from one another: T_mount_other
    links = [np.linalg.inv(T) if on_hand else T for T in T_base_hand]
    boards = [board_pose(view, lens) for view in views]
    inverse = [np.linalg.inv(T) for T in links]
    turn, shift = cv2.calibrateHandEye(
        [T[:3, :3] for T in inverse], [T[:3, 3] for T in inverse], [T[:3, :3] for T in boards],
        [T[:3, 3] for T in boards], method=cv2.CALIB_HAND_EYE_PARK,
    )  # fmt: skip
    T_mount_cam = np.eye(4)
    T_mount_cam[:3, :3], T_mount_cam[:3, 3] = turn, np.ravel(shift)
    T_other_board = np.linalg.inv(links[0]) @ T_mount_cam @ boards[0]

    def error(x: Array) -> Array:
        T_cam_mount, T_board = np.linalg.inv(_transform(x[:6])), _transform(x[6:12])
        matrix, distortion = _unpack(x[12:])
        parts = []
        for view, link in zip(views, links, strict=True):
            T = T_cam_mount @ link @ T_board
            seen, _ = cv2.projectPoints(view.corners_m, cv2.Rodrigues(T[:3, :3])[0], T[:3, 3], matrix, distortion)
            parts.append((seen[:, 0] - view.corners_px).ravel())
        return np.concatenate(parts)

    start = np.concatenate([_vector(T_mount_cam), _vector(T_other_board), _pack(lens)])
    fitted = least_squares(error, start, loss="soft_l1", f_scale=0.5, x_scale="jac")
    left = error(fitted.x)
    covariance = np.linalg.pinv(fitted.jac.T @ fitted.jac) * float(left @ left) / max(len(left) - len(start), 1)
    return Placement(
        _transform(fitted.x[:6]),
        _transform(fitted.x[6:12]),
        Intrinsics(*_unpack(fitted.x[12:]), lens.size, float(np.sqrt(2 * np.mean(left**2)))),
        float(np.sqrt(2 * np.mean(left**2))),
        float(1.96 * np.sqrt(np.trace(covariance[3:6, 3:6]))),
        float(1.96 * np.sqrt(np.trace(covariance[:3, :3]))),
    )


def set_camera(spec: mujoco.MjSpec, name: str, body: str, T_body_cam: Array, lens: Intrinsics) -> None:
    """Put the camera into an MJCF, in place, so that a render overlays the undistorted picture."""
    camera = spec.camera(name) or spec.body(body).add_camera(name=name)
    camera.pos = T_body_cam[:3, 3]
    x, y, z, w = Rotation.from_matrix(T_body_cam[:3, :3] @ _FLIP).as_quat()
    camera.quat = [w, x, y, z]
    width, height = lens.size
    camera.resolution = [width, height]
    camera.sensor_size = [width * 1e-5, height * 1e-5]  # any sensor: only its ratio to the focal length counts
    camera.focal_pixel = [lens.matrix[0, 0], lens.matrix[1, 1]]
    # MuJoCo measures the principal point from the centre, x to the left
    camera.principal_pixel = [(width - 1) / 2 - lens.matrix[0, 2], (height - 1) / 2 - lens.matrix[1, 2]]


def undistort(frame_YXC: NDArray[np.uint8], lens: Intrinsics) -> NDArray[np.uint8]:
    """The picture as a pinhole of the same matrix would see it."""
    return np.asarray(cv2.undistort(frame_YXC, lens.matrix, lens.distortion))


def overlay(real_YXC: NDArray[np.uint8], render_YXC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The real picture in red, the render in cyan: gray where they agree, coloured fringes where they do not."""
    gray = [frame.mean(axis=2) for frame in (real_YXC, render_YXC)]
    return np.stack([gray[0], gray[1], gray[1]], axis=2).astype(np.uint8)


def describe(lens: Intrinsics, placement: Placement | None) -> dict[str, Any]:
    """Strict JSON of what was found; the refined lens, where there is one."""
    lens = placement.lens if placement is not None else lens
    found: dict[str, Any] = {
        "matrix": lens.matrix.tolist(), "distortion": lens.distortion.tolist(), "size": list(lens.size),
        "error_px": lens.error_px,
    }  # fmt: skip
    if placement is not None:
        found["T_mount_cam"] = placement.T_mount_cam.tolist()
        found["placement_error_px"] = placement.error_px
        found |= {"interval_m": placement.interval_m, "interval_rad": placement.interval_rad}
    return found


def _check_turns(T_base_hand: Sequence[Array]) -> None:
    """Hand-eye needs turns about two axes: with one, the camera may slide along it unseen."""
    first = Rotation.from_matrix(T_base_hand[0][:3, :3])
    turns = np.array([(Rotation.from_matrix(T[:3, :3]) * first.inv()).as_rotvec() for T in T_base_hand])
    second = np.linalg.svd(turns - turns.mean(axis=0), compute_uv=False)[1] / np.sqrt(len(turns))
    if second < 0.25 * _LEAST_TURN_RAD:
        raise UserError(
            "the hand turned about one axis only, so the camera's place along it cannot be seen",
            "Record poses that turn the hand by 20 degrees or more about two axes",
        )


def _pack(lens: Intrinsics) -> Array:
    matrix = lens.matrix
    return np.array([matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], *lens.distortion[:4]])


def _unpack(x: Array) -> tuple[Array, Array]:
    matrix = np.array([[x[0], 0.0, x[2]], [0.0, x[1], x[3]], [0.0, 0.0, 1.0]])
    return matrix, np.append(x[4:8], 0.0)


def _transform(x: Array) -> Array:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_rotvec(x[:3]).as_matrix(), x[3:]
    return T


def _vector(T: Array) -> Array:
    return np.concatenate([Rotation.from_matrix(T[:3, :3]).as_rotvec(), T[:3, 3]])
