"""Held-out episodes decide how far a fit goes: few transitions are not learned by heart, and many are used."""

import copy

import pytest
import torch
from torch import Tensor

from calibration.adapter_fit import Calibrated, FitConfig, Windows, fit
from calibration.prediction import predict_held_out
from tests.recovery.test_posterior import SIZES, U, calibrated

FIT = FitConfig(steps=240, batch=16, rollout_steps=2, learning_rate=5e-3, dynamics_learning_rate=5e-3, noise=0.0)
ROWS, NOISE = 25, 0.2


def log(episodes: int, seed: int) -> tuple[Windows, Tensor]:
    """A body whose joints follow its commands, and latents that show them, with noise that no model can know."""
    generator = torch.Generator().manual_seed(seed)
    dim = SIZES.encoder.latent_dim
    shown = torch.randn(2 * U, dim, generator=torch.Generator().manual_seed(99)) / 2
    chunks = torch.randn(episodes, ROWS, U, generator=generator).clamp(-1, 1)
    joints = torch.zeros(episodes, ROWS, U)
    for row in range(1, ROWS):
        joints[:, row] = 0.8 * joints[:, row - 1] + 0.6 * torch.sin(2 * chunks[:, row - 1])
    proprio = torch.cat([joints, torch.zeros_like(joints)], dim=2).flatten(0, 1)
    latents = torch.tanh(proprio @ shown) + NOISE * torch.randn(len(proprio), dim, generator=generator)
    length = SIZES.history + FIT.rollout_steps
    first = (torch.arange(episodes)[:, None] * ROWS + torch.arange(ROWS - length + 1)).flatten()
    rows = first[:, None] + torch.arange(length)
    return Windows(
        torch.zeros(len(latents), 1), proprio, chunks.flatten(0, 1), torch.zeros(len(latents), U), rows
    ), latents


def fitted(of: Calibrated, episodes: int, watched: bool) -> float:
    """Error on episodes that nothing was chosen on, after a fit that held-out ones stop, or do not."""
    (windows, latents), (unseen, others), (judged, last) = log(episodes, 1), log(8, 2), log(40, 3)

    def judge(_: Tensor) -> float:
        return float(predict_held_out(of, unseen, 1, others).error_K.mean())

    fit(of, windows, FIT, False, 0, lambda **_: None, latents, judge if watched else None)
    return float(predict_held_out(of, judged, 1, last).error_K.mean())


@pytest.mark.slow
def test_fifty_transitions_are_not_learned_by_heart_and_thousands_are_used() -> None:
    start = calibrated()
    stopped = fitted(copy.deepcopy(start), 2, watched=True)
    to_the_end = fitted(copy.deepcopy(start), 2, watched=False)
    assert stopped <= 1.02 * to_the_end, "stopping costs nothing where there is little"
    many = fitted(copy.deepcopy(start), 200, watched=True)
    some = fitted(copy.deepcopy(start), 20, watched=True)
    assert some < 0.85 * stopped and many < 0.93 * some
