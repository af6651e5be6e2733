"""The planner on a body whose dynamics are known: it arrives, obeys limits, and treats a batch as its members."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from robot_wm.contracts.errors import UserError
from robot_wm.planning.objectives import ObjectiveConfig
from robot_wm.planning.planner import Planner, PlannerConfig, flatten, pose
from robot_wm.planning.samplers import CEM, ICEM, MPPI, Gradient, Sampler
from robot_wm.planning.slope import traced_slope
from tests.point_body import STEP, point_body

CONFIG = PlannerConfig(
    horizon=3, candidates=64, iterations=3, sampler=CEM(elites=8), objective=ObjectiveConfig(latent=1)
)


def _planner(config: PlannerConfig = CONFIG) -> Planner:
    return Planner(config, point_body()).eval()


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
        command, cost, _, warm, _ = planner(place[:, None].expand(-1, 2, -1), goal, place, reference, warm, noise)
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
    _, cost, *_ = _planner()(*inputs)
    _, little, *_ = _planner(once)(*inputs[:-1], inputs[-1][:, :1])
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
def test_goal_that_is_misread_as_the_present_is_still_reached() -> None:
    """Pictures that read alike are misread alike: at the goal, what is wrong with both cancels."""
    planner, place, goal = _planner(), torch.zeros(1, 2), torch.tensor([[0.9, -0.6]])
    reference, warm, misread = torch.zeros(1, 2), torch.zeros(1, 3, 2), torch.tensor([0.2, 0.2])
    torch.manual_seed(0)
    for _ in range(20):
        noise = torch.randn(1, CONFIG.iterations, CONFIG.candidates, CONFIG.horizon, 2)
        shown = (place + misread)[:, None].expand(-1, 2, -1)
        command, _, _, warm, _ = planner(shown, goal + misread, place, reference, warm, noise)
        place, reference = place + 0.2 * command.mean(1), command[:, -1]
    assert float((place - goal).norm()) < 0.08  # without: .28


@torch.no_grad()
def test_far_goals_and_known_ones_are_taken_as_they_are() -> None:
    body, place, misread = point_body(), torch.zeros(1, 2), torch.tensor([0.2, 0.2])
    now = body.observe((place + misread)[:, None].expand(-1, 2, -1), place)
    far = torch.tensor([[6.0, 0.0]])
    assert torch.allclose(body.aim(far, now=now).proprio_BP, far, atol=1e-3)
    known = torch.tensor([[0.1, float("nan")]])
    goal = body.aim(torch.tensor([[0.3, 0.2]]), known, now).proprio_BP
    assert float(goal[0, 0]) == pytest.approx(0.1)
    assert 0.0 < float(goal[0, 1]) < 0.06  # .2 without what the present tells


@torch.no_grad()
@pytest.mark.parametrize("sampler", [ICEM(), MPPI(), Gradient()], ids=lambda s: s.kind)
def test_every_sampler_heads_for_the_goal(sampler: Sampler) -> None:
    history, goal, place, *rest = _inputs(4)
    command, *_ = _planner(replace(CONFIG, sampler=sampler))(history, goal, place, *rest)
    reachable = ((goal - place) / STEP).clamp(-1, 1)
    assert (command.mean(1) * reachable).mean() > 0.6 * reachable.square().mean()


@torch.no_grad()
def test_slope_is_that_of_each_plan_alone() -> None:
    planner, (history, goal, place, reference, _, noise) = _planner(), _inputs(2)
    problem = pose(planner.body, history, goal, place, reference)
    plans, nudge = 0.3 * noise[:, 0, :4], torch.zeros(2, 4, 3, 2)
    nudge[1, 2, 0, 1] = 1e-3
    slope = planner.slope(plans, *flatten(problem))
    change = planner.evaluate(plans + nudge, problem)[0] - planner.evaluate(plans - nudge, problem)[0]
    assert float(change[1, 2] / 2e-3) == pytest.approx(float(slope[1, 2, 0, 1]), rel=0.02)
    assert change.count_nonzero() == 1


@torch.no_grad()
def test_traced_slope_plans_as_the_eager_one_which_comes_back() -> None:
    planner = _planner(replace(CONFIG, candidates=4, iterations=1, sampler=Gradient()))
    inputs = _inputs(1)
    inputs[-1] = inputs[-1][:, :1, :4]
    eager = planner(*inputs)
    with traced_slope(planner):
        traced = planner(*inputs)
    for found, again, wanted in zip(traced, planner(*inputs), eager, strict=True):
        assert torch.allclose(found, wanted, atol=1e-6)
        assert torch.equal(again, wanted)


@torch.no_grad()
def test_what_the_user_knows_of_the_goal_overrules_its_picture() -> None:
    history, goal, place, *rest = _inputs(4)
    unknown = torch.full((4, 2), torch.nan)
    config = replace(CONFIG, objective=ObjectiveConfig(latent=0, effort=0))
    shown, *_ = _planner(config)(history, goal, place, *rest)
    same, *_ = _planner(config)(history, goal, place, *rest, unknown)
    assert torch.equal(shown, same)
    told, *_ = _planner(config)(history, goal + 5, place, *rest, goal)
    assert torch.allclose(told, shown, atol=1e-5)


@torch.no_grad()
def test_plans_ahead_of_commands_under_way_as_if_they_had_been_seen() -> None:
    """With two chunks pending, planning starts from where these lead, and from the command in which they end."""
    history, goal, place, reference, *rest = _inputs(4)
    pending = torch.rand(4, 2, 2, 2) - 0.5
    later = place + 0.2 * pending.mean(2).sum(1)
    before = place + 0.2 * pending[:, 0].mean(1)
    delayed = Planner(CONFIG, _planner().body, ahead=2)(history, goal, place, reference, *rest, pending_BSKU=pending)
    seen = _planner()(torch.stack([before, later], dim=1), goal, later, pending[:, -1, -1], *rest)
    for found, wanted in zip(delayed, seen, strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("bad", [{"horizon": 0}, {"iterations": 0}, {"candidates": 6}])
def test_impossible_sizes_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(UserError, match=next(iter(bad))):
        PlannerConfig(**bad)  # type: ignore[arg-type]
