"""The planner: model-predictive control over command chunks, unrolled so that it exports to one ONNX graph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robot_wm.contracts.errors import UserError
from robot_wm.models.body import Body, Goal, Moment, Problem
from robot_wm.models.command_head import CommandHead
from robot_wm.planning.objectives import Objective, ObjectiveConfig, Step
from robot_wm.planning.samplers import CEM, Belief, Sampler


@dataclass(frozen=True)
class PlannerConfig:
    """Size and kind of the search.

    Attributes:
        horizon: model steps ahead.
        candidates: plans per iteration.
        iterations: of the sampler.
        sampler: how candidates are drawn and what is learned from their costs.
        objective: what they cost.
        propose: where there is a command head, the search starts from its plan, with this share of the sampler's
            initial deviation; 0: the head is not asked.
    """

    horizon: int = 2
    candidates: int = 128
    iterations: int = 3
    sampler: Sampler = field(default_factory=CEM)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    propose: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.propose <= 1:
            raise UserError(f"planner.propose is {self.propose}", "Give a share from 0 to 1")
        least = getattr(self.sampler, "elites", 1)
        if min(self.horizon, self.iterations) < 1 or self.candidates <= least:
            raise UserError(
                f"planner has horizon {self.horizon}, iterations {self.iterations}, candidates {self.candidates}",
                f"horizon and iterations ≥ 1, candidates above the sampler's {least} elites",
            )


class Planner(nn.Module):
    """History, goal and proprio to the next command chunk, by search."""

    def __init__(
        self,
        config: PlannerConfig,
        body: Body,
        ahead: int = 0,
        head: CommandHead | None = None,
        objective: Objective | None = None,
    ):
        """Put together a planner.

        Args:
            config: size and kind of the search.
            body: the calibrated model.
            ahead: model steps whose commands are already decided on when a plan is made (see `forward`).
            head: proposes the plan to start from.
            objective: made from `config` where it needs nothing but the body.
        """
        super().__init__()
        if ahead < 0:
            raise UserError(f"ahead is {ahead}", "Give 0 or more model steps")
        self.config, self.body, self.ahead = config, body, ahead
        self.head = head if config.propose > 0 else None
        self.objective = objective or Objective(config.objective, body)
        self.slope: Callable[..., Tensor] = self._slope

    def forward(
        self,
        history_BTD: Tensor,
        goal_BD: Tensor,
        proprio_BP: Tensor,
        reference_BU: Tensor,
        warm_BHU: Tensor,
        noise_BINHU: Tensor,
        target_BP: Tensor | None = None,
        pending_BSKU: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Search for the command chunk whose predicted future comes closest to the goal.

        Args:
            history_BTD: the last latents, newest last.
            goal_BD: latent of the goal image.
            proprio_BP: proprio now, in its own units.
            reference_BU: the command sent last, or the one just before `pending_BSKU`.
            warm_BHU: plan to start from, in plan units; zeros at first.
            noise_BINHU: standard normal draws.
            target_BP: proprio to reach, in its own units, where it is known; NaN where only the goal's picture says.
            pending_BSKU: where `ahead` is above 0, its S chunks of commands in physical units, already sent or
                committed, whose effect `history_BTD` does not show yet; the search goes on from the last of them.

        Returns:
            The next chunk of commands (B, K, U) in physical units and within the limits, its cost (B,), the predicted
            mean squared latent error along it (B,), the plan to start from next time (B, H, U), and the latents that
            are expected after each of the plan's model steps (B, H, D).
        """
        problem = pose(self.body, history_BTD, goal_BD, proprio_BP, reference_BU, target_BP, pending_BSKU)
        sampler = self.config.sampler
        belief = self._start(problem, warm_BHU)
        for iteration in range(self.config.iterations):
            plans = sampler.sample(belief, noise_BINHU[:, iteration])
            cost_BN, _ = self.evaluate(plans, problem)
            slope = self.slope(plans, *flatten(problem)) if sampler.descends else None
            belief = sampler.update(belief, plans, cost_BN, slope)
        return conclude(self, belief.mean_BHU, problem)

    def _start(self, problem: Problem, warm_BHU: Tensor) -> Belief:
        """What is believed before the search: the warm start, or what the head proposes, the warm start beside it."""
        std_BHU = torch.full_like(warm_BHU, self.config.sampler.initial_std)
        if self.head is None:
            return Belief(warm_BHU, std_BHU, warm_BHU[:, None])
        proposed_BHU = fit_horizon(self.head(problem), self.config.horizon)
        return Belief(proposed_BHU, self.config.propose * std_BHU, torch.stack([proposed_BHU, warm_BHU], dim=1))

    def evaluate(self, plans_BNHU: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
        """Cost and mean predicted squared error (B, N) of plans."""
        num = plans_BNHU.shape[1]
        steps, goal = self.imagine(plans_BNHU, problem)
        return self.objective(steps, goal).unflatten(0, (-1, num)), expected_error(steps).unflatten(0, (-1, num))

    def imagine(self, plans_BNHU: Tensor, problem: Problem) -> tuple[list[Step], Goal]:
        """The steps of plans, each of all B · N at once, and the goal of each."""
        now, reference_MU, goal = problem.repeat(plans_BNHU.shape[1])
        plan_HMU = plans_BNHU.flatten(0, 1).unbind(dim=1)
        steps = []
        for plan_MU, next_MU in zip(plan_HMU, (*plan_HMU[1:], plan_HMU[-1]), strict=True):
            commands, effective = self.body.command_map(plan_MU, reference_MU)
            now, log_error = self.body.imagine(now, effective.flatten(1), reference_MU)
            reference_MU = commands[:, -1]
            steps.append(Step(now, log_error, plan_MU, next_MU))
        return steps, goal

    def cost_now(self, problem: Problem) -> Tensor:
        """What being where one is costs (B,), without any plan."""
        idle_BU = torch.zeros_like(problem.reference_BU)
        certain_B = torch.full_like(idle_BU[:, 0], -torch.inf)
        return self.objective([Step(problem.now, certain_B, idle_BU, idle_BU)], problem.goal)

    def _slope(self, plans_BNHU: Tensor, *problem: Tensor) -> Tensor:
        """The gradient (B, N, H, U) of each plan's own cost."""

        def total(plans: Tensor) -> Tensor:
            return self.evaluate(plans, unflatten(problem))[0].sum()

        slope: Tensor = torch.func.grad(total)(plans_BNHU)
        return slope


class OneShot(nn.Module):
    """History, goal and proprio to the next command chunk by the command head alone."""

    def __init__(self, planner: Planner, head: CommandHead):
        super().__init__()
        self.planner, self.head = planner, head

    def forward(
        self,
        history_BTD: Tensor,
        goal_BD: Tensor,
        proprio_BP: Tensor,
        reference_BU: Tensor,
        target_BP: Tensor | None = None,
        pending_BSKU: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """As Planner.forward; in place of what to start from next time comes the head's whole plan (B, H, U)."""
        body = self.planner.body
        problem = pose(body, history_BTD, goal_BD, proprio_BP, reference_BU, target_BP, pending_BSKU)
        plan_BHU = fit_horizon(self.head(problem), self.planner.config.horizon)
        command_BKU, cost_B, error_B, _, imagined_BHD = conclude(self.planner, plan_BHU, problem)
        return command_BKU, cost_B, error_B, plan_BHU, imagined_BHD


def pose(
    body: Body,
    history_BTD: Tensor,
    goal_BD: Tensor,
    proprio_BP: Tensor,
    reference_BU: Tensor,
    target_BP: Tensor | None = None,
    pending_BSKU: Tensor | None = None,
) -> Problem:
    """The planning problem that the inputs of Planner.forward describe, commands under way taken as done."""
    now = body.observe(history_BTD, body.standardize(proprio_BP))
    goal = body.aim(goal_BD, target_BP, now)
    if pending_BSKU is not None:
        now, reference_BU = body.follow(now, pending_BSKU, reference_BU)
    return Problem(now, reference_BU, goal)


def conclude(planner: Planner, plan_BHU: Tensor, problem: Problem) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What follows from the plan decided on: see Planner.forward."""
    steps, goal = planner.imagine(plan_BHU[:, None], problem)
    imagined_BHD = torch.stack([step.now.history_BTD[:, -1] for step in steps], dim=1)
    command_BKU, _ = planner.body.command_map(plan_BHU[:, 0], problem.reference_BU)
    next_warm = torch.cat([plan_BHU[:, 1:], torch.zeros_like(plan_BHU[:, :1])], dim=1)
    return command_BKU, planner.objective(steps, goal), expected_error(steps), next_warm, imagined_BHD


def expected_error(steps: Sequence[Step]) -> Tensor:
    """Mean predicted squared error (B,) along the steps of plans."""
    return torch.stack([step.log_error_B.exp() for step in steps]).mean(0)


def fit_horizon(plan_BHU: Tensor, horizon: int) -> Tensor:
    """The first `horizon` steps of a plan; one that is shorter stays with its last entry."""
    last_BHU = plan_BHU[:, -1:].expand(-1, max(0, horizon - plan_BHU.shape[1]), -1)
    return torch.cat([plan_BHU, last_BHU], dim=1)[:, :horizon]


def flatten(problem: Problem) -> tuple[Tensor, ...]:
    """All tensors of a problem, in order."""
    return (*problem.now, problem.reference_BU, *problem.goal)


def unflatten(tensors: tuple[Tensor, ...]) -> Problem:
    """The inverse of `flatten`."""
    return Problem(Moment(*tensors[:3]), tensors[3], Goal(*tensors[4:]))
