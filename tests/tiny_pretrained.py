"""A pretrain run of a tiny world model with random weights: what is calibrated on it runs in seconds and is useless."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from robot_wm.contracts.run import open_run
from robot_wm.data.loader import Scales
from robot_wm.models.dynamics import DynamicsConfig
from robot_wm.models.encoder import EncoderConfig
from robot_wm.models.world_model import WorldModel, WorldModelConfig
from robot_wm.training.checkpoint import save_world_model
from robot_wm.training.loop import settle_normalization

SIZES = WorldModelConfig(
    EncoderConfig(size=32, channels=(8, 8, 8), blocks=1, keypoints=4, grid_channels=1), DynamicsConfig(32, 1), 3
)
SCALES = Scales(1.0, (1.0,) * 4, (0.0,) * 3, (1.0,) * 3, 1.0)


def write_tiny_pretrained(folder: Path) -> Path:
    """Write the run; returns its folder."""
    torch.manual_seed(0)
    model = WorldModel(SIZES)
    frames = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    model.encoder(torch.from_numpy(frames))  # running statistics of BatchNorm
    return _write(folder, model.eval(), SCALES)


def write_untrained(folder: Path, sizes: WorldModelConfig, frames_FYXC: NDArray[np.uint8], scales: Scales) -> Path:
    """Write the run of a model with random weights whose latents have the usual spread on these frames."""
    torch.manual_seed(0)
    model = WorldModel(sizes)
    settle_normalization(model.encoder, [torch.from_numpy(frames_FYXC)])
    return _write(folder, model, scales)


def _write(folder: Path, model: WorldModel, scales: Scales) -> Path:
    with open_run(folder, "pretrain", "tiny", {"seed": 0}) as run:
        run.finish(save_world_model(run.path, model, scales, 0.2))
    return run.path
