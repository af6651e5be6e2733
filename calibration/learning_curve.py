"""How much more data would help: short fits to a part of the log, a larger one and all of it, and where that leads."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.adapter_fit import make_windows
from calibration.candidate import Ground, Kind, fit_candidate
from calibration.prediction import predict_held_out

_SHARES = (0.25, 0.5, 1.0)
FITS = len(_SHARES)
_AHEAD = (2, 4)  # times as much data
_DRAWS, _BLOCKS = 400, 12  # of the bootstrap: windows next to each other are alike, and are drawn together


@dataclass(frozen=True)
class Forecast:
    """The error [unit of proprio] to expect with so many transitions, and its 95 % interval."""

    transitions: int
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class LearningCurve:
    """Held-out error, mean over the steps ahead, of fits that differ in nothing but the data.

    Attributes:
        transitions, error: of each fit.
        steps: optimizer steps of each.
        forecasts: by a power law through them; its interval is of the held-out windows' choice alone.
    """

    transitions: tuple[int, ...]
    error: tuple[float, ...]
    steps: int
    forecasts: tuple[Forecast, ...]

    @property
    def advice(self) -> str:
        """What to do, in words."""
        last, twice = self.error[-1], self.forecasts[0]
        gain = 1 - twice.error / last
        if gain < 0.05:
            return "More data of this kind would hardly help: record other motions, or look at what limits the error."
        sure = "" if twice.high < last else ", which this log does not show for certain"
        return f"Twice as much data would lower the error by about {100 * gain:.0f} %{sure}."


def learn(
    ground: Ground,
    kind: Kind,
    used: NDArray[np.integer],
    held_out: NDArray[np.integer],
    steps: int,
    log: Callable[..., None],
) -> LearningCurve | None:
    """Fit to the first quarter, half and all of the episodes; None where there are too few of them."""
    counts = sorted({max(1, round(share * len(used))) for share in _SHARES})
    if len(counts) < len(_SHARES):
        return None
    unseen = make_windows(ground.transitions, ground.window, held_out)
    squares, num = [], []
    for count in counts:
        part = used[:count]
        candidate = fit_candidate(ground, kind, part, log, steps)
        squares.append(predict_held_out(candidate.calibrated, unseen, 1, candidate.latents).square_WK)
        lengths = np.bincount(ground.transitions.episode_F)[part]
        num.append(int((np.maximum(lengths - 1, 0) // ground.transitions.skip).sum()))
    return _curve(np.array(num), np.stack(squares), steps, ground.seed)


def _curve(num_C: NDArray[np.int64], squares_CWK: NDArray[np.float64], steps: int, seed: int) -> LearningCurve:
    rng = np.random.default_rng(seed)
    blocks = np.array_split(np.arange(squares_CWK.shape[1]), min(_BLOCKS, squares_CWK.shape[1]))

    def error(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(np.sqrt(squares_CWK[:, rows].mean(axis=1)).mean(axis=1))

    def beyond(error_C: NDArray[np.float64]) -> NDArray[np.float64]:
        slope = min(float(np.polyfit(np.log(num_C), np.log(error_C), 1)[0]), 0.0)  # more data do no harm
        last = np.log(error_C).mean() - slope * np.log(num_C).mean()
        return np.exp(last + slope * np.log(num_C[-1] * np.array(_AHEAD)))

    whole = error(np.arange(squares_CWK.shape[1]))
    draws = [
        beyond(error(np.concatenate([blocks[b] for b in rng.integers(len(blocks), size=len(blocks))])))
        for _ in range(_DRAWS)
    ]
    low, high = np.quantile(draws, (0.025, 0.975), axis=0)
    forecasts = tuple(
        Forecast(int(num_C[-1] * n), *map(float, values))
        for n, *values in zip(_AHEAD, beyond(whole), low, high, strict=True)
    )
    return LearningCurve(tuple(num_C.tolist()), tuple(whole.tolist()), steps, forecasts)
