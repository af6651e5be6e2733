"""An attempt as a video for people: the camera beside the goal image, with the distance that is left."""

from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

GAP = 8  # pixels between camera and goal
STRIP = 40  # pixels of the line of text above: below, a player's controls would cover it
_GOAL = "goal, as the robot is given it"
_GROUND, _INK, _FAINT, _REACHED = (20, 23, 27), (233, 235, 238), (166, 174, 184), (79, 214, 176)


def compose(
    camera_YXC: NDArray[np.uint8], goal_YXC: NDArray[np.uint8], distance_m: float, time_s: float, reached: bool
) -> NDArray[np.uint8]:
    """One frame of the video.

    Args:
        camera_YXC: the scene now, RGB.
        goal_YXC: the goal image, of any size; scaled to the camera's.
        distance_m: hand to goal [m].
        time_s: since the start [s].
        reached: whether the hand is at the goal now (being there at the end is what counts).

    Returns:
        RGB, height and width even, as video codecs want them.
    """
    height, width = camera_YXC.shape[:2]
    size = (2 * width + GAP, height + STRIP)
    canvas = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), _GROUND)
    canvas.paste(Image.fromarray(camera_YXC), (0, STRIP))
    goal = Image.fromarray(np.ascontiguousarray(goal_YXC)).resize((width, height), Image.Resampling.BICUBIC)
    canvas.paste(goal, (width + GAP, STRIP))
    draw = ImageDraw.Draw(canvas)
    middle = STRIP // 2
    state = f"{100 * distance_m:.1f} cm left" + (" · at the goal" if reached else "")
    draw.text((8, middle), f"{time_s:.1f} s", fill=_FAINT, font=_font(), anchor="lm")
    draw.text((width - 4, middle), state, fill=_REACHED if reached else _INK, font=_font(), anchor="rm")
    fits = draw.textlength(_GOAL, font=_font()) <= width - 16
    draw.text((width + GAP + 8, middle), _GOAL if fits else "goal", fill=_FAINT, font=_font(), anchor="lm")
    return np.asarray(canvas)


def linger(frames: Iterable[NDArray[np.uint8]], count: int) -> NDArray[np.uint8]:
    """All frames, (T, Y, X, 3), the last one repeated `count` times, so that a looping video shows how it ended."""
    found = list(frames)
    return np.stack([*found, *([found[-1]] * count)])


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=17)
