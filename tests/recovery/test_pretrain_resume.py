"""An interrupted training ends in the very weights that an uninterrupted one reaches; a diverging one stops."""

from pathlib import Path

import pytest
import torch

from robot_wm.contracts.errors import UserError
from robot_wm.data.loader import ClipSet, split_clips
from robot_wm.models.encoder import EncoderConfig
from robot_wm.models.world_model import WorldModel, WorldModelConfig
from robot_wm.training.loop import PROGRESS, TrainingConfig, train
from robot_wm.training.losses import LossConfig
from tests.moving_square import make_pack

MODEL = WorldModelConfig(
    encoder=EncoderConfig(size=32, channels=(8, 8, 8), blocks=1, keypoints=4, grid_channels=1), labeler_width=16
)
TRAINING = TrainingConfig(
    steps=8, batch=4, clip_frames=4, warmup=2, health_every=4, checkpoint_every=3, accelerator="cpu"
)


@pytest.fixture(scope="module")
def clips() -> tuple[ClipSet, ClipSet]:
    return split_clips([make_pack(6, 8)], 4, "cpu", 0.3, 0)


def _model() -> WorldModel:
    torch.manual_seed(3)
    return WorldModel(MODEL)


class Killed(BaseException):
    """Stands for the signal that ends a training."""


def test_resumed_weights_are_bit_identical(clips: tuple[ClipSet, ClipSet], tmp_path: Path) -> None:
    whole, resumed = _model(), _model()
    (tmp_path / "whole").mkdir()
    train(whole, *clips, TRAINING, LossConfig(), tmp_path / "whole", 0, lambda **_: None)

    def kill(**values: float) -> None:
        if values.get("step") == 4:
            raise Killed

    with pytest.raises(Killed):
        train(resumed, *clips, TRAINING, LossConfig(), tmp_path, 0, kill)
    assert (tmp_path / PROGRESS).is_file()
    fresh = _model()
    train(fresh, *clips, TRAINING, LossConfig(), tmp_path, 0, lambda **_: None)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name]), name


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    clips: tuple[ClipSet, ClipSet], tmp_path: Path
) -> None:
    def poison(**values: float) -> None:
        if values.get("step") == 4:
            torch.nn.init.constant_(model.dynamics.inputs.weight, float("nan"))

    model = _model()
    with pytest.raises(UserError, match="not finite at step 4"):
        train(model, *clips, TRAINING, LossConfig(), tmp_path, 0, poison)
    assert (tmp_path / PROGRESS).is_file()
