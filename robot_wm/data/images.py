"""Folders of numbered images: each run of numbers is one recording, like a video."""

import io
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from robot_wm.contracts import limits
from robot_wm.contracts.errors import UserError
from robot_wm.data.video import VideoInfo, resize

SUFFIXES = (".png", ".jpg", ".jpeg")
_NUMBERED = re.compile(r"^(?P<head>.*?)(?P<number>\d+)$")


@dataclass(frozen=True)
class Image:
    """One image of a sequence; `damaged` if it cannot be read."""

    time_s: float
    image_YXC: NDArray[np.uint8]
    damaged: bool
    keyframe: bool = True
    after_loss: bool = False

    def rgb(self, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """The image (Y, X, 3), scaled to (height, width)."""
        return self.image_YXC if size is None else resize(self.image_YXC, size)


@dataclass(frozen=True)
class ImageSequence:
    """Images that are numbered in order; missing numbers are missing time.

    Attributes:
        name: as it is called in reports.
        paths: the files in order of their numbers.
        times_s: when each was taken, from 0 [s].
    """

    name: str
    paths: tuple[Path, ...]
    times_s: tuple[float, ...]

    def info(self) -> VideoInfo:
        """Size, rate and length; raises UserError when the first image cannot be read."""
        first = _read(self.paths[0])
        if first is None:
            raise UserError(f"{self.paths[0]} cannot be read as an image", "Record or download it again")
        step_s = float(np.median(np.diff(self.times_s)))
        height, width = first.shape[:2]
        return VideoInfo(
            len(self.paths), self.times_s[-1] + step_s, 1 / step_s, height, width, self.paths[0].suffix[1:]
        )

    def stream(self, start_s: float = 0.0) -> Iterator[Image]:
        """Images from a time on [s]; those that cannot be read, or have another size, are black and damaged."""
        height, width = self.info().height, self.info().width
        for time_s, path in zip(self.times_s, self.paths, strict=True):
            if time_s >= start_s:
                image_YXC = _read(path)
                fits = image_YXC is not None and image_YXC.shape[:2] == (height, width)
                black_YXC = np.zeros((height, width, 3), np.uint8)
                yield Image(time_s, image_YXC if fits and image_YXC is not None else black_YXC, not fits)


def find_sequences(folder: Path, fps: float) -> list[ImageSequence]:
    """Runs of at least two numbered images in a folder and below, `fps` images per second [Hz]."""
    runs: dict[tuple[Path, str, str], dict[int, Path]] = defaultdict(dict)
    for path in sorted(folder.rglob("*")):
        found = _NUMBERED.match(path.stem)
        if found and path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            runs[path.parent, found["head"], path.suffix][int(found["number"])] = path
    sequences = []
    for (parent, head, suffix), numbered in sorted(runs.items()):
        numbers = np.array(sorted(numbered))
        if len(numbers) > 1:
            times_s = (numbers - numbers[0]) / np.median(np.diff(numbers)) / fps
            name = (parent.relative_to(folder) / f"{head}*{suffix}").as_posix()
            sequences.append(ImageSequence(name, tuple(numbered[n] for n in numbers.tolist()), tuple(times_s.tolist())))
    return sequences


def decode(data: bytes, name: str) -> NDArray[np.uint8] | None:
    """A stored picture as RGB (Y, X, 3); None when it is damaged or of a kind that is not read.

    Raises:
        UserError: its header promises more pixels than a picture may have; none of them was decoded.
    """
    try:
        with Pillow.open(io.BytesIO(data), formats=("PNG", "JPEG")) as header:  # reads the header alone
            limits.refuse_over(f"the number of pixels of {name}", header.width * header.height, limits.PIXELS)
        image_YXC = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    except (UnidentifiedImageError, Pillow.DecompressionBombError, OSError, SyntaxError, ValueError, cv2.error):
        return None
    return None if image_YXC is None else np.asarray(image_YXC, dtype=np.uint8)


def _read(path: Path) -> NDArray[np.uint8] | None:
    return decode(path.read_bytes(), str(path)) if path.is_file() else None
