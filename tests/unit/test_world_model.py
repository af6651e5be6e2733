"""What the networks promise: bounds, causality, where things are, sizes that must fit."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robot_wm.contracts.errors import UserError
from robot_wm.data.loader import Scales
from robot_wm.models.adapter import AdapterConfig
from robot_wm.models.dynamics import DynamicsConfig
from robot_wm.models.encoder import Encoder, EncoderConfig
from robot_wm.models.layers import area_matrix
from robot_wm.models.world_model import WorldModel, WorldModelConfig
from robot_wm.training.checkpoint import load_world_model, save_world_model
from robot_wm.training.losses import LossConfig

ENCODER = EncoderConfig(size=32, channels=(8, 8, 8), blocks=1, keypoints=4, grid_channels=1)
TINY = WorldModelConfig(encoder=ENCODER, action_dim=3)
SCALES = Scales(1.0, (1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1.0)


@pytest.fixture
def model() -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(TINY).eval()


def test_latent_actions_are_bounded_and_look_no_further_than_one_frame_ahead(model: WorldModel) -> None:
    z = 50 * torch.randn(2, 6, TINY.encoder.latent_dim)
    mean, _ = model.infer(z)
    assert mean.shape == (2, 5, 3)
    assert (torch.tanh(mean).abs() <= 1).all()
    changed = z.clone()
    changed[:, 4:] += 1
    again, _ = model.infer(changed)
    assert torch.equal(mean[:, :3], again[:, :3])
    assert not torch.equal(mean[:, 3], again[:, 3])


def test_rollout_is_repeated_prediction(model: WorldModel) -> None:
    z, actions = torch.randn(2, 2, TINY.encoder.latent_dim), torch.rand(2, 3, 3)
    rolled = model.rollout(z, actions)
    first, _ = model.predict(z, actions[:, 0])
    second, _ = model.predict(torch.stack([z[:, 1], first], 1), actions[:, 1])
    assert torch.equal(rolled[:, 1], second)


def test_histories_end_at_each_latent(model: WorldModel) -> None:
    z = torch.arange(4.0)[None, :, None].expand(1, 4, 2)
    assert model.histories(z)[0, :, :, 0].tolist() == [[0, 0], [0, 1], [1, 2], [2, 3]]


class Peak(nn.Module):
    """Attention that answers at one cell of the feature map, (row, column), and nowhere else."""

    def __init__(self, row: int, column: int):
        super().__init__()
        self.row, self.column = row, column

    def forward(self, features_BCYX: Tensor) -> Tensor:
        logits = torch.full((len(features_BCYX), ENCODER.keypoints, *features_BCYX.shape[2:]), -30.0)
        logits[:, :, self.row, self.column] = 30
        return logits


@pytest.mark.parametrize(("row", "column", "place"), [(0, 0, (-1, -1)), (7, 0, (1, -1)), (0, 7, (-1, 1))])
def test_a_keypoint_is_where_its_feature_answers(row: int, column: int, place: tuple[float, float]) -> None:
    """The first entries of the latent are its places, down and right, from -1 to 1 over the image."""
    encoder = Encoder(ENCODER).eval()
    encoder.attention = Peak(row, column)
    latent = encoder(torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8))
    assert torch.allclose(
        latent[0, : 2 * ENCODER.keypoints], torch.tensor(place * ENCODER.keypoints).float(), atol=1e-3
    )


@pytest.mark.parametrize(("source", "target"), [(96, 64), (64, 32), (120, 64), (50, 32)])
def test_resizing_equals_opencv_area(source: int, target: int) -> None:
    image = np.random.default_rng(0).uniform(0, 255, (source, source)).astype(np.float32)
    matrix = area_matrix(source, target).numpy()
    wanted = cv2.resize(image, (target, target), interpolation=cv2.INTER_AREA)
    assert np.allclose(matrix @ image @ matrix.T, wanted, atol=1e-2)


def test_encoder_takes_frames_of_any_size() -> None:
    torch.manual_seed(0)
    encoder = Encoder(TINY.encoder).eval()
    small = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    large = small.repeat_interleave(3, 1).repeat_interleave(2, 2)
    wanted = encoder(small)
    encoder.resize_from(96, 64)
    assert torch.allclose(encoder(large), wanted, atol=1e-5)


def test_saved_model_is_the_same_model(model: WorldModel, tmp_path) -> None:
    save_world_model(tmp_path, model, SCALES, 0.2)
    loaded, described = load_world_model(tmp_path)
    assert described.model == TINY and described.scales == SCALES and described.step_s == 0.2
    frames = torch.randint(0, 256, (1, 3, 32, 32, 3), dtype=torch.uint8)
    assert torch.equal(model.encode(frames), loaded.encode(frames))


def test_truncated_or_foreign_weights_are_refused(model: WorldModel, tmp_path) -> None:
    save_world_model(tmp_path, model, SCALES, 0.2)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="truncated"):
        load_world_model(tmp_path)
    save_world_model(tmp_path, WorldModel(WorldModelConfig(encoder=TINY.encoder, action_dim=5)), SCALES, 0.2)
    described = (tmp_path / "model.json").read_text().replace('"action_dim": 5', '"action_dim": 3')
    (tmp_path / "model.json").write_text(described)
    with pytest.raises(UserError, match="weight"):
        load_world_model(tmp_path)


@pytest.mark.parametrize(
    ("config", "values", "words"),
    [
        (EncoderConfig, {"size": 60}, "encoder.size is 60.*multiple of 32"),
        (EncoderConfig, {"size": 0}, "encoder.size is 0"),
        (EncoderConfig, {"channels": (8, 12, 8, 8)}, "channels is .*multiples of 8"),
        (EncoderConfig, {"keypoints": 0}, "keypoints 0"),
        (DynamicsConfig, {"width": 0}, "width 0"),
        (AdapterConfig, {"context": 0}, "context 0"),
        (WorldModelConfig, {"history": 0}, "history is 0"),
        (LossConfig, {"rollout_steps": 0}, "rollout_steps is 0"),
    ],
)
def test_bad_sizes_are_named(config: type, values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        config(**values)
