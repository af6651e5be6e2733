"""Commands between two pictures are found again where pictures show the joints, and left to habit where they do not."""

import torch

from calibration.response_fit import settle
from deploy.bench import retrieval
from tests.recovery.test_feedback import NAMES, leaning, log

AHEAD = 2


def found(misread: float) -> tuple[float, float, float]:
    """Errors of the plan, of habit, and of the nearest neighbour's changes; latents are joints, misread so far."""
    calibrated = leaning()
    (fitted, latents), (unseen, _) = log(0), log(1)
    settle(calibrated, NAMES, latents, fitted, unseen)
    body, parts = calibrated.body, []
    for seed in (2, 3, 4):
        windows, _ = log(seed)
        noise = misread * torch.randn(windows.proprio.shape, generator=torch.Generator().manual_seed(seed))
        parts.append(retrieval.pairs(windows, windows.proprio + noise, body, AHEAD))
    known, unfitted, asked = parts
    moving = torch.tensor([True, True])
    plan, habit = (
        retrieval.error_rad(retrieval.commanded(body, plan_WHU, asked.reference_WU), asked, moving)
        for plan_WHU in retrieval.planned(body, known, unfitted, asked)
    )
    return plan, habit, retrieval.error_rad(retrieval.copied_from(known, asked, True), asked, moving)


def test_commands_are_found_again_where_pictures_show_the_joints() -> None:
    plan, habit, neighbour = found(misread=0.0)
    assert plan < 0.75 * habit
    assert plan < 0.75 * neighbour


def test_pictures_that_show_nothing_do_no_harm() -> None:
    plan, habit, neighbour = found(misread=5.0)
    assert plan < 1.1 * habit
    assert plan < neighbour
