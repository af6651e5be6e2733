"""What a model says of its own error is judged rightly, and impossible clips are so only from where they should be."""

import numpy as np
import pytest
import torch

from robot_wm.evaluation import physics, reliability
from robot_wm.models.world_model import WorldModel
from sims import gl, impossible
from tests.recovery.test_pretrain_resume import MODEL


def test_auroc_of_what_knows_of_what_does_not_and_of_ties() -> None:
    failed = np.arange(200) % 4 == 0
    rng = np.random.default_rng(0)
    assert reliability.auroc(failed + 0.0, failed).value == 1.0
    assert reliability.auroc(np.zeros(200), failed).value == 0.5
    chance = reliability.auroc(rng.normal(size=200), failed)
    assert chance.low < 0.5 < chance.high
    shifted = rng.normal(size=2000) + (np.arange(2000) % 4 == 0)
    # two normal distributions one deviation apart: Phi(1 / sqrt 2)
    assert reliability.auroc(shifted, np.arange(2000) % 4 == 0, resamples=3).value == pytest.approx(0.760, abs=0.04)
    with pytest.raises(ValueError, match="both needed"):
        reliability.auroc(np.zeros(3), np.zeros(3, bool))


def test_an_error_that_is_expected_rightly_is_calibrated() -> None:
    rng = np.random.default_rng(0)
    expected = rng.uniform(0.1, 2.0, 20_000)
    found = expected * rng.exponential(size=20_000)
    assert reliability.calibration_error(reliability.curve(expected, found)) < 0.05
    assert reliability.calibration_error(reliability.curve(3 * expected, found)) == pytest.approx(2.0, abs=0.1)
    bins = reliability.curve(np.full(1000, 1.0), found[:1000])
    assert sum(b.count for b in bins) == 1000


def test_false_alarms_are_as_many_as_said() -> None:
    rng = np.random.default_rng(0)
    failed = np.arange(4000) % 2 == 0
    score = rng.normal(size=4000) + 2.0 * failed
    threshold = np.quantile(score[~failed], 0.9)
    assert (score[~failed] > threshold).mean() == pytest.approx(0.1, abs=0.01)
    assert reliability.detected(score, failed, 0.1) == pytest.approx((score[failed] > threshold).mean())


@pytest.mark.parametrize("kind", impossible.KINDS)
def test_a_pair_differs_from_the_broken_frame_on(kind: str) -> None:
    gl.choose_backend()
    (pair,) = impossible.pairs(kind, 1, 0, 48, 0.2, 6)
    assert np.array_equal(pair.possible_TYXC[: pair.broken], pair.impossible_TYXC[: pair.broken])
    assert (pair.possible_TYXC[pair.broken :] != pair.impossible_TYXC[pair.broken :]).any()


def test_surprise_is_one_number_per_transition() -> None:
    torch.manual_seed(0)
    model = WorldModel(MODEL).eval()
    frames = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), dtype=np.uint8)
    found = physics.surprise(model, frames)
    assert found.shape == physics.pixel_change(frames).shape == (5,)
    assert (found > 0).all()
    assert physics.accuracy([1, 2, 2], [2, 2, 3]).right == 2
