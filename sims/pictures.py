"""Pictures of robots for people: one body, or many side by side."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from robot_wm.contracts.embodiment import Camera
from robot_wm.contracts.files import write_atomic
from sims.render import Renderer
from sims.scenes import Scene
from sims.tools import GRIPPER

_CAPTION_PX, _GAP_PX = 22, 4
_BACKGROUND, _INK = (255, 255, 255), (40, 44, 52)
_OVERVIEW = (1.1, 0.42, 42.0)  # azimuth and elevation [rad] and field of view [deg] of a scene's overview
_SPARE = 1.0


def overview(scene: Scene, size: int) -> NDArray[np.uint8]:
    """The whole arm on its mount in its home pose, gripper open, with its table, (size, size, 3)."""
    model, data = scene.model, mujoco.MjData(scene.model)
    data.qpos[[model.joint(name).qposadr[0] for name in scene.arm.joints]] = scene.arm.home
    if scene.arm.tool.kind == GRIPPER:
        for finger in ("finger_left", "finger_right"):
            data.joint(finger).qpos = model.joint(finger).range[1]
    mujoco.mj_forward(model, data)
    links = [i for i in range(model.ngeom) if model.body(model.geom_bodyid[i]).name.startswith(("link", "tool"))]
    low, high = data.geom_xpos[links].min(0), data.geom_xpos[links].max(0)
    low, high = np.minimum(low, [-0.1, -0.2, 0.0]), np.maximum(high, [0.25, 0.2, 0.1])
    azimuth, elevation, fovy = _OVERVIEW
    centre, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    out = np.array([np.cos(azimuth) * np.cos(elevation), -np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    x, y, z = (centre + _SPARE * radius / np.sin(np.radians(fovy / 2)) * out).tolist()
    u, v, w = centre.tolist()
    renderer = Renderer(model, Camera("overview", size, size, (x, y, z), (u, v, w), fovy))
    try:
        return renderer.frame(data)
    finally:
        renderer.close()


def sheet(images: Sequence[NDArray[np.uint8]], captions: Sequence[str], columns: int) -> Image.Image:
    """Images of one size in rows, a caption under each."""
    size = images[0].shape[0]
    rows = -(-len(images) // columns)
    cell = size + _GAP_PX
    page = Image.new("RGB", (columns * cell + _GAP_PX, rows * (cell + _CAPTION_PX) + _GAP_PX), _BACKGROUND)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=13)
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = _GAP_PX + i % columns * cell, _GAP_PX + i // columns * (cell + _CAPTION_PX)
        page.paste(Image.fromarray(image), (x, y))
        draw.text((x + 2, y + size + 3), caption, fill=_INK, font=font)
    return page


def save(picture: Image.Image | NDArray[np.uint8], path: Path) -> None:
    """As a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, "PNG", optimize=True)
    write_atomic(path, buffer.getvalue())
