"""Where in the world a pixel of the camera's picture is, for people who click at the place of an object."""

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.errors import UserError
from sims import render
from sims.simulation import Simulation

_UNEVEN_M = 0.01  # how far the ground beneath the object may differ from what it stands on now


def object_place(
    simulation: Simulation, pixel: tuple[float, float], size: tuple[int, int] | None = None
) -> NDArray[np.float64]:
    """Where the middle of the object is [m], (3,), when it is seen at a pixel and stands as high as it does now.

    Args:
        simulation: a body with an object, as it stands after a reset; stays as it is.
        pixel: x to the right and y down; whole numbers are the middles of pixels, (0, 0) that of the upper left one.
        size: width and height of the picture that the pixel belongs to; None: the camera's own.

    Raises:
        UserError: a body without object, a camera that moves, a pixel outside the picture or above the horizon, or a
            place where the object would not stand.
    """
    if not simulation.has_object:
        raise UserError(f"goal: {simulation.embodiment.name} has no object", "Leave object_px out")
    width, height = size or (simulation.camera.width, simulation.camera.height)
    shares = (np.asarray(pixel) + 0.5) / (width, height)
    if not ((shares >= 0) & (shares <= 1)).all():
        raise UserError(
            f"goal: object_px is {list(pixel)}, outside the picture of {width} x {height} px",
            f"Give x from 0 to {width - 1} and y from 0 to {height - 1}; for a picture of another size, object_px_of",
        )
    eye_m, ahead = view_ray(simulation, shares)
    now_m = simulation.object()
    level = abs(ahead[2]) < 1e-6 * np.linalg.norm(ahead)
    reach = -1.0 if level else (now_m[2] - eye_m[2]) / ahead[2]
    if reach <= 0:
        raise UserError(
            f"goal: object_px is {list(pixel)}, where the camera sees nothing as low as the object stands",
            "Give a pixel on the table",
        )
    place_m = eye_m + reach * ahead
    if not abs(simulation.ground_m(place_m) - simulation.ground_m(now_m)) < _UNEVEN_M:
        x, y, z = place_m
        raise UserError(
            f"goal: object_px is {list(pixel)}, which is ({x:.3f}, {y:.3f}, {z:.3f}) m: the object cannot stand there",
            f"Give a pixel on what it stands on now, at ({now_m[0]:.3f}, {now_m[1]:.3f}, {now_m[2]:.3f}) m",
        )
    return place_m


def view_ray(simulation: Simulation, shares: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The camera's place [m], (3,), and the direction, (3,), of what it shows at shares of its width and height.

    Both are those that MuJoCo draws with, a shifted principal point included.

    Raises:
        UserError: the camera is carried by the body, so that a pixel means another place in every pose.
    """
    model, camera = simulation.model, simulation.camera
    if camera.position_m is None and model.body_weldid[model.camera(camera.name).bodyid[0]]:
        raise UserError(f"goal: camera {camera.name} moves with the body", "Give object_m instead of object_px")
    if camera.position_m is not None:
        model.vis.global_.fovy = camera.fovy_deg
    scene = mujoco.MjvScene(model, maxgeom=1)
    mujoco.mjv_updateCamera(model, simulation.data, render.view_of(model, camera), scene)
    left, right = scene.camera  # the eyes of a stereo view, between which the picture is drawn
    up, forward = np.array(left.up), np.array(left.forward)
    high = left.frustum_top - left.frustum_bottom
    half = left.frustum_width or 0.5 * high * camera.width / camera.height
    aside = 0.5 * (left.frustum_center + right.frustum_center) + (2 * shares[0] - 1) * half
    above = left.frustum_bottom + (1 - shares[1]) * high
    ahead = left.frustum_near * forward + above * up + aside * np.cross(forward, up)
    return 0.5 * (np.array(left.pos) + np.array(right.pos)), ahead
