"""Samplers: how candidates are drawn, and what is learned from their costs. All take standard normal noise as an input.

A search starts from a belief, and goes through `sample` and `update` once per iteration; the mean of the last belief is
the plan. Kept plans are always among the next candidates.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from robot_wm.contracts.errors import UserError


class Belief(NamedTuple):
    """What a search believes of the best plan: a Gaussian, and plans that are worth trying again."""

    mean_BHU: Tensor
    std_BHU: Tensor
    kept_BKHU: Tensor


@dataclass(frozen=True)
class CEM:
    """Cross-entropy method (Rubinstein, "The cross-entropy method", 1999): refit mean and deviation to the elites.

    Few elites: with few iterations the first command is only as exact as the last refit.

    Attributes:
        elites: candidates that are kept.
        initial_std, minimum_std: deviation in plan units, of the first draw and at least.
    """

    kind: Literal["cem"] = "cem"
    elites: int = 6
    initial_std: float = 0.6
    minimum_std: float = 0.02
    descends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check(self, self.elites >= 2 and 0 < self.minimum_std <= self.initial_std, _ELITES)

    def sample(self, belief: Belief, noise_BNHU: Tensor) -> Tensor:
        """Candidates (B, N, H, U) in [-1, 1]; the first ones are those kept."""
        return _draw(belief, noise_BNHU)

    def update(self, belief: Belief, plans_BNHU: Tensor, cost_BN: Tensor, slope_BNHU: Tensor | None) -> Belief:
        """The belief after the costs of the candidates are known."""
        elites_BEHU = _best(plans_BNHU, cost_BN, self.elites)
        mean_BHU, std_BHU = _fit(elites_BEHU)
        return Belief(mean_BHU, std_BHU.clamp(min=self.minimum_std), mean_BHU[:, None])


@dataclass(frozen=True)
class ICEM:
    """Improved cross-entropy method (Pinneri et al., arXiv:2008.06389): coloured noise, and elites that stay.

    Attributes:
        elites, initial_std, minimum_std: as of the cross-entropy method.
        kept: elites that are candidates again in the next iteration.
        colour: exponent of the noise's spectrum over the steps of a plan, 1 / frequency ^ colour; 0 is white.
    """

    kind: Literal["icem"] = "icem"
    elites: int = 6
    initial_std: float = 0.6
    minimum_std: float = 0.02
    kept: int = 2
    colour: float = 2.0
    descends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check(self, self.elites >= 2 and 0 < self.minimum_std <= self.initial_std, _ELITES)
        _check(self, 0 <= self.kept <= self.elites and self.colour >= 0, "0 ≤ kept ≤ elites, colour ≥ 0")

    def sample(self, belief: Belief, noise_BNHU: Tensor) -> Tensor:
        """Candidates (B, N, H, U) in [-1, 1]; the first ones are those kept."""
        mix_HH = torch.from_numpy(colouring(noise_BNHU.shape[2], self.colour)).to(noise_BNHU)
        return _draw(belief, torch.einsum("hg,bngu->bnhu", mix_HH, noise_BNHU))

    def update(self, belief: Belief, plans_BNHU: Tensor, cost_BN: Tensor, slope_BNHU: Tensor | None) -> Belief:
        """The belief after the costs of the candidates are known."""
        elites_BEHU = _best(plans_BNHU, cost_BN, self.elites)
        mean_BHU, std_BHU = _fit(elites_BEHU)
        kept_BKHU = torch.cat([mean_BHU[:, None], elites_BEHU[:, : self.kept]], dim=1)
        return Belief(mean_BHU, std_BHU.clamp(min=self.minimum_std), kept_BKHU)


@dataclass(frozen=True)
class MPPI:
    """Model-predictive path integral control (Williams et al., arXiv:1509.01149): a mean weighted by exp(-cost).

    Attributes:
        temperature: in units of the mean cost above the best one, so that it suits any objective. Differences of less
            than a hundredth of the cost itself count little: they would be the model's noise, and rounding's.
        initial_std: deviation of the first draw in plan units.
        shrink: factor of the deviation from one iteration to the next.
    """

    kind: Literal["mppi"] = "mppi"
    temperature: float = 0.1
    initial_std: float = 0.6
    shrink: float = 0.4
    descends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        valid = self.temperature > 0 and self.initial_std > 0 and 0 < self.shrink <= 1
        _check(self, valid, "temperature > 0, initial_std > 0, 0 < shrink ≤ 1")

    def sample(self, belief: Belief, noise_BNHU: Tensor) -> Tensor:
        """Candidates (B, N, H, U) in [-1, 1]; the first ones are those kept."""
        return _draw(belief, noise_BNHU)

    def update(self, belief: Belief, plans_BNHU: Tensor, cost_BN: Tensor, slope_BNHU: Tensor | None) -> Belief:
        """The belief after the costs of the candidates are known."""
        above_BN = cost_BN - cost_BN.amin(1, keepdim=True)
        scale_B1 = self.temperature * above_BN.mean(1, keepdim=True) + 0.01 * cost_BN.abs().mean(1, keepdim=True)
        weight_BN = torch.softmax(-above_BN / (scale_B1 + 1e-9), dim=1)
        mean_BHU = (weight_BN[:, :, None, None] * plans_BNHU).sum(1)
        return Belief(mean_BHU, belief.std_BHU * self.shrink, mean_BHU[:, None])


@dataclass(frozen=True)
class Gradient:
    """Descent along the model's own gradient, from several starts at once; few candidates are enough.

    A step has the same length whatever the objective's scale: each plan's steepest entry moves by `initial_std`.

    Attributes:
        initial_std: deviation of the starts, and length of the first step, in plan units.
        shrink: factor of the step from one iteration to the next.
    """

    kind: Literal["gradient"] = "gradient"
    initial_std: float = 0.6
    shrink: float = 0.6
    descends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self, self.initial_std > 0 and 0 < self.shrink <= 1, "initial_std > 0, 0 < shrink ≤ 1")

    def sample(self, belief: Belief, noise_BNHU: Tensor) -> Tensor:
        """Candidates (B, N, H, U) in [-1, 1]; the first ones are those kept."""
        return _draw(belief, noise_BNHU)

    def update(self, belief: Belief, plans_BNHU: Tensor, cost_BN: Tensor, slope_BNHU: Tensor | None) -> Belief:
        """The belief after costs and slopes of the candidates are known."""
        assert slope_BNHU is not None
        steepest_BN11 = slope_BNHU.abs().amax((2, 3), keepdim=True)
        step_BNHU = belief.std_BHU[:, None] * slope_BNHU / (steepest_BN11 + 1e-12)
        moved_BNHU = (plans_BNHU - step_BNHU).clamp(-1, 1)
        return Belief(_best(moved_BNHU, cost_BN, 1)[:, 0], belief.std_BHU * self.shrink, moved_BNHU)


Sampler = CEM | ICEM | MPPI | Gradient
_ELITES = "elites ≥ 2, 0 < minimum_std ≤ initial_std"


def colouring(steps: int, exponent: float) -> np.ndarray:
    """The matrix (H, H) that turns white noise over H steps into noise of spectrum 1 / frequency ^ exponent.

    Every step keeps unit variance. The spectrum is that of a period of 2 H steps.
    """
    frequency = np.arange(1, steps + 1) / (2 * steps)
    power = frequency**-exponent / (frequency**-exponent).sum()
    apart = np.abs(np.subtract.outer(np.arange(steps), np.arange(steps)))
    covariance = (power * np.cos(2 * np.pi * frequency * apart[..., None])).sum(-1)
    if exponent == 0:
        covariance = np.eye(steps)
    return np.linalg.cholesky(covariance + 1e-9 * np.eye(steps)).astype(np.float32)


def _draw(belief: Belief, noise_BNHU: Tensor) -> Tensor:
    spread = (belief.mean_BHU[:, None] + belief.std_BHU[:, None] * noise_BNHU).clamp(-1, 1)
    kept_BKHU = belief.kept_BKHU[:, : noise_BNHU.shape[1]]
    return torch.cat([kept_BKHU, spread[:, kept_BKHU.shape[1] :]], dim=1)


def _best(plans_BNHU: Tensor, cost_BN: Tensor, count: int) -> Tensor:
    """The cheapest plans (B, count, H, U), the best first."""
    index_BK = torch.topk(cost_BN, count, dim=1, largest=False).indices
    return torch.gather(plans_BNHU, 1, index_BK[:, :, None, None].expand(-1, -1, *plans_BNHU.shape[2:]))


def _fit(elites_BEHU: Tensor) -> tuple[Tensor, Tensor]:
    mean_BHU = elites_BEHU.mean(dim=1)
    return mean_BHU, (elites_BEHU - mean_BHU[:, None]).square().mean(dim=1).sqrt()


def _check(sampler: object, valid: bool, wanted: str) -> None:
    if not valid:
        raise UserError(f"sampler is {sampler}", wanted)
