"""Frames of a simulation, and where its camera stands."""

import atexit
import functools
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.embodiment import Camera
from robot_wm.contracts.errors import UserError
from sims import gl

Added = Callable[[mujoco.MjvScene, float], None]
_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0])  # MuJoCo cameras look along -z with y up, OpenCV's along z with y down


@dataclass
class Stopwatch:
    """Frames that this process has drawn, and the seconds that went into drawing them (uploads to OpenGL apart)."""

    frames: int = 0
    seconds: float = 0.0


drawn = Stopwatch()


def prepare(model: mujoco.MjModel) -> None:
    """How all pictures are drawn.

    Shadows are off (they cost up to ten times, RGB learns little from them) and edges are smoothed by 4 samples per
    pixel: at 64 to 96 px a centimetre is about a pixel, and optical flow needs the fractions of one.
    """
    model.vis.quality.shadowsize = 0
    model.vis.quality.offsamples = 4


class Renderer:
    """Draws one model through one camera, frame by frame. Whole motions are drawn faster by `sheet.draw`.

    `added` is called with each scene and the simulated time before it is drawn, and may put more into it.
    """

    def __init__(self, model: mujoco.MjModel, camera: Camera, added: Added | None = None):
        prepare(model)
        self._model = model
        self._camera, self._added = camera, added
        self._view = view_of(model, camera)
        self._option = mujoco.MjvOption()
        self._scene: mujoco.MjvScene | None = None
        self._uploads: dict[tuple[int, int, int], mujoco.MjrContext] = {}

    def frame(self, data: mujoco.MjData, height: int | None = None, width: int | None = None) -> NDArray[np.uint8]:
        """One RGB frame, (height, width, 3); the camera's own size by default.

        Raises:
            UserError: this machine has no OpenGL backend that works.
        """
        height, width = height or self._camera.height, width or self._camera.width
        make_current()
        upload = self._upload(height, width)
        started_s = time.perf_counter()
        area = self._render(data, upload, height, width)
        pixels = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, area, upload)
        image_YXC = np.ascontiguousarray(pixels[::-1])  # OpenGL's first row is the lowest
        drawn.frames += 1
        drawn.seconds += time.perf_counter() - started_s
        return image_YXC

    def depth(self, data: mujoco.MjData) -> NDArray[np.float32]:
        """How far away along the view what each pixel shows is [m], (height, width); the far plane where nothing is.

        Raises:
            UserError: this machine has no OpenGL backend that works.
        """
        return metres(self._model, self._depth_buffer(data)).astype(np.float32)

    def depth_mm(self, data: mujoco.MjData) -> NDArray[np.uint16]:
        """The same as depth cameras give it, see `millimetres`."""
        return millimetres(self._model, self._depth_buffer(data))

    def _depth_buffer(self, data: mujoco.MjData) -> NDArray[np.float32]:
        height, width = self._camera.height, self._camera.width
        make_current()
        upload = self._upload(height, width)
        area = self._render(data, upload, height, width)
        raw_YX = np.empty((height, width), np.float32)
        mujoco.mjr_readPixels(None, raw_YX, area, upload)
        return np.ascontiguousarray(raw_YX[::-1])

    def _render(self, data: mujoco.MjData, upload: mujoco.MjrContext, height: int, width: int) -> mujoco.MjrRect:
        """Draw into the buffer of `upload`; returns where in it."""
        if self._camera.position_m is not None:
            self._model.vis.global_.fovy = self._camera.fovy_deg
        if self._scene is None:
            self._scene = mujoco.MjvScene(self._model, maxgeom=self._model.ngeom + self._model.nsite + 100)
        every = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, data, self._option, None, self._view, every, self._scene)
        if self._added is not None:
            self._added(self._scene, float(data.time))
        area = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, upload)
        mujoco.mjr_render(area, self._scene, upload)
        return area

    def _upload(self, height: int, width: int) -> mujoco.MjrContext:
        """The model's meshes and textures in the OpenGL context of this thread, with a buffer of this size."""
        key = (threading.get_ident(), height, width)
        if key not in self._uploads:
            size = self._model.vis.global_
            size.offheight, size.offwidth = height, width
            try:
                self._uploads[key] = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_50)
            except mujoco.FatalError as error:
                raise gl.unavailable(error) from None
        return self._uploads[key]

    def close(self) -> None:
        """Free what was uploaded to OpenGL."""
        for (thread, *_), upload in self._uploads.items():
            if thread == threading.get_ident():  # another thread's context is not ours to touch
                make_current()
                upload.free()
        self._uploads.clear()


