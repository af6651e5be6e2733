"""Whether a prediction of one's own error can be trusted: calibration of its size, and what it tells of failures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_wm.evaluation.statistics import Interval


@dataclass(frozen=True)
class Bin:
    """Predictions of about the same expected error: its mean, the error that came, and how many there were."""

    expected: float
    found: float
    count: int


def curve(expected_N: NDArray[np.floating], found_N: NDArray[np.floating], bins: int = 10) -> tuple[Bin, ...]:
    """The reliability curve: equally many predictions per bin, by expected error.

    Raises:
        ValueError: no predictions, or unequal numbers.
    """
    if not len(expected_N) or len(expected_N) != len(found_N):
        raise ValueError(f"{len(expected_N)} expected errors, {len(found_N)} found")
    parts = np.array_split(np.argsort(expected_N, kind="stable"), min(bins, len(expected_N)))
    return tuple(Bin(float(expected_N[p].mean()), float(found_N[p].mean()), len(p)) for p in parts)


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """Mean distance between expected and found error over the bins, as a share of the mean error: 0 is perfect."""
    counts = np.array([b.count for b in bins], dtype=float)
    apart = np.abs([b.expected - b.found for b in bins])
    return float(counts @ apart / (counts @ np.array([b.found for b in bins])))


def auroc(score_N: NDArray[np.floating], failed_N: NDArray[np.bool_], resamples: int = 1000, seed: int = 0) -> Interval:
    """Chance that a failure scores above a success (ties half), with a bootstrap 95 % interval over both groups.

    Raises:
        ValueError: no failure, or no success.
    """
    high, low = np.asarray(score_N)[failed_N], np.asarray(score_N)[~np.asarray(failed_N)]
    if not len(high) or not len(low):
        raise ValueError("failures and successes are both needed")
    wins = (high[:, None] > low) + 0.5 * (high[:, None] == low)
    rng = np.random.default_rng(seed)
    picks = (
        wins[np.ix_(rng.integers(len(high), size=len(high)), rng.integers(len(low), size=len(low)))].mean()
        for _ in range(resamples)
    )
    a, b = np.percentile(list(picks), (2.5, 97.5))
    return Interval(float(wins.mean()), float(a), float(b))


def detected(score_N: NDArray[np.floating], failed_N: NDArray[np.bool_], false_alarms: float = 0.1) -> float:
    """Share of failures above the threshold that `false_alarms` of the successes exceed."""
    threshold = np.quantile(np.asarray(score_N)[~np.asarray(failed_N)], 1 - false_alarms)
    return float((np.asarray(score_N)[failed_N] > threshold).mean())
