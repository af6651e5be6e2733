"""A camera keeps the newest picture at hand, and its age tells when it has stopped."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.drivers.camera import Camera
from robot_wm.contracts.errors import UserError


def test_newest_picture_is_scaled_and_ages(tmp_path: Path) -> None:
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    for _ in range(3):
        writer.write(np.full((48, 64, 3), (0, 0, 250), np.uint8))
    writer.release()
    camera = Camera(str(path), 8, 16)
    try:
        frame, taken_s = camera.newest()
        assert frame.shape == (8, 16, 3)
        assert frame[..., 0].min() > 200 > 50 > frame[..., 2].max(), "red comes first"
        time.sleep(0.1)
        again, still_s = camera.newest()
        assert np.array_equal(again, frame)
        assert taken_s <= still_s < time.monotonic() - 0.05, "the film is over"
    finally:
        camera.close()


def test_no_camera_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.avi does not open. Give the number"):
        Camera(str(tmp_path / "none.avi"), 8, 8)
