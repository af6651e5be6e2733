"""What a model says of its own error is judged rightly, and impossible clips are so only from where they should be."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

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


def test_kinds_have_scenes_of_their_own() -> None:
    gl.choose_backend()
    first, second = (next(impossible.pairs(kind, 1, 0, 32, 0.2, 6)) for kind in ("vanishes", "floats"))
    assert not np.array_equal(first.possible_TYXC[0], second.possible_TYXC[0])


def _clip(*colours: int) -> NDArray[np.uint8]:
    """Frames whose left half has a grey of its own each."""
    frames = np.full((len(colours), 32, 32, 3), 128, np.uint8)
    frames[:, :, :16] = np.array(colours, np.uint8)[:, None, None, None]
    return frames


def test_what_both_clips_saw_before_hides_nothing() -> None:
    torch.manual_seed(0)
    model = WorldModel(MODEL).eval()  # its dynamics begin as copying
    still, broken = _clip(0, 255, 255, 255, 255), _clip(0, 255, 255, 200, 200)
    possible, impossible_ = (physics.watch(model, clip) for clip in (still, broken))
    assert physics.watch(model, broken[2:]).surprise < physics.watch(model, still[:2]).surprise, "the cut is larger"
    assert possible.surprise < impossible_.surprise
    assert possible.change < impossible_.change and possible.pixels < impossible_.pixels
    assert possible.pixels == pytest.approx(255 / 2 / 4)


def test_who_copies_explains_nothing_whatever_the_change() -> None:
    torch.manual_seed(0)
    model = WorldModel(MODEL).eval()
    for clip in (_clip(0, 10, 20), _clip(0, 255, 0), _clip(7, 7, 7)):
        assert physics.watch(model, clip).unexplained == pytest.approx(1.0)
    torch.nn.init.normal_(model.dynamics.outputs.weight)
    assert physics.watch(model, _clip(0, 10, 20)).unexplained != pytest.approx(1.0, abs=0.01)
    assert physics.accuracy([1, 2, 2], [2, 2, 3]).right == 2
    with pytest.raises(ValueError, match="two frames"):
        physics.watch(model, _clip(0))
