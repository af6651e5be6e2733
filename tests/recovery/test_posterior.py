"""A calibrated model is unsure where it is wrong: away from the log more than in it, and as much as it says."""

import torch
from torch import Tensor

from calibration.adapter_fit import Calibrated, Windows
from calibration.posterior_fit import Certainty, fit_posterior
from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.models.adapter import Adapter, AdapterConfig, ProprioHead
from robot_wm.models.body import Body
from robot_wm.models.dynamics import DynamicsConfig
from robot_wm.models.encoder import EncoderConfig
from robot_wm.models.world_model import WorldModel, WorldModelConfig

SIZES = WorldModelConfig(
    EncoderConfig(size=32, channels=(8, 8, 8), blocks=1, keypoints=4, grid_channels=1), DynamicsConfig(48, 1), 3
)
EPISODES, ROWS, U = 12, 60, 2


def calibrated() -> Calibrated:
    torch.manual_seed(0)
    model, dim = WorldModel(SIZES).eval(), SIZES.encoder.latent_dim
    space = CommandSpace("joint_velocity", ("a", "b"), "rad/s", (-1.0,) * U, (1.0,) * U, (2.0,) * U, 1, 5.0)
    adapter = Adapter(AdapterConfig(16, 4), U, 2 * U, dim, SIZES.action_dim)
    position = torch.tensor([1.0] * U + [0.0] * U)
    body = Body(
        model.dynamics, adapter, ProprioHead(dim, 2 * U), space, torch.zeros(2 * U), torch.ones(2 * U), position
    )
    return Calibrated(model, body).eval()


def log(of: Calibrated, spread: float, seed: int) -> tuple[Windows, Tensor]:
    """Latents that wander, and next ones whose error grows with how far the features are from the usual."""
    generator = torch.Generator().manual_seed(seed)
    num, dim = EPISODES * ROWS, SIZES.encoder.latent_dim
    size = spread * (0.3 + torch.rand(num, 1, generator=generator))
    latents = size * torch.randn(num, dim, generator=generator)
    chunks = torch.randn(num, U, generator=generator).clamp(-1, 1)
    proprio = torch.randn(num, 2 * U, generator=generator)
    rows = torch.cat([torch.arange(e * ROWS, (e + 1) * ROWS - 2)[:, None] + torch.arange(3) for e in range(EPISODES)])
    return Windows(torch.zeros(num, 1), proprio, chunks, torch.zeros(num, U), rows), latents


def predicted(of: Calibrated, windows: Windows, latents: Tensor) -> tuple[Tensor, Tensor]:
    rows = windows.rows
    now = of.body.observe(latents[rows[:, :2]], of.body.standardize(windows.proprio[rows[:, 1]]))
    then, log_error = of.body.imagine(now, windows.chunks[rows[:, 1]], windows.reference[rows[:, 1]])
    return (then.history_BTD[:, -1] - latents[rows[:, 2]]).square().mean(-1), log_error


def settled() -> tuple[Calibrated, Certainty]:
    of = calibrated()
    seen, latents = log(of, 1.0, seed=1)
    count = len(seen.rows) * 2 // 3
    fitted, unseen = (
        Windows(seen.frames, seen.proprio, seen.chunks, seen.reference, rows)
        for rows in (seen.rows[:count], seen.rows[count:])
    )
    return of, fit_posterior(of, fitted, unseen, latents)


@torch.no_grad()
def test_errors_stay_below_their_bound_as_often_as_they_should_and_the_unsure_ones_are_the_large_ones() -> None:
    of, found = settled()
    assert abs(found.coverage - 0.9) < 0.06
    assert found.tells > 0.7 and found.least_sure > 1.3 * found.surest
    windows, latents = log(of, 1.0, seed=2)
    error, log_error = predicted(of, windows, latents)
    assert 0.8 < float((error / log_error.exp()).mean()) < 1.25, "on another log, too"


@torch.no_grad()
def test_it_is_less_sure_away_from_the_log() -> None:
    of, _ = settled()
    expected = [float(predicted(of, *log(of, spread, seed=3))[1].exp().mean()) for spread in (1.0, 2.0, 4.0)]
    assert expected[0] * 1.5 < expected[1] and expected[1] * 1.5 < expected[2]
