"""One picture that shows what was kept of a user's recordings and what was refused, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts import files
from robot_wm.data.video import resize

_HEIGHT, _WIDTH, _CAPTION, _COLUMNS = 96, 128, 18, 6
_KEPT, _REFUSED, _GROUND = (60, 160, 90), (200, 70, 60), (32, 34, 38)  # RGB


@dataclass(frozen=True)
class Tile:
    """One image (Y, X, 3), or None where none could be read, with a caption."""

    image_YXC: NDArray[np.uint8] | None
    caption: str
    kept: bool


def write(path: Path, tiles: Sequence[Tile]) -> None:
    """Write the tiles as a PNG, six in a row, framed green if kept and red if refused."""
    rows = -(-len(tiles) // _COLUMNS)
    cell = (_HEIGHT + _CAPTION + 8, _WIDTH + 8)
    sheet = np.full((rows * cell[0], _COLUMNS * cell[1], 3), _GROUND, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (index // _COLUMNS) * cell[0], (index % _COLUMNS) * cell[1]
        sheet[top : top + cell[0], left : left + cell[1]] = _draw(tile, cell)
    _, data = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    files.write_atomic(path, data.tobytes())


def _draw(tile: Tile, cell: tuple[int, int]) -> NDArray[np.uint8]:
    drawn = np.full((*cell, 3), _GROUND, dtype=np.uint8)
    colour = _KEPT if tile.kept else _REFUSED
    cv2.rectangle(drawn, (2, 2), (cell[1] - 3, _HEIGHT + 5), colour, 2)
    if tile.image_YXC is not None:
        height, width = tile.image_YXC.shape[:2]
        scale = min(_HEIGHT / height, _WIDTH / width)
        size = (max(1, int(height * scale)), max(1, int(width * scale)))
        top, left = 4 + (_HEIGHT - size[0]) // 2, 4 + (_WIDTH - size[1]) // 2
        drawn[top : top + size[0], left : left + size[1]] = resize(tile.image_YXC, size)
    caption = tile.caption.encode("ascii", "replace").decode()[:22]  # OpenCV's font knows ASCII only
    cv2.putText(drawn, caption, (4, cell[0] - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.34, (235, 235, 235), 1, cv2.LINE_AA)
    return drawn
