"""Intervals against the worked examples of the papers that introduced or compared them."""

import numpy as np
import pytest

from robot_wm.evaluation.statistics import difference, percentile, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_equals_published_examples(successes, trials, low, high):
    interval = wilson(successes, trials)
    assert interval.value == successes / trials
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [  # Newcombe (1998), "Interval estimation for the difference between independent proportions", table II, method 10
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_difference_equals_published_examples(a, b, low, high):
    interval = difference(*a, *b)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)
    mirrored = difference(*b, *a)
    assert (mirrored.low, mirrored.high) == pytest.approx((-interval.high, -interval.low))


def test_wilson_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9):
        intervals = [wilson(int(s), 25) for s in rng.binomial(25, share, 4000)]
        covered = np.mean([i.low <= share <= i.high for i in intervals])
        assert 0.92 <= covered <= 0.98


def test_wilson_ends_are_exact_at_none_and_all():
    assert wilson(0, 25).low == 0.0
    assert wilson(25, 25).high == 1.0


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(ValueError, match="not a share"):
        wilson(successes, trials)


@pytest.mark.parametrize("confidence", [0.0, 1.0, float("nan")])
def test_impossible_confidence_is_refused(confidence):
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, confidence)


def test_percentile_interval_covers_the_true_median():
    rng = np.random.default_rng(1)
    intervals = [percentile(rng.exponential(size=60), 50, resamples=200, seed=i) for i in range(200)]
    covered = np.mean([i.low <= np.log(2) <= i.high for i in intervals])
    assert 0.88 <= covered <= 0.99


def test_percentile_is_reproducible_and_of_one_sample_is_that_sample():
    samples = np.arange(100.0)
    assert percentile(samples, 95) == percentile(list(samples), 95)
    assert percentile(samples, 95).value == pytest.approx(94.05)
    one = percentile([3.0], 99)
    assert (one.low, one.value, one.high) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize("samples", [[], [1.0, float("nan")]])
def test_percentile_refuses_what_it_cannot_sum_up(samples):
    with pytest.raises(ValueError, match="finite"):
        percentile(samples, 50)
