"""The ChArUco board: its corners, its PDF, and finding it in pictures."""

import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robot_wm.contracts import files
from robot_wm.contracts.errors import UserError

Array = NDArray[np.float64]
_LEAST_CORNERS = 8
_DPI = 600
_A4_M = (0.210, 0.297)


@dataclass(frozen=True)
class Board:
    """A chessboard with a marker in every white square; it fits on A4 as it is.

    Attributes:
        columns, rows: squares.
        square_m, marker_m: edge lengths [m]: measure a printed square and give its true length.
    """

    columns: int = 6
    rows: int = 8
    square_m: float = 0.032
    marker_m: float = 0.024

    def __post_init__(self) -> None:
        if min(self.columns, self.rows) < 3 or not 0 < self.marker_m < self.square_m:
            raise UserError(
                f"board of {self.columns} x {self.rows} squares of {self.square_m} m, markers of {self.marker_m} m",
                "Give at least 3 x 3 squares, and markers smaller than the squares",
            )

    def opencv(self) -> cv2.aruco.CharucoBoard:
        markers = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_250)
        return cv2.aruco.CharucoBoard((self.columns, self.rows), self.square_m, self.marker_m, markers)

    @property
    def size_m(self) -> tuple[float, float]:
        return self.columns * self.square_m, self.rows * self.square_m

    def picture(self, pixels_per_square: int) -> NDArray[np.uint8]:
        """The board alone, black on white, (Y, X)."""
        return self.opencv().generateImage((self.columns * pixels_per_square, self.rows * pixels_per_square))


@dataclass(frozen=True)
class View:
    """The board in one picture: its corners on the board [m] and in the picture [px]."""

    corners_m: Array
    corners_px: Array


def write_pdf(board: Board, path: Path) -> None:
    """The board on A4 at its true size; print it at 100 %, without fitting it to the page.

    Raises:
        UserError: it is larger than the page.
    """
    wide, high = board.size_m
    if wide > _A4_M[0] - 0.01 or high > _A4_M[1] - 0.015:
        raise UserError(
            f"the board is {1e3 * wide:.0f} x {1e3 * high:.0f} mm, larger than A4 with its margins",
            "Choose fewer or smaller squares",
        )
    dots = round(board.square_m / 0.0254 * _DPI)
    picture = Image.fromarray(board.picture(dots)).resize(
        (round(wide / 0.0254 * _DPI), round(high / 0.0254 * _DPI)), Image.Resampling.NEAREST
    )
    page = Image.new("L", (round(_A4_M[0] / 0.0254 * _DPI), round(_A4_M[1] / 0.0254 * _DPI)), 255)
    page.paste(picture, ((page.width - picture.width) // 2, (page.height - picture.height) // 2))
    data = io.BytesIO()
    page.convert("1").save(data, "PDF", resolution=_DPI)
    files.write_atomic(path, data.getvalue())


def find(board: Board, frame_YXC: NDArray[np.uint8]) -> View | None:
    """The board's corners in one picture to a fraction of a pixel; None where too few are seen."""
    gray = frame_YXC if frame_YXC.ndim == 2 else cv2.cvtColor(frame_YXC, cv2.COLOR_RGB2GRAY)
    described = board.opencv()
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    detector = cv2.aruco.CharucoDetector(described, cv2.aruco.CharucoParameters(), parameters)
    corners, ids, _, _ = detector.detectBoard(gray)
    if ids is None or len(ids) < _LEAST_CORNERS:
        return None
    seen = described.getChessboardCorners()[ids.ravel()]
    corners = corners.reshape(-1, 1, 2).astype(np.float32)
    apart = np.linalg.norm(corners[None, :, 0] - corners[:, None, 0], axis=2)
    reach = int(np.clip(0.3 * np.partition(apart, 1, axis=1)[:, 1].min(), 3, 15))  # within the squares around a corner
    ends = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 50, 1e-3)
    corners = cv2.cornerSubPix(gray, corners, (reach, reach), (-1, -1), ends)
    return View(np.asarray(seen, np.float64), np.asarray(corners, np.float64).reshape(-1, 2))
