"""Objectives: what an imagined future costs. Each is a short function; their weights are the configuration."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from robot_wm.contracts.errors import UserError
from robot_wm.models.body import Body, Goal, Moment
from robot_wm.models.heads import GoalHead


@dataclass(frozen=True)
class Zone:
    """A ball that the body should stay out of.

    Attributes:
        position: entries of proprio that give the place that must stay out, such as the gripper's x, y and z.
        centre: in the same units.
        radius: in the same units.
    """

    position: tuple[str, ...]
    centre: tuple[float, ...]
    radius: float

    def __post_init__(self) -> None:
        if len(self.position) != len(self.centre) or not self.position or not self.radius > 0:
            raise UserError(f"zone is {self}", "Give as many centre values as position names, and a radius above 0")


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of what a predicted future costs; 0 leaves a term out.

    Attributes:
        latent: mean squared latent distance to the goal.
        proprio: mean squared distance to the goal's proprio (standardised): the positions that its picture implies,
            and whatever the user gave.
        time: learned temporal distance, log of the number of steps to the goal.
        effort: mean squared plan.
        smoothness: mean squared change of the plan from step to step.
        uncertainty: expected mean squared error of the predicted latent.
        keep_out: depth inside any of `zones`, squared, 1 at a zone's centre.
        zones: see there.
        over: distances to the goal count on average over the horizon (plans arrive early and stay), or at its end.
    """

    latent: float = 0.1
    proprio: float = 1.0
    time: float = 0.0
    effort: float = 0.001
    smoothness: float = 0.0
    uncertainty: float = 0.0
    keep_out: float = 0.0
    zones: tuple[Zone, ...] = ()
    over: Literal["horizon", "last"] = "horizon"

    def __post_init__(self) -> None:
        negative = [name for name in TERMS if getattr(self, name) < 0]
        if negative:
            raise UserError(f"objective: {negative[0]} is {getattr(self, negative[0])}", "A weight is 0 or more")
        if bool(self.zones) != bool(self.keep_out):
            raise UserError(
                f"objective: keep_out is {self.keep_out} with {len(self.zones)} zones", "Give both, or neither"
            )


class Step(NamedTuple):
    """One step of an imagined future: the moment after it, its expected error (log), the plan's entry and the next."""

    now: Moment
    log_error_B: Tensor
    plan_BU: Tensor
    next_BU: Tensor


Term = Callable[["Objective", Step, Goal], Tensor]


class Objective(nn.Module):
    """The weighted sum of the terms."""

    def __init__(
        self, config: ObjectiveConfig, body: Body, names: tuple[str, ...] = (), goal_head: GoalHead | None = None
    ):
        """`names` are those of proprio, for zones; `goal_head` tells temporal distances.

        Raises:
            UserError: a zone names what proprio does not measure, or there is no goal head to tell the time.
        """
        super().__init__()
        self.config = config
        self.goal_head = goal_head if config.time else None
        if config.time and goal_head is None:
            raise UserError(f"objective: time is {config.time}, but the model has no goal head", "Give time=0")
        unknown = [name for zone in config.zones for name in zone.position if name not in names]
        if unknown:
            raise UserError(f"objective: a zone names {unknown[0]!r}", f"Proprio measures: {', '.join(names)}")
        self.zones: list[tuple[list[int], Tensor, Tensor, float]] = []
        for zone in config.zones:
            rows = [names.index(name) for name in zone.position]
            scale = body.proprio_std_P[rows]
            centre = (torch.tensor(zone.centre) - body.proprio_mean_P[rows]) / scale
            self.zones.append((rows, centre, scale, zone.radius))

    def forward(self, steps: list[Step], goal: Goal) -> Tensor:
        """Cost (B,) of imagined futures."""
        cost_B = torch.zeros_like(steps[0].log_error_B)
        for name, (term, is_distance) in TERMS.items():
            weight = getattr(self.config, name)
            if weight:
                counted = steps[-1:] if is_distance and self.config.over == "last" else steps
                cost_B = cost_B + weight * torch.stack([term(self, step, goal) for step in counted]).mean(0)
        return cost_B


def latent(_: Objective, step: Step, goal: Goal) -> Tensor:
    return (step.now.history_BTD[:, -1] - goal.latent_BD).square().mean(-1)


def proprio(_: Objective, step: Step, goal: Goal) -> Tensor:
    away_BP = (step.now.proprio_BP - goal.proprio_BP).square() * goal.asked_BP
    return away_BP.sum(-1) / goal.asked_BP.sum(-1).clamp(min=1)


def time(objective: Objective, step: Step, goal: Goal) -> Tensor:
    assert objective.goal_head is not None
    _, log_steps_B = objective.goal_head(step.now.history_BTD, goal.latent_BD)
    return log_steps_B


def effort(_: Objective, step: Step, goal: Goal) -> Tensor:
    return step.plan_BU.square().mean(-1)


def smoothness(_: Objective, step: Step, goal: Goal) -> Tensor:
    return (step.next_BU - step.plan_BU).square().mean(-1)


def uncertainty(_: Objective, step: Step, goal: Goal) -> Tensor:
    return step.log_error_B.exp()


def keep_out(objective: Objective, step: Step, goal: Goal) -> Tensor:
    depth_B = torch.zeros_like(step.log_error_B)
    for rows, centre, scale, radius in objective.zones:
        place = torch.stack([step.now.proprio_BP[:, row] for row in rows], dim=-1)
        distance_B = ((place - centre) * scale).square().sum(-1).add(1e-12).sqrt()
        depth_B = depth_B + (1 - distance_B / radius).clamp(min=0).square()
    return depth_B


# Every term, and whether it is a distance to the goal.
TERMS: dict[str, tuple[Term, bool]] = {
    "latent": (latent, True),
    "proprio": (proprio, True),
    "time": (time, True),
    "effort": (effort, False),
    "smoothness": (smoothness, False),
    "uncertainty": (uncertainty, False),
    "keep_out": (keep_out, False),
}
