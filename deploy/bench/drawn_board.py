"""Pictures of a ChArUco board as a real lens would take them: perspective, distortion, blur and noise."""

import functools

import cv2
import numpy as np
from scipy.interpolate import RectBivariateSpline
from scipy.spatial.transform import Rotation

from calibration.board import Board
from calibration.camera import Intrinsics

SIZE = (640, 480)
_PER_SQUARE, _FINER = 80, 2


def lens(rng: np.random.Generator) -> Intrinsics:
    focal = rng.uniform(520, 680)
    matrix = np.array(
        [
            [focal, 0, 320 + rng.uniform(-15, 15)],
            [0, focal * rng.uniform(0.99, 1.01), 240 + rng.uniform(-15, 15)],
            [0, 0, 1],
        ]
    )
    distortion = np.array([rng.uniform(-0.15, 0.1), rng.uniform(-0.05, 0.05), *rng.uniform(-1e-3, 1e-3, 2), 0.0])
    return Intrinsics(matrix, distortion, SIZE, 0.0)


def take(
    board: Board,
    T_cam_board: np.ndarray,
    true: Intrinsics,
    rng: np.random.Generator,
    blur_px: float = 0.8,
    noise: float = 4.0,
) -> np.ndarray:
    """One picture, (Y, X, 3): every pixel's rays are traced to the board's plane, several per pixel."""
    print_ = cv2.copyMakeBorder(board.picture(_PER_SQUARE), 60, 60, 60, 60, cv2.BORDER_CONSTANT, value=255)
    wide, high = SIZE[0] * _FINER, SIZE[1] * _FINER
    rays = _rays(true.matrix.tobytes(), true.distortion.tobytes())
    R, t = T_cam_board[:3, :3], T_cam_board[:3, 3]
    points = rays * ((R[:, 2] @ t) / (rays @ R[:, 2]))[:, None]
    local = (points - t) @ R
    at = (local[:, :2] / board.square_m * _PER_SQUARE + 60 - 0.5).astype(np.float32).reshape(high, wide, 2)
    fine = cv2.remap(print_, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=90)
    gray = fine.reshape(SIZE[1], _FINER, SIZE[0], _FINER).mean(axis=(1, 3))
    gray = cv2.GaussianBlur(gray, (0, 0), blur_px) + noise * rng.normal(size=gray.shape)
    return np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


@functools.lru_cache(maxsize=2)
def _rays(matrix: bytes, distortion: bytes) -> np.ndarray:
    """The direction of every fine pixel, (N, 3): solved on a grid 8 times coarser."""
    wide, high = SIZE[0] * _FINER, SIZE[1] * _FINER
    x, y = np.meshgrid(np.arange(0, SIZE[0] + 8, 8.0), np.arange(0, SIZE[1] + 8, 8.0))
    pixels = np.column_stack([x.ravel(), y.ravel()])[:, None]
    coarse = cv2.undistortPoints(pixels, np.frombuffer(matrix).reshape(3, 3), np.frombuffer(distortion))
    coarse = coarse.reshape(*x.shape, 2)
    columns, rows = ((np.arange(n) + 0.5) / _FINER - 0.5 for n in (wide, high))
    fine = [RectBivariateSpline(y[:, 0], x[0], coarse[..., i])(rows, columns).ravel() for i in range(2)]
    return np.column_stack([*fine, np.ones(wide * high)])


def looking(board: Board, rng: np.random.Generator, distance_m: float = 0.6) -> np.ndarray:
    """`T_cam_board`: the board in front of the camera, tilted at random."""
    T = np.eye(4)
    turn = Rotation.from_euler("xyz", [*rng.uniform(-0.55, 0.55, 2), rng.uniform(-0.6, 0.6)])
    T[:3, :3] = turn.as_matrix()
    centre = np.array([*np.array(board.size_m) / 2, 0.0])
    place = np.array([*rng.uniform(-0.13, 0.13, 2), distance_m * rng.uniform(0.75, 1.2)])
    T[:3, 3] = place - T[:3, :3] @ centre
    return T


def pose(rng: np.random.Generator, turn_rad: float, shift_m: float) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(rng.uniform(-turn_rad, turn_rad, 3)).as_matrix()
    T[:3, 3] = rng.uniform(-shift_m, shift_m, 3)
    return T
