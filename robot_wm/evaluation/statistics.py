"""Intervals for shares, differences of shares, and percentiles: what stands beside every number that is reported."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval, in the unit of the estimate."""

    value: float
    low: float
    high: float


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Score interval of a binomial share; stays inside [0, 1] and is honest at 0 of n and n of n.

    Args:
        successes: 0 to `trials`.
        trials: at least 1.
        confidence: coverage aimed at, in (0, 1).

    Raises:
        ValueError: counts or confidence out of range.

    Source: E. B. Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes of {trials} trials is not a share")
    return wilson_share(successes / trials, trials, confidence)


def wilson_share(share: float, trials: float, confidence: float = 0.95) -> Interval:
    """`wilson` for a share that need not be a ratio of counts: `trials` is what it is worth."""
    z = _quantile(confidence)
    centre = share + z**2 / (2 * trials)
    half = z * sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    # Rounding must not leave 1e-17 where the interval reaches its end exactly.
    low = 0.0 if share == 0 else (centre - half) / scale
    high = 1.0 if share == 1 else (centre + half) / scale
    return Interval(share, low, high)


def difference(successes_a: int, trials_a: int, successes_b: int, trials_b: int, confidence: float = 0.95) -> Interval:
    """Interval of share A minus share B for independent samples (hybrid of two Wilson intervals).

    On the same start and goal pairs the two samples are positively correlated, where this interval is wider than need
    be: it errs on the side of not claiming a difference.

    Raises:
        ValueError: counts or confidence out of range.

    Source: R. G. Newcombe (1998), "Interval estimation for the difference between independent proportions:
    comparison of eleven methods", method 10.
    """
    a, b = wilson(successes_a, trials_a, confidence), wilson(successes_b, trials_b, confidence)
    value = a.value - b.value
    low = value - sqrt((a.value - a.low) ** 2 + (b.high - b.value) ** 2)
    high = value + sqrt((a.high - a.value) ** 2 + (b.value - b.low) ** 2)
    return Interval(value, max(low, -1.0), min(high, 1.0))


def percentile(
    samples: Sequence[float] | NDArray[np.floating],
    percent: float,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """A percentile (linear interpolation) with its percentile-bootstrap interval.

    Args:
        samples: (n,) finite values in any unit, n ≥ 1.
        percent: 0 to 100.
        confidence: coverage aimed at, in (0, 1).
        resamples: bootstrap draws; the result is a function of the arguments alone.
        seed: of the bootstrap.

    Raises:
        ValueError: no samples, one that is not finite, or an argument out of range.

    Source: B. Efron and R. Tibshirani (1993), "An Introduction to the Bootstrap", chapter 13.
    """
    values = np.asarray(samples, dtype=np.float64).ravel()
    if not len(values) or not np.isfinite(values).all():
        raise ValueError("a percentile needs at least one sample, all of them finite")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent is {percent}, not 0 to 100")
    _quantile(confidence)
    rng = np.random.default_rng(seed)
    tail = 50 * (1 - confidence)
    draws = np.empty(resamples)
    for i in range(resamples):  # one draw at a time: memory stays at n, not n × resamples
        draws[i] = np.percentile(values[rng.integers(len(values), size=len(values))], percent)
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Interval(float(np.percentile(values, percent)), float(low), float(high))


def _quantile(confidence: float) -> float:
    if not (isfinite(confidence) and 0 < confidence < 1):
        raise ValueError(f"confidence is {confidence}, not inside (0, 1)")
    return NormalDist().inv_cdf((1 + confidence) / 2)
