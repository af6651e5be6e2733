"""Shots: where a video is cut, and what of it shows nothing."""

import numpy as np
import pytest

from robot_wm.contracts.errors import UserError
from robot_wm.data.shots import Screening, stretches


def reasons(frames: np.ndarray, screening: Screening | None = None) -> list[tuple[int, int, str]]:
    return [(s.start, s.stop, s.reason) for s in stretches(frames, 0.2, screening or Screening())]


def test_one_shot_stays_whole(film) -> None:
    assert reasons(film(20)) == [(0, 20, "")]


def test_cut_divides_shots(film) -> None:
    frames = np.concatenate([film(12, seed=1) // 2, 255 - film(8, seed=2) // 2])
    assert reasons(frames) == [(0, 12, ""), (12, 20, "")]


def test_black_and_frozen_stretches_are_refused(film) -> None:
    frames = np.concatenate([film(10, seed=1), np.zeros((4, 64, 64, 3), np.uint8), film(10, seed=1)])
    assert reasons(frames) == [(0, 10, ""), (10, 14, "black"), (14, 24, "")]
    moving = film(10, seed=1)
    frozen = np.concatenate([moving, np.repeat(moving[-1:], 8, axis=0), film(10, seed=1)])
    assert reasons(frozen) == [(0, 10, ""), (10, 18, "frozen"), (18, 28, "")]


def test_a_short_rest_is_kept_and_a_short_shot_is_not(film) -> None:
    moving = film(10, seed=1)
    rests = np.concatenate([moving, np.repeat(moving[-1:], 4, axis=0), moving[::-1]])
    assert reasons(rests) == [(0, 24, "")]
    assert reasons(film(5)) == [(0, 5, "short")]
    assert reasons(film(1)) == [(0, 1, "short")]


def test_noise_of_the_sensor_is_not_motion(film) -> None:
    noise = np.random.default_rng(0).integers(-2, 3, (20, 64, 64, 3))
    still = np.clip(film(1).astype(int) + noise, 0, 255).astype(np.uint8)
    assert reasons(still, Screening(frozen_change=4.0)) == [(0, 1, "short"), (1, 20, "frozen")]


def test_values_without_meaning_are_refused() -> None:
    with pytest.raises(UserError, match="cut is 0"):
        Screening(cut=0.0)
    with pytest.raises(UserError, match="min_frames is 1"):
        Screening(min_frames=1)
