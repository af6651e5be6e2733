"""Linear probes: what is there linearly is found, what is not is not."""

import pytest
import torch

from robot_wm.evaluation.probes import fit_probe, judge


def test_a_linear_relation_is_found_and_unknown_targets_are_passed_over() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(400, 6, generator=generator)
    weight, offset = torch.randn(6, 3, generator=generator), torch.tensor([1.0, -2.0, 3.0])
    targets = features @ weight + offset
    targets[::3] = float("nan")
    probe = fit_probe(features[:200], targets[:200], ridge=1e-6)
    torch.testing.assert_close(probe.weight_DK, weight, atol=1e-3, rtol=0)
    found = judge(probe(features[200:]), targets[200:])
    assert found.r2 > 0.999
    assert min(found.r2_K) > 0.999
    assert found.median < 0.01


def test_noise_explains_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    features, targets = torch.randn(600, 8, generator=generator), torch.randn(600, 2, generator=generator)
    found = judge(fit_probe(features[:400], targets[:400])(features[400:]), targets[400:])
    assert found.r2 < 0.1


def test_no_known_target_is_refused() -> None:
    with pytest.raises(ValueError, match="no target"):
        fit_probe(torch.randn(4, 2), torch.full((4, 1), float("nan")))
