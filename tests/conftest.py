"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


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
    return (
        "model.encoder.size=32", "model.encoder.channels=[8,8,8,8]", "model.encoder.keypoints=4",
        "model.encoder.grid_channels=1", "model.dynamics.width=32", "model.dynamics.blocks=1", "model.action_dim=3",
        "model.labeler_width=32", "model.flow_cells=8",
        "training.steps=12", "training.batch=8", "training.health_every=6", "training.checkpoint_every=6",
    )  # fmt: skip
