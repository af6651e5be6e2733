"""One picture that shows what was kept of a user's recordings and what was refused, and why."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from robot_wm.contracts import files

_TILE, _GAP, _LINE, _HEADING, _COLUMNS = (160, 120), 12, 17, 34, 6
_KEPT, _REFUSED = (70, 180, 105), (225, 90, 75)  # RGB
_GROUND, _EMPTY, _INK, _FAINT = (24, 26, 30), (44, 47, 53), (240, 240, 240), (170, 174, 180)


@dataclass(frozen=True)
class Tile:
    """One image (Y, X, 3), or None where none could be read, with its source and what became of it."""

    image_YXC: NDArray[np.uint8] | None
    source: str
    verdict: str


def write(path: Path, kept: tuple[str, Sequence[Tile]], refused: tuple[str, Sequence[Tile]]) -> None:
    """Write a PNG: what was kept, framed green, above what was refused, framed red; each a heading and its tiles."""
    pitch = (_TILE[0] + _GAP, _TILE[1] + 2 * _LINE + _GAP + 6)
    heights = [_HEADING + -(-max(len(tiles), 1) // _COLUMNS) * pitch[1] for _, tiles in (kept, refused)]
    sheet = Image.new("RGB", (_COLUMNS * pitch[0] + _GAP, sum(heights) + _GAP), _GROUND)
    top = _GAP
    for (heading, tiles), colour, height in ((kept, _KEPT, heights[0]), (refused, _REFUSED, heights[1])):
        ImageDraw.Draw(sheet).text((_GAP, top), heading, fill=colour, font=ImageFont.load_default(17))
        for index, tile in enumerate(tiles):
            place = (_GAP + index % _COLUMNS * pitch[0], top + _HEADING + index // _COLUMNS * pitch[1])
            _draw(sheet, place, tile, colour)
        top += height
    data = io.BytesIO()
    sheet.save(data, format="PNG")
    files.write_atomic(path, data.getvalue())


def _draw(sheet: Image.Image, place: tuple[int, int], tile: Tile, colour: tuple[int, int, int]) -> None:
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    x, y = place
    draw.rectangle((x - 2, y - 2, x + _TILE[0] + 1, y + _TILE[1] + 1), fill=_EMPTY, outline=colour, width=2)
    if tile.image_YXC is None:
        draw.text((x + _TILE[0] / 2, y + _TILE[1] / 2), "no picture", fill=_FAINT, font=font, anchor="mm")
    else:
        image = Image.fromarray(tile.image_YXC)
        image.thumbnail(_TILE, Image.Resampling.BOX)
        sheet.paste(image, (x + (_TILE[0] - image.width) // 2, y + (_TILE[1] - image.height) // 2))
    for row, (text, shade) in enumerate(((tile.source, _INK), (tile.verdict, _FAINT))):
        draw.text((x, y + _TILE[1] + 4 + row * _LINE), _shortened(text, font), fill=shade, font=font)


def _shortened(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """As much of a text as a tile is wide."""
    text = " ".join(text.split())
    if font.getlength(text) <= _TILE[0]:
        return text
    while font.getlength(f"{text}…") > _TILE[0]:
        text = text[:-1]
    return f"{text}…"
