"""The planner on a body whose dynamics are known: it arrives, obeys limits, and treats a batch as its members."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.contracts.errors import UserError
from robot_wm.models.body import Body
from robot_wm.planning.planner import ObjectiveConfig, Planner, PlannerConfig
from robot_wm.planning.samplers import CEM

SPACE = CommandSpace("joint_velocity", ("a", "b"), "rad/s", (-1.0, -1.0), (1.0, 1.0), (2.0, 2.0), 2, 10.0)
CONFIG = PlannerConfig(
    horizon=3, candidates=64, iterations=3, sampler=CEM(elites=8), objective=ObjectiveConfig(latent=1)
)


class Point(nn.Module):
    """A point whose latent is its place; the latent action is the mean command of a chunk."""

    history = 2

    def __init__(self) -> None:
        super().__init__()
        self.outputs = nn.Linear(2, 2)

    def forward(self, history_BTD: Tensor, action_BA: Tensor) -> tuple[Tensor, Tensor]:
        return history_BTD[:, -1] + 0.2 * action_BA, torch.full((len(action_BA),), -4.0)


class MeanCommand(nn.Module):
    def forward(self, chunk_BV: Tensor, proprio_BP: Tensor, z_BD: Tensor) -> Tensor:
        return chunk_BV.unflatten(1, (2, 2)).mean(1)


class Place(nn.Module):
    def forward(self, history_BTD: Tensor, position_P: Tensor) -> Tensor:
        return history_BTD[:, -1]


def _planner(config: PlannerConfig = CONFIG) -> Planner:
    zeros, ones = torch.zeros(2), torch.ones(2)
    return Planner(config, Body(Point(), MeanCommand(), Place(), SPACE, zeros, ones, ones)).eval()  # type: ignore[arg-type]


def _inputs(batch: int, seed: int = 0) -> list[Tensor]:
    torch.manual_seed(seed)
    place, goal = torch.randn(batch, 2), torch.randn(batch, 2)
    noise = torch.randn(batch, CONFIG.iterations, CONFIG.candidates, CONFIG.horizon, 2)
    return [place[:, None].expand(-1, 2, -1), goal, place, torch.zeros(batch, 2), torch.zeros(batch, 3, 2), noise]


@torch.no_grad()
def test_closed_loop_arrives_and_stays() -> None:
    planner, place, goal = _planner(), torch.zeros(1, 2), torch.tensor([[0.9, -0.6]])
    reference, warm = torch.zeros(1, 2), torch.zeros(1, 3, 2)
    torch.manual_seed(0)
    for _ in range(15):
        noise = torch.randn(1, CONFIG.iterations, CONFIG.candidates, CONFIG.horizon, 2)
        command, cost, _, warm = planner(place[:, None].expand(-1, 2, -1), goal, place, reference, warm, noise)
        place = place + 0.2 * command.mean(1)
        reference = command[:, -1]
    assert float((place - goal).norm()) < 0.05
    assert float(cost) < 0.01


@torch.no_grad()
def test_commands_stay_within_limits_for_far_goals() -> None:
    history, goal, *rest = _inputs(8)
    command, *_ = _planner()(history, 100 * goal, *rest)
    assert (command.abs() <= 1).all()
    assert (command.abs().amax(dim=(1, 2)) > 0.5).all()  # and it does try


@torch.no_grad()
def test_a_batch_is_its_members() -> None:
    planner, inputs = _planner(), _inputs(4)
    together = planner(*inputs)
    for index in range(4):
        alone = planner(*(x[index : index + 1] for x in inputs))
        assert all(torch.allclose(a[0], b[index], atol=1e-6) for a, b in zip(alone, together, strict=True))


@torch.no_grad()
def test_more_search_is_not_worse() -> None:
    inputs = _inputs(16)
    once = replace(CONFIG, iterations=1)
    _, cost, _, _ = _planner()(*inputs)
    _, little, _, _ = _planner(once)(*inputs[:-1], inputs[-1][:, :1])
    assert float(cost.mean()) < float(little.mean())


@torch.no_grad()
def test_measured_proprio_corrects_what_the_latent_misreads() -> None:
    """A constant error of the proprio head cancels for the body's own place."""
    history, goal, place, *rest = _inputs(4)
    config = replace(CONFIG, objective=ObjectiveConfig(latent=0, effort=0))
    right, *_ = _planner(config)(history, goal, place, *rest)
    misread, *_ = _planner(config)(history + 5, goal, place, *rest)
    assert torch.allclose(right, misread, atol=1e-4)


@torch.no_grad()
def test_plans_ahead_of_commands_under_way_as_if_they_had_been_seen() -> None:
    """With two chunks pending, planning starts from where these lead, and from the command in which they end."""
    history, goal, place, reference, *rest = _inputs(4)
    pending = torch.rand(4, 2, 2, 2) - 0.5
    later = place + 0.2 * pending.mean(2).sum(1)
    before = place + 0.2 * pending[:, 0].mean(1)
    delayed = Planner(CONFIG, _planner().body, ahead=2)(history, goal, place, reference, *rest, pending)
    seen = _planner()(torch.stack([before, later], dim=1), goal, later, pending[:, -1, -1], *rest)
    for found, wanted in zip(delayed, seen, strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("bad", [{"horizon": 0}, {"iterations": 0}, {"candidates": 6}])
def test_impossible_sizes_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(UserError, match=next(iter(bad))):
        PlannerConfig(**bad)  # type: ignore[arg-type]
