"""Whole motions drawn at once: frames side by side on one sheet, read back together, OpenGL's uploads used again."""

import atexit
import threading
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.embodiment import Camera
from sims import gl
from sims.render import drawn, make_current, millimetres, prepare, view_of

_SHEET_PX = 1 << 16  # of a sheet: 16 frames of 64 x 64
_KEPT = 32  # uploads per thread
_ALL = mujoco.mjtCatBit.mjCAT_ALL
NO_DEPTH: Mapping[str, NDArray[np.uint16]] = MappingProxyType({})


def draw(
    model: mujoco.MjModel,
    cameras: Sequence[Camera],
    qpos_FQ: NDArray[np.float64],
    depths: Mapping[str, NDArray[np.uint16]] = NO_DEPTH,
) -> list[NDArray[np.uint8]]:
    """What each camera sees of a motion: (F, Y, X, 3) per camera.

    On a GPU that several processes share, waiting for a frame costs more than drawing it: a sheet waits once for many.

    Args:
        model: rigid bodies only.
        cameras: of the model, or placed in the world.
        qpos_FQ: joint positions of the whole model at every frame.
        depths: filled with the depth [mm] of the cameras they are named after, (F, Y, X) each; 0 where nothing is near.

    Raises:
        UserError: this machine has no OpenGL backend that works.
    """
    prepare(model)
    make_current()
    data = mujoco.MjData(model)
    scene, option = mujoco.MjvScene(model, maxgeom=model.ngeom + model.nsite + 100), mujoco.MjvOption()
    images = []
    for camera in cameras:
        view, height, width = view_of(model, camera), camera.height, camera.width
        num_tiles = min(max(_SHEET_PX // (height * width), 1), len(qpos_FQ))
        upload = _upload(model, height, width * num_tiles)
        started_s = time.perf_counter()
        if camera.position_m is not None:
            model.vis.global_.fovy = camera.fovy_deg
        frames_FYXC = np.empty((len(qpos_FQ), height, width, 3), np.uint8)
        for first in range(0, len(qpos_FQ), num_tiles):
            shown = qpos_FQ[first : first + num_tiles]
            for tile, qpos in enumerate(shown):
                data.qpos[:] = qpos
                mujoco.mj_kinematics(model, data)
                mujoco.mj_camlight(model, data)
                mujoco.mjv_updateScene(model, data, option, None, view, _ALL, scene)
                mujoco.mjr_render(mujoco.MjrRect(tile * width, 0, width, height), scene, upload)
            sheet_YXC = np.empty((height, width * len(shown), 3), np.uint8)
            raw_YX = np.empty(sheet_YXC.shape[:2], np.float32) if camera.name in depths else None
            mujoco.mjr_readPixels(sheet_YXC, raw_YX, mujoco.MjrRect(0, 0, width * len(shown), height), upload)
            tiles_YFXC = sheet_YXC[::-1].reshape(height, len(shown), width, 3)  # OpenGL's first row is the lowest
            frames_FYXC[first : first + num_tiles] = tiles_YFXC.swapaxes(0, 1)
            if raw_YX is not None:
                depth_YFX = millimetres(model, raw_YX[::-1]).reshape(height, len(shown), width)
                depths[camera.name][first : first + num_tiles] = depth_YFX.swapaxes(0, 1)
        images.append(frames_FYXC)
        drawn.frames += len(qpos_FQ)
        drawn.seconds += time.perf_counter() - started_s
    return images


_local = threading.local()


def _upload(model: mujoco.MjModel, height: int, width: int) -> mujoco.MjrContext:
    """What OpenGL must know of a model, with a buffer of this size; current when this returns.

    Making one takes as long as a dozen frames, so models that differ in nothing that only making one can set (meshes,
    planes, kinds of textures) take turns in the same: textures and materials are written over.
    """
    uploads: dict[tuple[object, ...], mujoco.MjrContext] | None = getattr(_local, "uploads", None)
    if uploads is None:
        uploads = _local.uploads = {}
        atexit.register(_free, uploads)
    planes = model.geom_size[model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE]
    shaped = model.nmesh + model.nhfield + model.nskin + model.nflex
    quality = model.vis.quality
    smooth = (quality.offsamples, quality.numslices, quality.numstacks, quality.numquads)
    key = (height, width, model.tex_type.tobytes(), planes.tobytes(), smooth)
    if key in uploads and not shaped:
        upload = uploads[key]
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, upload)
        for texture in range(model.ntex):
            mujoco.mjr_uploadTexture(model, upload, texture)
        upload.mat_texid[: model.mat_texid.size] = model.mat_texid.ravel()
        upload.mat_texuniform[: model.nmat] = model.mat_texuniform
        upload.mat_texrepeat[: 2 * model.nmat] = model.mat_texrepeat.ravel()
        return upload
    while len(uploads) >= _KEPT or (shaped and uploads):
        uploads.pop(next(iter(uploads))).free()
    model.vis.global_.offheight, model.vis.global_.offwidth = height, width
    try:
        upload = uploads[key] = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
    except mujoco.FatalError as error:
        raise gl.unavailable(error) from None
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, upload)
    return upload


def forget() -> None:
    """Free this thread's uploads."""
    _free(getattr(_local, "uploads", {}))


def _free(uploads: dict[tuple[object, ...], mujoco.MjrContext]) -> None:
    make_current()
    while uploads:
        uploads.popitem()[1].free()
