"""Fixtures that every test may use."""

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

from tests.reader import PRETRAIN

Film = Callable[..., NDArray[np.uint8]]
REPOSITORY = Path(__file__).resolve().parents[1]

# Property tests draw the same at every run, untimed: one that fails tells of a change, not of luck or a busy machine.
settings.register_profile(
    "same", derandomize=True, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("anew", settings.get_profile("same"), derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real recordings: the folder named by ROBOT_WM_TEST_DATA, else `shared/data` beside the checkout."""
    folder = Path(os.environ.get("ROBOT_WM_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder} (name their folder by ROBOT_WM_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def tiny_model() -> tuple[str, ...]:
    """Overrides of `robot-wm pretrain` for a model that trains in seconds; it runs, and can do nothing."""
    return PRETRAIN


@pytest.fixture(scope="session")
def film() -> Film:
    """Makes video: `film(num_frames, height, width, seed)` shows a bright disc that crosses a soft background."""

    def make(num_frames: int, height: int = 64, width: int = 64, seed: int = 0) -> NDArray[np.uint8]:
        random = np.random.default_rng(seed)
        coarse = random.integers(40, 200, (5, 5, 3), dtype=np.uint8)
        ground = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        radius = max(2, min(height, width) // 8)
        frames = []
        for index in range(num_frames):
            centre = (int((index * 2 + seed * 5) % width), int(height * (0.3 + 0.4 * random.random())))
            frames.append(cv2.circle(ground.copy(), centre, radius, (250, 240, 60), -1))
        return np.stack(frames)

    return make
