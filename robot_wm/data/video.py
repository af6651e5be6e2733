"""Video files to frames, by PyAV: every frame is chosen by its own timestamp, never by counting."""

import contextlib
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from robot_wm.contracts import limits
from robot_wm.contracts.errors import UserError
from robot_wm.data.encoder import SMALL_PX, MemoryNamed
from robot_wm.data.encoder import Codec as Codec
from robot_wm.data.encoder import Encoder as Encoder
from robot_wm.data.encoder import encode as encode
from robot_wm.data.encoder import pixel_format as pixel_format

SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v")
TOLERANCE_S = 1e-4
# Told by content, not by name: a playlist called film.mp4 would have FFmpeg open whatever files and hosts it lists.
_CONTAINERS = {"format_whitelist": "mov,matroska,avi", "protocol_whitelist": "file"}
_DECODE_THREADS = 4  # per file; several files are decoded at a time


@dataclass(frozen=True)
class VideoInfo:
    """What a container says of its first video stream.

    Attributes:
        frames: number of frames, 0 when the container does not say.
        duration_s: from the first frame to the end of the last, 0 when the container does not say.
        fps: mean frame rate [Hz].
        height, width: of a frame as it is meant to be shown: upright, with square pixels.
        codec: as FFmpeg calls it: h264, hevc, av1, ...
    """

    frames: int
    duration_s: float
    fps: float
    height: int
    width: int
    codec: str


def list_videos(folder: Path) -> list[Path]:
    """The video files in a folder and below, sorted by path.

    Raises:
        UserError: no such folder, or no video in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder", "Give a video file or a folder of videos")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not found:
        raise UserError(f"{folder} holds no video", f"Put files there that end in {', '.join(SUFFIXES)}")
    return found


def probe(path: Path) -> VideoInfo:
    """Size, rate and length of a video; decodes one frame, so that an unreadable file is refused here.

    Raises:
        UserError: the file is missing, or its first frame cannot be decoded.
    """
    with _open(path) as (container, source):
        frame = next(container.decode(source), None)
        if frame is None:
            raise UserError(f"{path} has no frame", "Record or download it again")
        height, width = frame.height, round(frame.width * float(source.sample_aspect_ratio or 1))
        if round(frame.rotation / 90) % 2:
            height, width = width, height
        seconds = source.duration * source.time_base if source.duration else Fraction(container.duration or 0, 10**6)
        rate = float(source.average_rate or source.guessed_rate or 0)
        return VideoInfo(source.frames, float(seconds), rate, height, width, source.codec_context.codec.canonical_name)


def times(path: Path) -> NDArray[np.float64]:
    """When each frame is shown [s], ascending, as the container says; nothing is decoded.

    Raises:
        UserError: the file is missing or not a video.
    """
    with _open(path) as (container, source):
        stamps = [packet.pts for packet in container.demux(source) if packet.pts is not None and not packet.is_discard]
        return np.sort(np.array(stamps, dtype=np.float64) * float(source.time_base))


@dataclass(frozen=True)
class Frame:
    """A decoded frame that is not RGB yet, because most callers keep only some frames.

    Attributes:
        time_s: when it is shown, on the video's own clock.
        keyframe: whether it was stored whole; later frames build on it.
        damaged: whether the decoder says that it is broken.
        after_loss: whether something before it, and after the frame before, could not be decoded.
    """

    time_s: float
    keyframe: bool
    damaged: bool
    after_loss: bool
    _decoded: av.VideoFrame
    _converter: VideoReformatter

    def rgb(self, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """The image (Y, X, 3), turned as the recording device meant it, scaled to (height, width)."""
        threads = 1 if self._decoded.height * self._decoded.width < SMALL_PX else 0
        with MemoryNamed():
            converted = self._converter.reformat(self._decoded, format="rgb24", threads=threads)
        image_YXC = np.rot90(np.asarray(converted.to_ndarray(), dtype=np.uint8), round(self._decoded.rotation / 90))
        return np.ascontiguousarray(image_YXC) if size is None else resize(image_YXC, size)

    def fill(self, out_YXC: NDArray[np.uint8]) -> None:
        """The same into an array, scaled to its size; what needs neither turning nor scaling is copied once."""
        decoded, size = self._decoded, out_YXC.shape[:2]
        small = decoded.height * decoded.width < SMALL_PX
        if not small or (decoded.height, decoded.width) != size or decoded.rotation:
            out_YXC[:] = self.rgb((size[0], size[1]))
            return
        with MemoryNamed():
            plane: Any = self._converter.reformat(decoded, format="rgb24", threads=1).planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(size[0], plane.line_size)
        out_YXC[:] = rows[:, : 3 * size[1]].reshape(out_YXC.shape)


def stream(path: Path, start_s: float = 0.0, strict: bool = True) -> Generator[Frame]:
    """Frames in order of presentation, from the last keyframe at or before `start_s`.

    Without `strict` it goes on behind damage, with frames that may look wrong until the next keyframe.

    Raises:
        UserError: the file is missing or broken; frames before the break have been yielded.
    """
    converter = VideoReformatter()  # shared: setting up a conversion costs 30 times one conversion at 64 px
    lost = False
    with _open(path) as (container, source):
        ticks, per_s = source.time_base.as_integer_ratio()
        if start_s > 0:
            container.seek(int(start_s / source.time_base), stream=source)
        for packet in container.demux(source):
            try:
                decoded = packet.decode()
            except av.error.InvalidDataError:
                if strict:
                    raise
                decoded, lost = [], True
            for frame in decoded:
                if frame.pts is None:
                    continue
                time_s = frame.pts * ticks / per_s
                if strict and frame.is_corrupt:
                    raise UserError(f"{path} is damaged at {time_s:.4f} s", "Record or download it again")
                yield Frame(time_s, bool(frame.key_frame), bool(frame.is_corrupt), lost, frame, converter)
                lost = False


def resize(image_YXC: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale an image to (height, width): by area averaging when it shrinks, bilinear when it grows."""
    if image_YXC.shape[:2] == size:
        return np.ascontiguousarray(image_YXC)
    shrinks = size[0] <= image_YXC.shape[0] and size[1] <= image_YXC.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(image_YXC), size[::-1], interpolation=method), dtype=np.uint8)


