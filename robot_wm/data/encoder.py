"""Frames to video files, by PyAV."""

import errno
import io
import os
from fractions import Fraction
from pathlib import Path
from typing import Literal, Self

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from robot_wm.contracts import files
from robot_wm.contracts.errors import UserError

SMALL_PX = 1 << 16  # below this, starting threads takes longer than the work
Codec = Literal["libx264", "libsvtav1"]
_PRESETS: dict[Codec, str] = {"libx264": "veryfast", "libsvtav1": "10"}
# x264's macroblock tree reads past the edges of small frames: the same frames gave other bytes once in fifty files. Two
# frames per group leave it nothing to look ahead to anyway.
_OPTIONS: dict[Codec, dict[str, str]] = {"libx264": {"x264-params": "mbtree=0"}, "libsvtav1": {}}


class MemoryNamed:
    """FFmpeg and its scaler say that memory ran out in two ways, one of them "try again": both become MemoryError.

    A class, because entering a generator for every frame costs half as much as converting a small one.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, av.error.FFmpegError) and error.errno in (errno.ENOMEM, errno.EAGAIN):
            raise MemoryError(error.strerror) from None


class Encoder:
    """An mp4 that appears whole when the block ends.

    `group` is from one keyframe to the next: 2, so that any frame is found quickly; films for people take a fifth of
    the space with more.

    Even sizes are written as yuv420p, which every player shows. Odd sizes are kept exactly, as yuv444p.

    Attributes:
        num_frames: how many it holds so far.

    Raises:
        UserError: an odd size with AV1, whose encoder knows yuv420p only.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], fps: float, codec: Codec = "libx264", crf: int = 18, group: int = 2
    ):
        height, width = size
        if pixel_format(height, width) != "yuv420p" and codec == "libsvtav1":
            raise UserError(f"{path}: AV1 cannot hold the odd size {width} x {height}", "Use libx264 or an even size")
        os.environ.setdefault("SVT_LOG", "1")  # errors only: the AV1 encoder writes its settings to the terminal
        self.num_frames = 0
        self._path, self._buffer = path, io.BytesIO()
        self._rate = Fraction(fps).limit_denominator(1001)
        self._tick_s = 1 / self._rate
        self._container = av.open(self._buffer, "w", format="mp4")
        small = height * width < SMALL_PX
        preset = (
            "ultrafast" if small and codec == "libx264" else _PRESETS.get(codec, "medium")
        )  # half the time, a third more bytes
        options = {"preset": preset, "crf": str(crf), "g": str(group), **_OPTIONS.get(codec, {})}
        try:
            self._stream = self._container.add_stream(codec, rate=self._rate, options=options)
        except av.codec.codec.UnknownCodecError:
            raise UserError(f"{codec} is not among the encoders of PyAV here", "Run pip install --upgrade av") from None
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = pixel_format(height, width)
        self._threads = 1 if small else 0  # starting a thread per core takes longer than the work
        self._stream.codec_context.thread_count = self._threads
        self._converter = VideoReformatter()

    def add(self, frames_FYXC: NDArray[np.uint8]) -> None:
        """Append frames (F, Y, X, 3), RGB."""
        for image_YXC in frames_FYXC:
            frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image_YXC), format="rgb24")
            with MemoryNamed():
                frame = self._converter.reformat(frame, format=self._stream.pix_fmt, threads=self._threads)
                frame.pts, frame.time_base = self.num_frames, self._tick_s
                self._container.mux(self._stream.encode(frame))
            self.num_frames += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with MemoryNamed():
            if kind is None:
                self._container.mux(self._stream.encode())
            self._container.close()
        if kind is None:
            files.write_atomic(self._path, self._buffer.getvalue())


def encode(
    path: Path, frames_FYXC: NDArray[np.uint8], fps: float, codec: Codec = "libx264", crf: int = 18, group: int = 2
) -> None:
    """Write frames (F, Y, X, 3) as an mp4, whole or not at all; see Encoder."""
    with Encoder(path, frames_FYXC.shape[1:3], fps, codec, crf, group) as clip:
        clip.add(frames_FYXC)


def pixel_format(height: int, width: int) -> str:
    """How frames of this size are stored by `encode`."""
    return "yuv444p" if height % 2 or width % 2 else "yuv420p"
