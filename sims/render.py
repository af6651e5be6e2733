"""Frames of a simulation, and where its camera stands."""

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.embodiment import Camera
from robot_wm.contracts.errors import UserError
from sims import gl

_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0])  # MuJoCo cameras look along -z with y up, OpenCV's along z with y down


class Renderer:
    """Draws one model through one camera.

    Shadows are off (they cost up to ten times, RGB learns little from them) and edges are smoothed by 4 samples per
    pixel: at 64 to 96 px a centimetre is about a pixel, and optical flow needs the fractions of one.
    """

    def __init__(self, model: mujoco.MjModel, camera: Camera):
        model.vis.quality.shadowsize = 0
        model.vis.quality.offsamples = 4
        self._model = model
        self._camera = camera
        self._view = _view(model, camera)
        self._option = mujoco.MjvOption()
        self._contexts: dict[tuple[int, int], mujoco.Renderer] = {}

    def frame(self, data: mujoco.MjData, height: int | None = None, width: int | None = None) -> NDArray[np.uint8]:
        """One RGB frame, (height, width, 3); the camera's own size by default.

        Raises:
            UserError: this machine has no OpenGL backend that works.
        """
        size = (height or self._camera.height, width or self._camera.width)
        if self._camera.position_m is not None:
            self._model.vis.global_.fovy = self._camera.fovy_deg
        context = self._contexts.get(size)
        if context is None:
            context = self._contexts[size] = _context(self._model, *size)
        context.update_scene(data, self._view, self._option)
        return context.render()

    def close(self) -> None:
        """Free the OpenGL contexts."""
        for context in self._contexts.values():
            context.close()
        self._contexts.clear()


def world_to_camera(model: mujoco.MjModel, data: mujoco.MjData, camera: Camera) -> NDArray[np.float64]:
    """`T_cam_world` (4, 4): world points [m] into the camera's frame: x right, y down, z along the view (OpenCV)."""
    if camera.position_m is None:
        index = model.camera(camera.name).id
        position, R_world_gl = data.cam_xpos[index], data.cam_xmat[index].reshape(3, 3)
    else:
        position, target = np.asarray(camera.position_m), np.asarray(camera.target_m)
        back = (position - target) / np.linalg.norm(position - target)
        right = np.cross([0.0, 0.0, 1.0], back)
        right /= np.linalg.norm(right)
        R_world_gl = np.column_stack([right, np.cross(back, right), back])
    R_cam_world = (R_world_gl @ _OPENCV_FROM_OPENGL).T
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R_cam_world, -R_cam_world @ position
    return T


def _view(model: mujoco.MjModel, camera: Camera) -> mujoco.MjvCamera:
    view = mujoco.MjvCamera()
    if camera.position_m is None:
        names = [model.camera(i).name for i in range(model.ncam)]
        if camera.name not in names:
            raise UserError(
                f"camera {camera.name!r} is not in the MJCF",
                f"Cameras there: {', '.join(names) or 'none'}; or place one by position_m and target_m",
            )
        view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        view.fixedcamid = names.index(camera.name)
        return view
    if camera.target_m is None:
        raise UserError(f"camera {camera.name!r} has position_m but no target_m", "Give the point that it looks at")
    ahead = np.subtract(camera.target_m, camera.position_m)
    distance = float(np.linalg.norm(ahead))
    if not distance > 0 or np.linalg.norm(ahead[:2]) < 1e-6 * distance:
        raise UserError(
            f"camera {camera.name!r} at {camera.position_m} looks at {camera.target_m}",
            "Move it a little to the side: position_m must differ from target_m, and not only in height",
        )
    view.type = mujoco.mjtCamera.mjCAMERA_FREE
    view.lookat[:] = camera.target_m
    view.distance = distance
    view.azimuth = float(np.degrees(np.arctan2(ahead[1], ahead[0])))
    view.elevation = float(np.degrees(np.arcsin(ahead[2] / distance)))
    return view


def _context(model: mujoco.MjModel, height: int, width: int) -> mujoco.Renderer:
    gl.choose_backend()
    model.vis.global_.offheight = max(model.vis.global_.offheight, height)
    model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
    try:
        return mujoco.Renderer(model, height, width)
    except (RuntimeError, AttributeError, ImportError, mujoco.FatalError) as error:
        raise gl.unavailable(error) from None
