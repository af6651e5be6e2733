"""Every sampler finds the best plan of a bowl, from few candidates, in every problem of a batch on its own."""

import numpy as np
import pytest
import torch
from torch import Tensor

from robot_wm.contracts.config import from_mapping
from robot_wm.contracts.errors import UserError
from robot_wm.planning.planner import PlannerConfig
from robot_wm.planning.samplers import CEM, ICEM, MPPI, Belief, Gradient, Sampler, colouring

SAMPLERS: list[Sampler] = [CEM(), ICEM(), MPPI(), Gradient()]
BEST_BHU = torch.tensor([0.7, -0.4, 0.1]).reshape(3, 1, 1).expand(3, 4, 2)


def cost(plans_BNHU: Tensor, best_BHU: Tensor) -> Tensor:
    return (plans_BNHU - best_BHU[:, None]).square().sum((2, 3))


def search(sampler: Sampler, best_BHU: Tensor, noise_BINHU: Tensor) -> Tensor:
    rest_BHU = torch.zeros_like(best_BHU)
    belief = Belief(rest_BHU, torch.full_like(rest_BHU, sampler.initial_std), rest_BHU[:, None])
    for noise_BNHU in noise_BINHU.unbind(dim=1):
        plans_BNHU = sampler.sample(belief, noise_BNHU)
        assert plans_BNHU.shape == noise_BNHU.shape
        assert (plans_BNHU.abs() <= 1).all()
        assert torch.equal(plans_BNHU[:, : belief.kept_BKHU.shape[1]], belief.kept_BKHU), "kept plans come first"
        slope_BNHU = 2 * (plans_BNHU - best_BHU[:, None]) if sampler.descends else None
        belief = sampler.update(belief, plans_BNHU, cost(plans_BNHU, best_BHU), slope_BNHU)
    return belief.mean_BHU


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.kind)
def test_finds_the_best_plan(sampler: Sampler) -> None:
    noise = torch.randn(3, 6, 128, 4, 2, generator=torch.Generator().manual_seed(0))
    found = search(sampler, BEST_BHU, noise)
    assert (found - BEST_BHU).square().mean(dim=(1, 2)).sqrt().max() < 0.15
    alone = search(sampler, BEST_BHU[1:2], noise[1:2])
    assert torch.allclose(alone[0], found[1], atol=1e-6), "a batch is its members"


def test_coloured_noise_is_slow_and_of_unit_variance() -> None:
    white = np.random.default_rng(0).standard_normal((20_000, 8)).astype(np.float32)
    for exponent, least in ((0.0, -0.02), (1.0, 0.2), (2.0, 0.6)):
        drawn = white @ colouring(8, exponent).T
        assert drawn.var(axis=0) == pytest.approx(np.ones(8), abs=0.05)
        assert (drawn[:, 1:] * drawn[:, :-1]).mean() > least


def test_a_better_first_guess_is_not_lost() -> None:
    """A plan that is kept and cannot be beaten by few candidates stays among the elites."""
    rest_BHU, noise = torch.zeros(1, 4, 2), torch.randn(1, 8, 4, 2, generator=torch.Generator().manual_seed(0))
    for sampler in (ICEM(elites=2, kept=2), ICEM(elites=2, kept=1)):
        belief = Belief(rest_BHU, torch.ones(1, 4, 2), torch.stack([rest_BHU, BEST_BHU[:1]], dim=1))
        plans = sampler.sample(belief, noise)
        updated = sampler.update(belief, plans, cost(plans, BEST_BHU[:1]), None)
        assert torch.equal(updated.kept_BKHU[:, 1], BEST_BHU[:1]), "behind the mean, the best one comes first"


def test_a_config_chooses_by_kind() -> None:
    assert from_mapping(PlannerConfig, {"sampler": {"kind": "mppi", "shrink": 0.5}}).sampler == MPPI(shrink=0.5)
    assert from_mapping(PlannerConfig, {"sampler": {"elites": 4}}).sampler == CEM(elites=4)
    with pytest.raises(UserError, match=r"sampler.kind is 'annealing'.*cem, icem, mppi, gradient"):
        from_mapping(PlannerConfig, {"sampler": {"kind": "annealing"}})
    with pytest.raises(UserError, match=r"unknown key 'elites'.*temperature"):
        from_mapping(PlannerConfig, {"sampler": {"kind": "mppi", "elites": 4}})


@pytest.mark.parametrize(
    ("kind", "values"),
    [(CEM, {"elites": 1}), (ICEM, {"kept": 9}), (ICEM, {"colour": -1.0}), (MPPI, {"temperature": 0.0}),
     (Gradient, {"shrink": 1.5})],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused(kind: type[Sampler], values: dict[str, float]) -> None:
    with pytest.raises(UserError, match="sampler is"):
        kind(**values)
