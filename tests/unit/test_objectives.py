"""What plans cost: each term does what its name says, and nothing that is not asked for is computed."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robot_wm.contracts.errors import UserError
from robot_wm.planning.objectives import Objective, ObjectiveConfig, Zone
from robot_wm.planning.planner import Planner, PlannerConfig, pose
from tests.point_body import STEP, point_body

NAMES = ("x_position", "y_position")
ZONE = Zone(NAMES, (0.2, 0.0), 0.1)


class StepsLeft(nn.Module):
    """A goal head that counts steps of the point at full speed."""

    def forward(self, history_BTD: Tensor, goal_BD: Tensor) -> tuple[Tensor, Tensor]:
        away_B = (history_BTD[:, -1] - goal_BD).abs().amax(-1) / STEP
        return goal_BD, away_B.clamp(min=1).log()


def cost(plan_HU: list[list[float]], **weights: Any) -> float:
    """Of one plan from the origin to (0.4, 0), with all weights zero but those given."""
    config = ObjectiveConfig(**({"latent": 0.0, "proprio": 0.0, "effort": 0.0} | weights))
    body = point_body()
    objective = Objective(config, body, NAMES, StepsLeft())  # type: ignore[arg-type]
    planner = Planner(PlannerConfig(horizon=len(plan_HU), objective=config), body, objective=objective)
    origin, goal = torch.zeros(1, 2), torch.tensor([[0.4, 0.0]])
    problem = pose(body, torch.zeros(1, 2, 2), goal, origin, origin)
    return float(planner.evaluate(torch.tensor(plan_HU)[None, None], problem)[0])


STRAIGHT, LATE, AROUND = [[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]], [[1.0, 1.0], [1.0, -1.0]]


def test_distances_count_over_the_horizon_or_at_its_end() -> None:
    for name in ("latent", "proprio"):
        assert cost(STRAIGHT, **{name: 1.0}) == pytest.approx((0.2**2 / 2 + 0) / 2, abs=1e-6)
        assert cost(STRAIGHT, over="last", **{name: 1.0}) == pytest.approx(0, abs=1e-9)
        assert cost(LATE, **{name: 2.0}) == pytest.approx(2 * (0.4**2 + 0.2**2) / 4, abs=1e-6)


def test_learned_time_is_less_where_fewer_steps_are_left() -> None:
    assert cost(STRAIGHT, time=1.0) < cost(LATE, time=1.0)
    assert cost([[0.0, 0.0]] * 2, time=1.0) == pytest.approx(torch.tensor(2.0).log().item(), abs=1e-4)


def test_effort_smoothness_and_uncertainty() -> None:
    assert cost(LATE, effort=1.0) == pytest.approx(0.25)
    assert cost(STRAIGHT, smoothness=1.0) == 0
    assert cost(AROUND, smoothness=1.0) == pytest.approx(2.0 / 2)
    assert cost(LATE, uncertainty=1.0) == pytest.approx(torch.tensor(-4.0).exp().item())


def test_a_zone_costs_only_those_who_enter_it() -> None:
    weights: dict[str, Any] = {"keep_out": 1.0, "zones": (ZONE,)}
    assert cost(STRAIGHT, **weights) == pytest.approx(0.5, abs=1e-3), "through its centre, in one of two steps"
    assert cost(AROUND, **weights) == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"latent": -1.0}, "latent is -1"),
        ({"keep_out": 1.0}, "keep_out is 1.0 with 0 zones"),
        ({"zones": (ZONE,)}, "keep_out is 0.0 with 1 zones"),
    ],
)
def test_weights_that_make_no_sense_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ObjectiveConfig(**values)


def test_what_the_body_cannot_tell_is_refused() -> None:
    with pytest.raises(UserError, match=r"zone names 'x_position'.*tip_position"):
        Objective(ObjectiveConfig(keep_out=1.0, zones=(ZONE,)), point_body(), ("tip_position",))
    with pytest.raises(UserError, match="no goal head"):
        Objective(ObjectiveConfig(time=1.0), point_body())
    with pytest.raises(UserError, match="zone is"):
        Zone(NAMES, (0.0,), 0.1)
