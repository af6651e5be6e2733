"""Pretraining on a GPU ends in a model that the CPU loads and that predicts the same."""

from pathlib import Path

import numpy as np
import pytest
import torch

from robot_wm.contracts.dataset import Feature, image_key
from robot_wm.data.lerobot_writer import LeRobotWriter
from robot_wm.models.encoder import EncoderConfig
from robot_wm.models.world_model import WorldModelConfig
from robot_wm.stages.pretrain import PretrainConfig, pretrain
from robot_wm.training.checkpoint import load_world_model
from robot_wm.training.loop import TrainingConfig
from tests.moving_square import make_pack


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_model_pretrained_on_a_gpu_runs_on_the_cpu(tmp_path: Path, precision: str) -> None:
    pack = make_pack(12, 8)
    key = image_key("front")
    with LeRobotWriter(tmp_path / "video", 5.0, {key: Feature("video", (32, 32, 3))}) as writer:
        for episode in range(12):
            writer.add_episode({}, {key: np.asarray(pack.frames_FYXC[pack.episode_F == episode])})
    config = PretrainConfig(
        data=(str(tmp_path / "video"),),
        model=WorldModelConfig(encoder=EncoderConfig(32, (8, 8, 8), 1, 4, 1), labeler_width=16),
        training=TrainingConfig(
            steps=20, batch=4, clip_frames=4, checkpoint_every=7, accelerator="cuda", precision=precision
        ),
        cache=str(tmp_path / "cache"),
        out=str(tmp_path / "runs"),
    )
    model, _ = load_world_model(pretrain(config))
    frames = torch.from_numpy(np.asarray(pack.frames_FYXC[:8]))[None]
    with torch.no_grad():
        here, there = model.encode(frames), model.cuda().encode(frames.cuda()).cpu()
    assert torch.isfinite(here).all()
    assert torch.allclose(here, there, atol=1e-2)
