"""How surely a fit knows its parameters: intervals, bounds, and what cannot be told apart."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from mujoco import sysid
from numpy.typing import NDArray

from calibration.parameters import Parameter
from calibration.signals import Array

_UNSURE = 0.5  # a 95 % interval wider than this share of the value, either side, says that the log is silent about it
_TWINS = 0.98  # correlation of two estimates beyond which the log cannot tell them apart


class Estimate(NamedTuple):
    """One identified parameter, in its own unit."""

    name: str
    value: float
    nominal: float
    interval: float  # half-width of the 95 % interval
    unit: str
    bound: str  # "low", "high" or ""
    identifiable: bool


def judge(
    parameters: Sequence[Parameter], values: Array, jacobian: Array, error_MJ: Array, use_MJ: NDArray[np.bool_]
) -> tuple[tuple[Estimate, ...], tuple[tuple[str, ...], ...], Array]:
    """Intervals, bounds, and what cannot be told apart.

    Args:
        parameters: what was fitted.
        values: the optimum.
        jacobian: there, of the residuals in units of their deviation by the values in units of their scale.
        error_MJ: those residuals.
        use_MJ: which of them count.

    Returns:
        The estimates, groups of parameters that cannot be separated, and the covariance (NaN where on a bound).
    """
    residual = error_MJ[use_MJ]
    spread = float(np.median(np.abs(residual))) / 0.6745
    residual = np.clip(residual, -3 * spread, 3 * spread)  # outliers are no noise
    scale = np.array([p.scale for p in parameters])
    on_low = np.array([v - p.low <= 1e-3 * (p.high - p.low) for v, p in zip(values, parameters, strict=True)])
    on_high = np.array([p.high - v <= 1e-3 * (p.high - p.low) for v, p in zip(values, parameters, strict=True)])
    free = ~(on_low | on_high) & (np.linalg.norm(jacobian, axis=0) > 0)
    interval = np.full(len(values), np.inf)
    covariance = np.full((len(values), len(values)), np.nan)
    if free.any():
        inflation = _repeats(np.where(use_MJ, error_MJ, 0.0))
        sigma, half = sysid.calculate_intervals([residual], jacobian[:, free])
        interval[free] = half * np.sqrt(inflation) * scale[free]
        covariance[np.ix_(free, free)] = sigma * inflation * np.outer(scale[free], scale[free])
    estimates = tuple(
        Estimate(
            p.name, float(v), p.nominal, float(w), p.unit, "low" if lo else "high" if hi else "",
            bool(w < _UNSURE * max(abs(v), 0.05 * (p.high - p.low))),
        )
        for p, v, w, lo, hi in zip(parameters, values, interval, on_low, on_high, strict=True)
    )  # fmt: skip
    return estimates, _confused(parameters, covariance, free), covariance


def _repeats(error_MJ: Array) -> float:
    """How many samples in a row say the same: the integrated autocorrelation time of the residuals [samples]."""
    times = []
    for column in error_MJ.T:
        centred = column - column.mean()
        power = np.abs(np.fft.rfft(centred, 2 * len(centred))) ** 2
        correlation = np.fft.irfft(power)[: len(centred)] / max(float(centred @ centred), 1e-12)
        ends = np.flatnonzero(correlation < 0.05)
        times.append(1 + 2 * correlation[1 : ends[0]].sum() if len(ends) else len(centred))
    return max(1.0, float(np.median(times)))


def _confused(parameters: Sequence[Parameter], covariance: Array, free: NDArray) -> tuple[tuple[str, ...], ...]:
    """Groups of parameters whose estimates move together: their sum or ratio is known, the single values are not."""
    names = [p.name for p, f in zip(parameters, free, strict=True) if f]
    inner = covariance[np.ix_(free, free)]
    deviation = np.sqrt(np.maximum(np.diag(inner), 1e-300))
    linked = np.abs(inner / np.outer(deviation, deviation)) > _TWINS
    groups, seen = [], set()
    for i in range(len(names)):
        if i in seen:
            continue
        group, queue = {i}, [i]
        while queue:
            for j in np.flatnonzero(linked[queue.pop()]):
                if int(j) not in group:
                    group.add(int(j))
                    queue.append(int(j))
        seen |= group
        if len(group) > 1:
            groups.append(tuple(names[j] for j in sorted(group)))
    return tuple(groups)
