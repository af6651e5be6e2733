"""A low-rank update of the dynamics finds a low-rank change from few transitions, and leaves ordinary weights."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from calibration.adapter_fit import FitConfig, fit
from calibration.low_rank import low_rank
from robot_wm.contracts.errors import UserError
from tests.recovery.test_capacity import FIT, log
from tests.recovery.test_posterior import SIZES, calibrated

RANK, CHANGED = 2, 12.0


@pytest.mark.parametrize("encoder", [False, True])
def test_a_fit_changes_matrices_by_that_rank_and_leaves_an_ordinary_model(encoder: bool) -> None:
    of = calibrated()
    before = copy.deepcopy(of.model.dynamics.state_dict())
    windows, latents = log(3, 1)
    config = replace(FIT, steps=12, batch=8, dynamics_rank=RANK)
    if encoder:  # pictures of noise: what matters is which weights move
        windows = replace(windows, frames=torch.randint(0, 256, (len(latents), 32, 32, 3), dtype=torch.uint8))
        config = replace(config, encoder_steps=2, encoder_batch=4, steps=2)
    fit(of, windows, config, False, 0, lambda **_: None, None if encoder else latents)
    after = of.model.dynamics.state_dict()
    assert sorted(after) == sorted(before) and all(p.requires_grad for p in of.model.parameters())
    change = {name: after[name] - before[name] for name in after}
    phases = 2 if encoder else 1
    wide = [d for d in change.values() if d.ndim == 2 and min(d.shape) > RANK]
    assert len(wide) >= 3
    for each in wide:
        sizes = torch.linalg.svdvals(each)
        assert sizes[0] > 1e-4 and (sizes[phases * RANK :] < 1e-3 * sizes[0]).all()
    assert change["outputs.bias"].abs().max() > 0


def test_a_hidden_change_of_low_rank_comes_back_from_fewer_transitions() -> None:
    """The same steps in full learn the few by heart."""
    dynamics = calibrated().model.dynamics
    with torch.no_grad():
        dynamics.outputs.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(3))
    hidden = copy.deepcopy(dynamics)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for layer in (hidden.inputs, hidden.outputs):
            rows, columns = layer.weight.shape
            pair = torch.randn(rows, 1, generator=generator), torch.randn(1, columns, generator=generator)
            layer.weight += CHANGED / (rows * columns) ** 0.5 * pair[0] @ pair[1] / 4
    start = _error(dynamics, hidden, 5)
    update, full = _fitted(dynamics, hidden, RANK), _fitted(dynamics, hidden, 0)
    assert _error(update, hidden, 5) < 0.3 * start
    assert _error(update, hidden, 5) < 0.8 * _error(full, hidden, 5)


def test_a_rank_below_zero_is_refused() -> None:
    with pytest.raises(UserError, match="dynamics_rank"):
        FitConfig(dynamics_rank=-1)


def _samples(num: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    histories = torch.randn(num, SIZES.history, SIZES.encoder.latent_dim, generator=generator)
    return histories, torch.tanh(torch.randn(num, SIZES.action_dim, generator=generator))


def _fitted(start: nn.Module, hidden: nn.Module, rank: int) -> nn.Module:
    torch.manual_seed(0)
    found = copy.deepcopy(start)
    inputs = _samples(50, 1)
    with torch.no_grad():
        wanted = hidden(*inputs)[0]
    with low_rank(found, rank):
        optimizer = torch.optim.AdamW(found.parameters(), lr=1e-2, weight_decay=0.05)
        for _ in range(300):
            optimizer.zero_grad()
            (found(*inputs)[0] - wanted).square().mean().backward()
            optimizer.step()
    return found


@torch.no_grad()
def _error(found: nn.Module, hidden: nn.Module, seed: int) -> float:
    inputs = _samples(1000, seed)
    return float((found(*inputs)[0] - hidden(*inputs)[0]).square().mean())
