"""SIGReg against an independent float64 implementation; what each term answers to."""

import numpy as np
import pytest
import torch

from robot_wm.training.losses import bottleneck, sigreg, squared_error


def _sigreg_reference(z: np.ndarray, directions: np.ndarray) -> float:
    """Epps–Pulley by direct summation over samples, directions and quadrature points."""
    t = np.linspace(-5, 5, 17)
    total = 0.0
    for direction in directions.T:
        values = []
        for point in t:
            characteristic = np.mean(np.exp(1j * point * (z @ direction)))
            values.append(abs(characteristic - np.exp(-(point**2) / 2)) ** 2 * np.exp(-(point**2) / 2))
        total += sum((values[i] + values[i + 1]) / 2 * (t[i + 1] - t[i]) for i in range(len(t) - 1))
    return total / directions.shape[1]


def _directions(dim: int, count: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(dim, count, dtype=torch.float64), dim=0)


def test_sigreg_equals_float64_reference() -> None:
    torch.manual_seed(0)
    z, directions = torch.randn(50, 6, dtype=torch.float64) * 1.7 + 0.3, _directions(6, 5)
    assert float(sigreg(z, directions)) == pytest.approx(_sigreg_reference(z.numpy(), directions.numpy()), abs=1e-12)


def test_sigreg_prefers_the_gaussian() -> None:
    torch.manual_seed(0)
    directions = _directions(2, 64)
    gaussian = torch.randn(2000, 2, dtype=torch.float64)
    collapsed, scaled, two_lumps = 0.01 * gaussian, 3 * gaussian, gaussian.sign() + 0.05 * gaussian
    best = sigreg(gaussian, directions)
    assert all(sigreg(other, directions) > 10 * best for other in (collapsed, scaled, two_lumps))


def test_sigreg_does_not_grow_with_the_batch() -> None:
    torch.manual_seed(0)
    directions, shifted = _directions(4, 64), torch.randn(4000, 4, dtype=torch.float64) + 1
    assert float(sigreg(shifted, directions)) == pytest.approx(float(sigreg(shifted[:1000], directions)), rel=0.1)


def test_sigreg_gradient() -> None:
    torch.manual_seed(0)
    z = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    directions = _directions(3, 4)
    assert torch.autograd.gradcheck(lambda x: sigreg(x, directions), (z,))


def test_bottleneck_is_zero_for_the_prior_and_matches_torch() -> None:
    mean, log_std = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    assert float(bottleneck(mean, log_std)) == 0
    mean, log_std = torch.tensor([[0.5, -1.0]]), torch.tensor([[-1.0, 0.3]])
    wanted = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, log_std.exp()), torch.distributions.Normal(0.0, 1.0)
    ).sum()
    assert float(bottleneck(mean, log_std)) == pytest.approx(float(wanted), rel=1e-6)


def test_squared_error_passes_over_the_unknown() -> None:
    predicted = torch.tensor([[1.0, 5.0], [2.0, 2.0]], requires_grad=True)
    target = torch.tensor([[0.0, float("nan")], [2.0, float("nan")]])
    loss = squared_error(predicted, target)
    assert float(loss.detach()) == 0.5
    loss.backward()
    assert predicted.grad is not None and torch.isfinite(predicted.grad).all() and (predicted.grad[:, 1] == 0).all()
    assert float(squared_error(predicted, torch.full((2, 2), float("nan")))) == 0
