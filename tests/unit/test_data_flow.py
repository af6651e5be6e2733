"""Optical flow recovers known motion, and its moments say how fast and where."""

import cv2
import numpy as np
import pytest

from robot_wm.data.flow import flow, moments, pool


def texture(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)


def shifted(image: np.ndarray, right: int, down: int) -> np.ndarray:
    return image[16 - down : 80 - down, 16 - right : 80 - right]


@pytest.mark.parametrize(("right", "down"), [(0, 0), (1, 0), (2, -1), (0, 3), (-3, 2), (4, 4)])
def test_known_shift_is_recovered(right: int, down: int) -> None:
    image = texture()
    found = flow(np.stack([shifted(image, 0, 0), shifted(image, right, down)]))
    assert found.shape == (1, 64, 64, 2)
    assert found.dtype == np.float32
    inside = found[0, 8:-8, 8:-8].reshape(-1, 2)
    assert np.abs(inside.mean(axis=0) - (right, down)).max() < 0.05
    assert np.abs(np.median(inside, axis=0) - (right, down)).max() < 0.02


def test_flow_is_clipped() -> None:
    image = texture(1)
    found = flow(np.stack([shifted(image, 0, 0), shifted(image, 4, -3)]), max_px=2.0)
    assert np.median(found[0], axis=(0, 1)) == pytest.approx([2, -2])


def test_pooling_averages_each_cell() -> None:
    field = np.zeros((1, 8, 8, 2), np.float32)
    field[0, 0, 0] = (4, -8)
    pooled = pool(field, cells=4)
    assert pooled.shape == (1, 4, 4, 2)
    assert pooled[0, 0, 0] == pytest.approx([1, -2])
    assert np.count_nonzero(pooled) == 2
    with pytest.raises(ValueError, match="does not divide"):
        pool(field, cells=3)


def test_moments_tell_speed_and_place_of_what_moves() -> None:
    pooled = np.zeros((3, 16, 16, 2), np.float32)
    pooled[1, 2:4, 12:14] = (1.5, -0.5)
    pooled[2] = 0.01  # below what compression noise does
    found = moments(pooled)
    assert found.shape == (3, 4)
    assert found[1] == pytest.approx([1.5, -0.5, (13 / 16) * 2 - 1, (3 / 16) * 2 - 1])
    assert not found[[0, 2]].any()


def test_one_frame_has_no_flow() -> None:
    still = flow(np.zeros((1, 64, 64, 3), np.uint8))
    assert still.shape == (0, 64, 64, 2)
    assert moments(pool(still)).shape == (0, 4)
