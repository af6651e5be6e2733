"""A response that couples joints is found from a log, and a plan in closed form balances with it."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from calibration.adapter_fit import Calibrated, Windows
from calibration.response_fit import settle
from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.models.body import Body, Goal, Problem
from robot_wm.planning.feedback import Feedback, linear_steps
from tests.point_body import MeanCommand, Place, Point

SPACE = CommandSpace("joint_position", ("a", "b"), "rad", (-1.0, -1.0), (1.0, 1.0), (0.2, 0.2), 2, 10.0)
NAMES = ("a_position", "lean_position")
FALLS = 1.3  # a lean grows by this from step to step
PUSH = 0.5  # of joint b on the lean


class Seeing(nn.Module):
    """A model of which the fit asks its history alone."""

    config = SimpleNamespace(history=2)


def leaning() -> Calibrated:
    """Joint a follows its command; the lean has none of its own, and grows unless joint b works against it."""
    zeros, ones = torch.zeros(2), torch.ones(2)
    body = Body(Point(), MeanCommand(), Place(), SPACE, zeros, ones, ones)  # type: ignore[arg-type]
    return Calibrated(Seeing(), body).eval()  # type: ignore[arg-type]


def truth(proprio_BP: Tensor, chunk_BKU: Tensor, reference_BU: Tensor) -> Tensor:
    target_BU = reference_BU + 0.2 * chunk_BKU.sum(1)
    a = proprio_BP[:, 0] + 0.5 * (target_BU[:, 0] - proprio_BP[:, 0])
    return torch.stack([a, FALLS * proprio_BP[:, 1] - PUSH * target_BU[:, 1] + 0.2 * a], dim=1)


def log(seed: int, episodes: int = 40, rows: int = 6) -> tuple[Windows, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found: list[list[Tensor]] = [[], [], []]
    for _ in range(episodes):
        proprio, reference = 0.1 * torch.randn(1, 2, generator=generator), torch.zeros(1, 2)
        for _ in range(rows):
            chunk = (torch.rand(1, 2, 2, generator=generator) * 2 - 1) * 0.5
            for part, value in zip(found, (proprio, chunk.flatten(1), reference), strict=True):
                part.append(value)
            proprio, reference = truth(proprio, chunk, reference), reference + 0.2 * chunk.sum(1)
    states, chunks, references = map(torch.cat, found)
    starts = [e * rows + i for e in range(episodes) for i in range(rows - 3)]
    index = torch.tensor(starts)[:, None] + torch.arange(4)
    return Windows(torch.zeros(len(states), 1), states, chunks, references, index), torch.zeros_like(states)


@pytest.fixture
def settled() -> Calibrated:
    calibrated = leaning()
    (fitted, latents), (unseen, _) = log(0), log(1)
    settle(calibrated, NAMES, latents, fitted, unseen)
    return calibrated


def test_a_lean_without_a_command_of_its_own_is_told_by_all_there_is(settled: Calibrated) -> None:
    body = settled.body
    assert body.response.used_P.tolist() == [1.0, 1.0]
    windows, _ = log(2)
    now = body.observe(torch.zeros(len(windows.proprio), 2, 2), windows.proprio)
    then, _ = body.imagine(now, windows.chunks, windows.reference)
    came = truth(windows.proprio, windows.chunks.unflatten(1, (2, 2)), windows.reference)
    assert (then.proprio_BP - came).abs().max() < 0.05 * came.abs().max()


def test_a_joint_with_a_command_of_its_own_never_leans_on_others(settled: Calibrated) -> None:
    others = settled.body.response.linear.weight[0, [1, 3, 5, 7]]
    assert others.abs().max() == 0, "b's commands (two ticks, and that in force) and the lean"
    assert settled.body.response.linear.weight[1].count_nonzero() > 4


def test_linear_steps_are_the_steps_that_the_body_imagines(settled: Calibrated) -> None:
    body, (A, B, offset) = settled.body, linear_steps(settled.body.response, settled.body.command_map)
    proprio, reference, plan = 0.1 * torch.randn(5, 2), 0.1 * torch.randn(5, 2), torch.rand(5, 2) - 0.5
    commands, effective = body.command_map(plan, reference)
    then, _ = body.imagine(body.observe(torch.zeros(5, 2, 2), proprio), effective.flatten(1), reference)
    x = torch.cat([proprio, body.command_map.share(reference)], 1).double()
    told = x @ A.T + plan.double() @ B.T + offset
    assert torch.allclose(told[:, :2].float(), then.proprio_BP, atol=1e-5)
    assert torch.allclose(told[:, 2:].float(), body.command_map.share(commands[:, -1]), atol=1e-5)


def test_feedback_keeps_up_what_falls_by_itself(settled: Calibrated) -> None:
    body = settled.body
    feedback = Feedback(body.response, body.command_map, 6, torch.ones(2), effort=0.01)
    proprio, reference = torch.tensor([[0.0, 0.3]]), torch.zeros(1, 2)
    goal = Goal(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2))
    for _ in range(40):
        plan = feedback(Problem(body.observe(torch.zeros(1, 2, 2), proprio), reference, goal))
        commands, effective = body.command_map(plan[:, 0], reference)
        proprio, reference = truth(proprio, effective, reference), commands[:, -1]
    assert proprio.abs().max() < 0.05
    assert 0.3 * FALLS**40 > 1000  # without it
