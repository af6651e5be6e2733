"""Pieces of a recording at the model's rate and size, and how a video is divided into them."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.dataset import image_key
from robot_wm.contracts.errors import UserError
from robot_wm.data import video
from robot_wm.data.letterbox import Bars

VIDEO = image_key("video")
_BLOCK = 600  # frames of a long video that are held in memory at once
_SLOWEST = 0.9  # of the wanted rate
_MARGIN_S = 0.5  # damage may show this long before the frame at which the decoder notices it
_MUCH = 0.9  # of a picture; less is worth a word
_SAMPLED = 5  # frames that are searched for black bars


@dataclass(frozen=True)
class Clip:
    """Consecutive frames: video feature → (T, Y, X, 3), column → (T, ...), and when the first one was shown [s]."""

    start_s: float
    videos: Mapping[str, NDArray[np.uint8]]
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    task: str = ""

    @property
    def num_frames(self) -> int:
        """T."""
        return len(next(iter(self.videos.values())))


@dataclass(frozen=True)
class Refusal:
    """Frames of a recording that are damaged, and where they would have been shown [s]."""

    start_s: float
    stop_s: float
    num_frames: int


class Shown(Protocol):
    """A frame of a recording, see `video.Frame`."""

    @property
    def time_s(self) -> float: ...
    @property
    def keyframe(self) -> bool: ...
    @property
    def damaged(self) -> bool: ...
    @property
    def after_loss(self) -> bool: ...
    def rgb(self, size: tuple[int, int] | None = None) -> NDArray[np.uint8]: ...


class Recording(Protocol):
    """A video file or a sequence of images."""

    @property
    def name(self) -> str: ...
    def info(self) -> video.VideoInfo: ...
    def stream(self, start_s: float = 0.0) -> Iterator[Shown]: ...


@dataclass(frozen=True)
class VideoFile:
    """A video in a file of its own."""

    name: str
    path: Path

    def info(self) -> video.VideoInfo:
        """Size, rate and length; raises UserError when it cannot be read."""
        return video.probe(self.path)

    def stream(self, start_s: float = 0.0) -> Iterator[Shown]:
        """Its frames from the last keyframe at or before a time [s], damaged ones among them."""
        return video.stream(self.path, start_s, strict=False)


class Source(Protocol):
    """One recording."""

    @property
    def name(self) -> str:
        """As it is called in reports."""
        ...

    @property
    def remark(self) -> str:
        """What was changed about its picture, if anything."""
        ...

    def expected_frames(self) -> int:
        """About how many frames its clips will hold."""
        ...

    def clips(self) -> Iterator["Clip | Refusal"]:
        """Its clips and what of it is damaged, in order; raises UserError where it cannot be read on."""
        ...

    def image_at(self, time_s: float) -> NDArray[np.uint8]:
        """The image (Y, X, 3) shown at a time [s]."""
        ...


@dataclass(frozen=True)
class VideoSource:
    """A recording; `size` is the (height, width) that the picture between `bars` is scaled to cover and cropped to."""

    recording: Recording
    info: video.VideoInfo
    bars: Bars
    step_s: float
    size: tuple[int, int]

    @property
    def name(self) -> str:
        """As it is called in reports."""
        return self.recording.name

    @property
    def remark(self) -> str:
        """Which black bars were cut off, and how much is left in the shape that most recordings have."""
        said = [f"{side} {width} px" for side, width in asdict(self.bars).items() if width]
        parts = [f"black bars cut off: {', '.join(said)}"] if said else []
        height, width = picture_size(self.info, self.bars)
        left = min(height / self.size[0], width / self.size[1]) ** 2 * self.size[0] * self.size[1] / (height * width)
        if left < _MUCH:
            parts.append(f"{left:.0%} of the picture left in the shape of the others")
        return "; ".join(parts)

    def expected_frames(self) -> int:
        """About how many frames its clips will hold."""
        return round(self.info.duration_s / self.step_s)

    def clips(self) -> Iterator[Clip | Refusal]:
        """Blocks of frames, `step_s` apart; a gap in the recording starts a new block.

        Frames build on each other up to the next keyframe, so that damage spoils all that follow until then.
        """
        if self.info.fps < _SLOWEST / self.step_s:
            raise UserError(f"{self.name} has {self.info.fps:g} frames/s", f"At least {1 / self.step_s:g} are needed")
        block, problem, end_s = _Block(self.step_s), None, 0.0
        try:
            for frame, picked, first in self._picked():
                if frame.keyframe:
                    yield from block.settle(end_s)
                    if (frame.after_loss or frame.damaged) and frame.time_s - end_s > self.step_s / 2:
                        yield from block.refuse(end_s, frame.time_s)
                if frame.damaged or (frame.after_loss and not frame.keyframe):
                    block.spoil(frame.time_s if frame.keyframe else min(frame.time_s, end_s) - _MARGIN_S)
                if not block.spoilt and (first or len(block) >= _BLOCK):
                    yield from block.settle(end_s)
                    yield from block.take()
                if not block.spoilt and picked is not None:
                    block.waiting.append((picked.time_s, self._fit(picked)))
                end_s = frame.time_s + 1 / self.info.fps
        except UserError as error:  # what came before the break is still good
            problem = error
        yield from block.settle(end_s)
        yield from block.take()
        missing = round((self.info.duration_s - end_s) / self.step_s)
        if missing > 0:
            yield Refusal(end_s, self.info.duration_s, missing)
        if problem:
            raise problem

    def _picked(self) -> Iterator[tuple[Shown, Shown | None, bool]]:
        """Every frame, with the one nearest to the next multiple of `step_s` where that is due.

        None is picked twice. The last entry says whether a gap, or nothing, lies before.
        """
        first_s, count = 0.0, 0
        before: Shown | None = None
        taken: Shown | None = None
        for frame in self.recording.stream():
            if before is not None and frame.time_s <= before.time_s:
                yield frame, None, False
                continue
            if before is None or frame.time_s - before.time_s > 1.5 * self.step_s:
                first_s, count = frame.time_s, 0
            wanted_s = first_s + count * self.step_s
            due = frame.time_s >= wanted_s - video.TOLERANCE_S
            if due:
                unused = before if before is not taken else None
                taken = unused if unused and wanted_s - unused.time_s < frame.time_s - wanted_s else frame
                count += 1
            yield frame, taken if due else None, due and count == 1
            before = frame

    def image_at(self, time_s: float) -> NDArray[np.uint8]:
        """The first image at or after a time [s]."""
        for frame in self.recording.stream(time_s):
            if frame.time_s >= time_s - video.TOLERANCE_S:
                return self._fit(frame)
        raise UserError(f"{self.name} ends before {time_s:.2f} s", "Record or download it again")

    def _fit(self, frame: Shown) -> NDArray[np.uint8]:
        image_YXC = self.bars.crop(frame.rgb((self.info.height, self.info.width) if self.bars else None))
        height, width = picture_size(self.info, self.bars)
        scale = max(self.size[0] / height, self.size[1] / width)
        height, width = max(self.size[0], round(height * scale)), max(self.size[1], round(width * scale))
        top, left = (height - self.size[0]) // 2, (width - self.size[1]) // 2
        scaled_YXC = video.resize(image_YXC, (height, width))
        return np.ascontiguousarray(scaled_YXC[top : top + self.size[0], left : left + self.size[1]])


class _Block:
    """Images that are good, and those since the last keyframe, of which some may turn out to be damaged."""

    def __init__(self, step_s: float) -> None:
        self.good: list[tuple[float, NDArray[np.uint8]]] = []
        self.waiting: list[tuple[float, NDArray[np.uint8]]] = []
        self._step_s = step_s
        self._spoilt_s: float | None = None

    def __len__(self) -> int:
        return len(self.good) + len(self.waiting)

    @property
    def spoilt(self) -> bool:
        """Whether damage was met since the last keyframe."""
        return self._spoilt_s is not None

    def spoil(self, time_s: float) -> None:
        """Trust nothing from a time [s] to the next keyframe."""
        if self._spoilt_s is None:
            self._spoilt_s = max(time_s, self.waiting[0][0] if self.waiting else time_s)

    def settle(self, time_s: float) -> Iterator[Clip | Refusal]:
        """Decide what becomes of the frames since the last keyframe, which end at a time [s]."""
        waiting, self.waiting = self.waiting, []
        spoilt_s, self._spoilt_s = self._spoilt_s, None
        self.good += [shown for shown in waiting if spoilt_s is None or shown[0] < spoilt_s]
        if spoilt_s is not None:
            yield from self.refuse(spoilt_s, time_s)

    def refuse(self, start_s: float, stop_s: float) -> Iterator[Clip | Refusal]:
        """A stretch that cannot be used; what was good before it ends there."""
        yield from self.take()
        yield Refusal(start_s, stop_s, max(1, round((stop_s - start_s) / self._step_s)))

    def take(self) -> Iterator[Clip]:
        """What is good so far, as a clip."""
        good, self.good = self.good, []
        if good:
            yield Clip(good[0][0], {VIDEO: np.stack([image for _, image in good])})


def find_bars(recording: Recording, info: video.VideoInfo) -> Bars:
    """Black bars that a few frames from all over a recording have in common."""
    found = []
    for time_s in info.duration_s * (np.arange(_SAMPLED) + 0.5) / _SAMPLED:
        frame = next((f for f in recording.stream(float(time_s)) if f.time_s >= time_s), None)
        if frame is not None:
            found.append(frame.rgb((info.height, info.width)))
    return Bars.of(found)


def picture_size(info: video.VideoInfo, bars: Bars) -> tuple[int, int]:
    """Height and width between the bars, upright and with square pixels."""
    return info.height - bars.top - bars.bottom, info.width - bars.left - bars.right