def decode(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """All frames of a video: (F, Y, X, 3) uint8 RGB.

    Raises:
        UserError: the file is missing, broken, or ends before the frames that its header promises.
    """
    promised = probe(path).frames
    frames = [frame.rgb(size) for frame in stream(path)]
    if len(frames) < promised:
        raise UserError(f"{path} is cut short: {len(frames)} of {promised} frames", "Record or download it again")
    return np.stack(frames)


def decode_at(
    path: Path,
    times_s: NDArray[np.floating[Any]],
    size: tuple[int, int] | None = None,
    out_NYXC: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """The frames shown at the given times: (N, Y, X, 3) uint8 RGB.

    Args:
        path: the video.
        times_s: N times on the video's own clock [s], ascending; some may be the same.
        size: (height, width) to scale to.
        out_NYXC: where to put them, scaled to its size, and what is returned then.

    Raises:
        UserError: unreadable, or no frame lies within 1e-4 s of a time asked for (drift, or a video cut short).
    """
    found, nearest_s = 0, -np.inf
    with contextlib.closing(_stream_over(path, float(times_s[0]) - TOLERANCE_S)) as frames:
        for frame in frames:
            wanted_s = float(times_s[found])
            while found < len(times_s) and abs(frame.time_s - times_s[found]) <= TOLERANCE_S:
                if out_NYXC is None:
                    first_YXC = frame.rgb(size)
                    out_NYXC = np.empty((len(times_s), *first_YXC.shape), np.uint8)
                frame.fill(out_NYXC[found])
                found += 1  # once more for every row with the same stamp, as a recorder that stalled writes it
            if found == len(times_s) and out_NYXC is not None:
                return out_NYXC
            if abs(frame.time_s - wanted_s) < abs(nearest_s - wanted_s):
                nearest_s = frame.time_s
            if frame.time_s > wanted_s + TOLERANCE_S:
                break
    raise UserError(
        f"{path} has no frame at {times_s[found]:.4f} s (the nearest is at {nearest_s:.4f} s)",
        "Video and timestamps drift apart or the video is cut short; record or convert the dataset again",
    )


def _stream_over(path: Path, start_s: float) -> Generator[Frame]:
    """As `stream`, from the beginning where a jump lands behind `start_s`, as in files without a good index."""
    frames = stream(path, start_s)
    first = next(frames, None)
    if first is not None and start_s > 0 and first.time_s > start_s + TOLERANCE_S:
        frames.close()
        yield from stream(path)
    elif first is not None:
        yield first
        yield from frames


def _pixels(source: Any) -> int:
    return int(source.codec_context.width or 0) * int(source.codec_context.height or 0)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple[Any, Any]]:
    """Container and first video stream; what FFmpeg cannot read becomes a UserError, also while decoding."""
    if not path.is_file():
        raise UserError(f"{path} does not exist", "Check the path")
    try:
        with MemoryNamed(), av.open(str(path), options=_CONTAINERS) as container:
            if not container.streams.video:
                raise UserError(f"{path} has no video stream", "Give a video file")
            source = container.streams.video[0]
            if source.codec_context is None:
                raise UserError(f"{path} is of a codec that is not known", "Convert it to H.264 or AV1")
            limits.refuse_over(f"the number of pixels of a frame of {path}", _pixels(source), limits.PIXELS)
            source.codec_context.options = {"max_pixels": str(limits.PIXELS)}  # a frame may be larger than the header
            source.thread_type = "AUTO"
            threads = 1 if _pixels(source) < SMALL_PX else min(_DECODE_THREADS, os.cpu_count() or 1)
            source.codec_context.thread_count = threads
            yield container, source
    except (av.error.FFmpegError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path} cannot be read as video ({reason})", "Record or download it again") from None
