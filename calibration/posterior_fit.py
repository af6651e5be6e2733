"""Fitting how unsure a calibrated model is, and whether that is so on episodes that neither fit has seen."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from calibration.adapter_fit import Calibrated, Windows
from calibration.threads import one_thread
from robot_wm.evaluation.reliability import auroc
from robot_wm.models.posterior import Posterior

_PRIOR = 0.1  # of the features' mean variance: how sure the last layer is before it has seen the log
_POWERS = (0.0, 2.0)
BOUND = 0.9  # share of errors that are to be below the bound
_WORST = 0.1  # share of errors that count as large


@dataclass(frozen=True)
class Certainty:
    """Whether the model is unsure where it is wrong, on episodes that were not fitted.

    Attributes:
        coverage: share of errors below the bound that nine in ten are to be below; the bound for each part of the
            held-out windows comes from the others.
        tells: how often the model is less sure of one of the worst tenth of its predictions than of another (AUROC;
            one half is chance).
        least_sure, surest: root of the mean squared latent error in the thirds where the model is least and most sure.
        windows: predictions that these rest on.
    """

    coverage: float
    tells: float
    least_sure: float
    surest: float
    windows: int


class _Steps(NamedTuple):
    """One-step predictions: features (W, width), squared errors (W,), and which episode each is of (W,)."""

    feature: Tensor
    error: Tensor
    episode: Tensor


@one_thread()
@torch.no_grad()
def fit_posterior(calibrated: Calibrated, seen: Windows, unseen: Windows, latents: Tensor) -> Certainty:
    """Give the body its posterior; `seen` are the windows of the fit, `unseen` settle scale and power."""
    posterior = Posterior(calibrated.body.dynamics.outputs.in_features)
    known, judged = _steps(calibrated, seen, latents), _steps(calibrated, unseen, latents)
    posterior.mean_W.copy_(known.feature.mean(0))
    away = (known.feature - posterior.mean_W).double()
    values, directions = torch.linalg.eigh(away.T @ away / len(away))
    values, directions = values.flip(0).clamp(min=0), directions.flip(1)
    kept, prior = posterior.precision_R.shape[0], _PRIOR * float(values.mean()) + 1e-12
    posterior.direction_WR.copy_(directions[:, :kept])
    posterior.precision_R.copy_(1 / (values[:kept] + prior))
    posterior.precision_rest.fill_(1 / (float(values[kept:].mean()) + prior) if len(values) > kept else 0.0)
    distance = posterior.distance(judged.feature)
    power, log_scale = _settle(distance, judged.error)
    posterior.power.fill_(power)
    posterior.log_scale.fill_(log_scale)
    calibrated.body.posterior = posterior
    expected, third = posterior(judged.feature), max(1, len(distance) // 3)
    order = expected.argsort()
    surest, least = (float(judged.error[part].mean().sqrt()) for part in (order[:third], order[-third:]))
    worst = judged.error >= torch.quantile(judged.error, 1 - _WORST)
    both = bool(worst.any()) and not bool(worst.all())
    tells = auroc(expected.double().numpy(), worst.numpy(), resamples=1).value if both else 0.5
    return Certainty(_coverage(distance, judged), tells, least, surest, len(distance))


def _steps(calibrated: Calibrated, windows: Windows, latents: Tensor) -> _Steps:
    body, history, rows = calibrated.body, calibrated.model.config.history, windows.rows
    start, z_WLD = rows[:, history - 1], latents[rows[:, : history + 1]]
    now = body.observe(z_WLD[:, :history], body.standardize(windows.proprio[start]))
    action_WA = body.adapter(windows.chunks[start], now.proprio_BP, now.history_BTD[:, -1])
    feature = body.dynamics.features(now.history_BTD, action_WA)
    came = body.dynamics.predict(now.history_BTD, feature) - z_WLD[:, history]
    episode = torch.cumsum(torch.diff(rows[:, 0], prepend=rows[:1, 0]) > 1, 0)  # windows start at every row of one
    return _Steps(feature, came.square().mean(-1), episode)


def _settle(distance: Tensor, error: Tensor) -> tuple[float, float]:
    """Power and scale: least squares of the logarithms, then the scale at which errors are as expected on average."""
    x, y = torch.log(1 + distance).double(), torch.log(error + 1e-12).double()
    spread = float((x - x.mean()).square().mean())
    power = float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread > 1e-12 else 0.0
    power = float(np.clip(power, *_POWERS))
    return power, float((error.double() / torch.exp(power * x)).mean().log())


def _coverage(distance: Tensor, judged: _Steps) -> float:
    """Each held-out episode under the bound of the others; the two halves of one, where there is no other."""
    part = judged.episode
    if len(part.unique()) < 2:
        part = (torch.arange(len(part)) >= len(part) / 2).long()
    below = torch.zeros(len(distance), dtype=torch.bool)
    for one in part.unique():
        of = part == one
        power, log_scale = _settle(distance[~of], judged.error[~of])
        ratio = judged.error / torch.exp(log_scale + power * torch.log(1 + distance))
        below[of] = ratio[of] <= torch.quantile(ratio[~of], BOUND)
    return float(below.float().mean())
