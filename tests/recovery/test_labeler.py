"""The labeler recovers a motion that nobody labelled, and only because flow ties it to what moved."""

from pathlib import Path

import numpy as np
import pytest
import torch

from robot_wm.data.loader import split_clips
from robot_wm.data.pack import Pack
from robot_wm.models.encoder import EncoderConfig
from robot_wm.models.world_model import WorldModel, WorldModelConfig
from robot_wm.training.loop import TrainingConfig, settle_normalization, train
from robot_wm.training.losses import LossConfig
from tests.moving_square import make_pack

MODEL = WorldModelConfig(
    encoder=EncoderConfig(size=32, channels=(16, 32, 32), blocks=1, keypoints=8, grid_channels=2), labeler_width=64
)
TRAINING = TrainingConfig(steps=250, batch=16, clip_frames=5, learning_rate=2e-3, health_every=1000, accelerator="cpu")


def _r2(pack: Pack, loss: LossConfig, folder: Path) -> float:
    """R² of a linear map from latent actions to the square's displacement, on clips held out from training."""
    torch.manual_seed(0)
    model = WorldModel(MODEL)
    clips, validation = split_clips([pack], TRAINING.clip_frames, "cpu", 0.2, 0)
    train(model, clips, validation, TRAINING, loss, folder, 0, lambda **_: None)
    generator = torch.Generator().manual_seed(0)
    settle_normalization(model.encoder, (clips.batch(32, generator).frames_BTYXC.flatten(0, 1) for _ in range(10)))
    test = make_pack(40, 6, seed=9, with_state=True)
    with torch.no_grad():
        z = model.encode(torch.from_numpy(test.frames_FYXC).unflatten(0, (40, 6)))
        actions = torch.tanh(model.infer(z)[0]).flatten(0, 1).numpy()
    moved = np.diff(test.columns["simulator.hand_position_m"].reshape(40, 6, 3), axis=1).reshape(-1, 3)[:, :2]
    features = np.c_[actions, np.ones(len(actions))]
    half = len(features) // 2
    weights, *_ = np.linalg.lstsq(features[:half], moved[:half], rcond=None)
    residual = moved[half:] - features[half:] @ weights
    return 1 - float((residual**2).sum() / ((moved[half:] - moved[half:].mean(0)) ** 2).sum())


@pytest.mark.slow
def test_flow_makes_latent_actions_mean_motion(tmp_path: Path) -> None:
    pack = make_pack(60, 8)
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    with_flow = _r2(pack, LossConfig(state=0), tmp_path / "with")
    without = _r2(pack, LossConfig(state=0, flow=0, moments=0), tmp_path / "without")
    assert with_flow > 0.6
    assert without < with_flow - 0.3
