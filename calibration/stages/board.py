"""The calibration board as a PDF to print."""

from dataclasses import dataclass, field
from pathlib import Path

from calibration.board import Board, write_pdf
from robot_wm import console


@dataclass(frozen=True)
class BoardConfig:
    """Configuration of `robot-wm calibrate board`.

    Attributes:
        board: its squares.
        file: where the PDF is written.
    """

    board: Board = field(default_factory=Board)
    file: str = "board.pdf"


def print_board(config: BoardConfig) -> Path:
    """Write the PDF; returns its path."""
    path = Path(config.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_pdf(config.board, path)
    console.say(
        f"Print {path} on A4 at 100 % (not 'fit to page'), glue it to something flat, and measure a square: "
        f"{1e3 * config.board.square_m:g} mm. If it differs, give board.square_m and board.marker_m in metres."
    )
    return path