def metres(model: mujoco.MjModel, raw: NDArray[np.float32]) -> NDArray[np.float64]:
    """OpenGL's depth buffer as distance along the view [m]."""
    near, far = (model.stat.extent * d for d in (model.vis.map.znear, model.vis.map.zfar))
    return near * far / (far - raw.astype(np.float64) * (far - near))


def millimetres(model: mujoco.MjModel, raw: NDArray[np.float32]) -> NDArray[np.uint16]:
    """OpenGL's depth buffer as depth cameras give it: whole millimetres, 0 where nothing is or further than 65 m."""
    whole = np.rint(1000 * metres(model, raw))
    return np.where((raw < 1) & (whole <= np.iinfo(np.uint16).max), whole, 0).astype(np.uint16)


def world_to_camera(model: mujoco.MjModel, data: mujoco.MjData, camera: Camera) -> NDArray[np.float64]:
    """`T_cam_world` (4, 4): world points [m] into the camera's frame: x right, y down, z along the view (OpenCV)."""
    if camera.position_m is not None:
        return _placed(camera)
    index = model.camera(camera.name).id
    return _inverse(data.cam_xpos[index], data.cam_xmat[index].reshape(3, 3))


def focal(model: mujoco.MjModel, camera: Camera) -> float:
    """Focal length in half heights of the picture: a point (x, y, z) is seen `y · focal / z` below the middle."""
    fovy_deg = camera.fovy_deg if camera.position_m is not None else float(model.camera(camera.name).fovy[0])
    return float(1 / np.tan(np.radians(fovy_deg / 2)))


@functools.lru_cache(maxsize=64)
def _placed(camera: Camera) -> NDArray[np.float64]:
    """The same for a camera that stands in the world; asked for at every frame, so kept."""
    position, target = np.asarray(camera.position_m), np.asarray(camera.target_m)
    back = (position - target) / np.linalg.norm(position - target)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    T_cam_world = _inverse(position, np.column_stack([right, np.cross(back, right), back]))
    T_cam_world.flags.writeable = False
    return T_cam_world


def _inverse(position: NDArray[np.float64], R_world_gl: NDArray[np.float64]) -> NDArray[np.float64]:
    R_cam_world = (R_world_gl @ _OPENCV_FROM_OPENGL).T
    T_cam_world = np.eye(4)
    T_cam_world[:3, :3], T_cam_world[:3, 3] = R_cam_world, -R_cam_world @ position
    return T_cam_world


def view_of(model: mujoco.MjModel, camera: Camera) -> mujoco.MjvCamera:
    """MuJoCo's own description of a camera.

    Raises:
        UserError: not in the model, or placed where nothing can be seen from.
    """
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


_local = threading.local()


def make_current() -> None:
    """One OpenGL context per thread, for all its models: a context takes longer to make than a hundred frames."""
    context = getattr(_local, "context", None)
    if context is None:
        context = _local.context = gl.new_context()
        _local.process = os.getpid()
        atexit.register(context.free)  # while OpenGL is still loaded
    if _local.process != os.getpid():  # it would wait for its parent's threads for ever
        raise UserError(
            "this process was forked from one that had drawn, and OpenGL does not survive that",
            'Start it afresh: the multiprocessing context "spawn" (AsyncVectorEnv: context="spawn")',
        )
    context.make_current()
