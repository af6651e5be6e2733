"""Pictures and videos as data URIs, so that the page needs nothing beside itself."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robot_wm.data import video


@dataclass(frozen=True)
class Picture:
    """A still image: data URI, size in pixels, and what it shows in words."""

    uri: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Clip:
    """A short video without sound: data URI, the frame shown before it plays, and what it shows in words."""

    uri: str
    poster: Picture
    alt: str


def picture(frame_YXC: NDArray[np.uint8], alt: str, quality: int = 85) -> Picture:
    """One RGB frame as WebP, at its own size."""
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame_YXC)).save(data, format="WEBP", quality=quality)
    height, width = frame_YXC.shape[:2]
    return Picture(_uri("image/webp", data.getvalue()), width, height, alt)


def mosaic(frames: Sequence[NDArray[np.uint8]], columns: int, gap: int = 2) -> NDArray[np.uint8]:
    """Frames of one size side by side in rows of `columns`, with `gap` light pixels between them."""
    height, width, channels = frames[0].shape
    rows = -(-len(frames) // columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for i, frame in enumerate(frames):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        canvas[y : y + height, x : x + width] = frame
    return canvas


def clip(path: Path, alt: str) -> Clip:
    """An mp4 file as it is."""
    first = next(iter(video.decode(path)))
    return Clip(_uri("video/mp4", path.read_bytes()), picture(first, alt, quality=75), alt)


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
