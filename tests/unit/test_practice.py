"""Practice pictures: what they show is what is said of them, and a body is read better for them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from calibration.adapter_fit import FitConfig
from calibration.body_model import BodyModel
from calibration.candidate import Ground
from calibration.practice import Stills, other_light, practise
from calibration.reading_fit import ReadingConfig, learn_to_read
from calibration.transitions import Transitions
from robot_wm.contracts.embodiment import Embodiment, Mjcf
from robot_wm.data.scales import Scales
from robot_wm.data.video import resize
from robot_wm.models.adapter import AdapterConfig
from robot_wm.models.dynamics import DynamicsConfig
from robot_wm.models.encoder import EncoderConfig
from robot_wm.models.world_model import WorldModel, WorldModelConfig
from robot_wm.planning.controllable import CalibrationFile
from robot_wm.training.checkpoint import ModelFile
from sims.robots import load
from tests.small_bodies import planar_arm

SIZE = 32
TINY = WorldModelConfig(
    EncoderConfig(size=SIZE, channels=(8, 16, 16), blocks=1, keypoints=8, grid_channels=1), DynamicsConfig(32, 1), 3
)
SCALES = Scales(1.0, (1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.1, 0.1, 0.1), 1.5)
AROUND = np.array([[-0.6, -0.6], [0.6, 0.6]])  # where the log was


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Embodiment:
    return planar_arm(tmp_path_factory.mktemp("arm"), "joint_position")


def known(arm: Embodiment, **bias: float) -> BodyModel:
    return BodyModel(arm, bias, None, None, {}, ())


def test_a_practice_picture_shows_the_positions_that_are_said_of_it(arm: Embodiment) -> None:
    stills = practise(known(arm), AROUND, 12, SIZE, seed=0)
    assert stills is not None and stills.frames.shape == (12, SIZE, SIZE, 3)
    with load(arm) as simulation:
        for frame, positions in zip(stills.frames.numpy(), stills.positions.numpy(), strict=True):
            simulation.pose(positions)
            assert np.abs(resize(simulation.frame(), (SIZE, SIZE)).astype(int) - frame).max() <= 1
    assert np.ptp(stills.positions.numpy(), axis=0).min() > 0.5
    again = practise(known(arm), AROUND, 12, SIZE, seed=0)
    assert again is not None and torch.equal(again.positions, stills.positions), "the same for the same seed"


def test_what_encoders_read_too_much_is_added(arm: Embodiment) -> None:
    with load(arm) as simulation:
        joint = simulation.proprio_names[1].removesuffix("_position")
    plain, biased = (practise(body, AROUND, 4, SIZE, seed=0) for body in (known(arm), known(arm, **{joint: 0.1})))
    assert plain is not None and biased is not None and torch.equal(plain.frames, biased.frames)
    torch.testing.assert_close(biased.positions - plain.positions, torch.tensor([[0.0, 0.1]]).expand(4, 2))


def test_a_model_that_cannot_be_drawn_leaves_the_log_alone_and_says_so(
    arm: Embodiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = replace(arm, mjcf=Mjcf(str(tmp_path / "gone.xml")))
    assert practise(known(gone), AROUND, 4, SIZE, seed=0) is None
    assert "from the log's pictures alone" in capsys.readouterr().err
    assert practise(known(arm), AROUND, 0, SIZE, seed=0) is None


def test_light_changes_no_picture_s_shape_and_stays_in_range(arm: Embodiment) -> None:
    frames = torch.full((6, 4, 4, 3), 128, dtype=torch.uint8)
    lit = other_light(frames, torch.Generator().manual_seed(0))
    assert lit.shape == frames.shape and lit.min() >= 0 and lit.max() <= 255
    assert len(lit.mean((1, 2, 3)).unique()) == 6, "each picture has a light of its own"


def ground(arm: Embodiment, log: Stills) -> Ground:
    """A log of six episodes of still pictures."""
    count = len(log.frames)
    with load(arm) as simulation:
        command, names = simulation.command, simulation.proprio_names
    proprio = np.zeros((count, len(names)), np.float32)
    proprio[:, : log.positions.shape[1]] = log.positions
    chunks = np.zeros((count, command.frame_skip, command.dim), np.float32)
    episodes = (6 * np.arange(count) // count).astype(np.int32)
    transitions = Transitions(log.frames.numpy(), proprio, chunks, episodes, command.frame_skip, chunks[:, 0])
    torch.manual_seed(0)
    model = WorldModel(TINY).eval()
    body = CalibrationFile(arm, command, names, AdapterConfig(16, 4))
    return Ground(model, ModelFile(TINY, SCALES, 0.2), False, transitions, body, 1.0, FitConfig(), 0)


def test_the_encoder_that_learned_the_body_reads_episodes_better_that_it_has_not_seen(arm: Embodiment) -> None:
    log = practise(known(arm), AROUND, 120, SIZE, seed=1)
    practice = practise(known(arm), AROUND, 200, SIZE, seed=2)
    assert log is not None and practice is not None
    start, used, held_out = ground(arm, log), np.arange(5), np.array([5])
    before = {name: value.clone() for name, value in start.model.encoder.state_dict().items()}
    config = ReadingConfig(steps=80, batch=32, learning_rate=3e-3)
    taught, reading = learn_to_read(start, practice, config, used, held_out, lambda **_: None)
    assert reading.kept and reading.practice == 200 and reading.after < 0.8 * reading.before
    assert taught.stills is not None and len(taught.stills[0]) == 200
    changed = taught.model.encoder.state_dict()
    weights = [name for name, value in before.items() if value.is_floating_point() and "normalize" not in name]
    assert not any(torch.equal(before[name], changed[name]) for name in weights)


def test_an_encoder_that_reads_held_out_episodes_no_better_is_dropped(arm: Embodiment) -> None:
    log = practise(known(arm), AROUND, 120, SIZE, seed=1)
    assert log is not None
    start = ground(arm, log)
    wrong = Stills(log.frames, log.positions.flip(0))  # pictures of other poses than is said of them
    config = ReadingConfig(steps=20, batch=32, learning_rate=3e-3)
    taught, reading = learn_to_read(start, wrong, config, np.arange(5), np.array([5]), lambda **_: None)
    assert not reading.kept and taught is start and reading.after >= reading.before
