"""Training the command head in imagination: futures of the calibrated model, and the log's own, taken for goals."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from calibration.adapter_fit import Windows
from calibration.threads import one_thread
from robot_wm import console
from robot_wm.contracts.errors import UserError
from robot_wm.models.body import Body, Problem
from robot_wm.models.command_head import CommandHead, CommandHeadConfig
from robot_wm.planning.planner import Planner, PlannerConfig

_NEAR = 0.01  # of cost: goals nearer than this do not count for more


@dataclass(frozen=True)
class HeadFitConfig:
    """How the command head is trained; no further data of the robot is needed.

    Attributes:
        size: of the head.
        steps, batch: optimizer steps, problems per step; 0 steps train no head.
        futures: imagined futures that goals are taken from, beside those of the log.
        learning_rate: of Adam, with cosine decay.
        hindsight: weight of agreement with the plan that led to the goal, beside the goal's own cost.
        noise: standard deviation added to the latents of start and goal.
    """

    size: CommandHeadConfig = field(default_factory=CommandHeadConfig)
    steps: int = 200
    batch: int = 64
    futures: int = 4096
    learning_rate: float = 1e-3
    hindsight: float = 0.1
    noise: float = 0.05

    def __post_init__(self) -> None:
        if self.steps < 0 or min(self.batch, self.futures) < 1:
            raise UserError(
                f"head: steps {self.steps}, batch {self.batch}, futures {self.futures}",
                "steps ≥ 0; batch and futures ≥ 1",
            )


@dataclass(frozen=True)
class Lessons:
    """Starts, goals, and the plans that led from one to the other (W rows).

    Attributes:
        history_WTD, proprio_WP, reference_WU: the start; proprio is standardised.
        goal_WD: latent of the goal.
        plan_WHU: plan that led there and rests afterwards.
        steps_W: model steps until it was there.
    """

    history_WTD: Tensor
    proprio_WP: Tensor
    reference_WU: Tensor
    goal_WD: Tensor
    plan_WHU: Tensor
    steps_W: Tensor

    def rows(self, index: Tensor) -> "Lessons":
        """Some of them."""
        return Lessons(*(x[index] for x in vars(self).values()))

    def __add__(self, other: "Lessons") -> "Lessons":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Lessons(*(torch.cat(pair) for pair in pairs))


def fit_head(
    body: Body, latents_FD: Tensor, windows: Windows, config: HeadFitConfig, seed: int, log: Callable[..., None]
) -> CommandHead:
    """Train a command head; `body` stays as it is.

    The head's plan is rolled out in the model and answers for its cost, as a candidate of the search would: gradients
    come through the dynamics. Plans that are known to have led to a goal guide it at first.

    Args:
        body: the calibrated model.
        latents_FD: of the log's frames.
        windows: of the log; the first `body.history` rows of each are where plans start.
        config: how.
        seed: of weights and batches.
        log: takes what is worth plotting.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    head = CommandHead(config.size, body.latent_dim, body.history, body.proprio_dim, body.command_map)
    planner = Planner(PlannerConfig(horizon=config.size.horizon), body)
    for parameter in body.parameters():
        parameter.requires_grad_(False)
    lessons = relabelled(body, latents_FD, windows, config.size.horizon)
    lessons = lessons + imagined(body, latents_FD, windows, config, generator)
    optimizer = torch.optim.Adam(head.parameters(), config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 0.5 * (1 + math.cos(math.pi * s / config.steps)))
    with one_thread(), console.progress("calibrate (head)", config.steps) as bar:
        for step in range(config.steps):
            batch = lessons.rows(torch.randint(len(lessons.steps_W), (config.batch,), generator=generator))
            terms = head_terms(head, planner, batch, config)
            optimizer.zero_grad()
            terms["total"].backward()
            optimizer.step()
            schedule.step()
            bar.advance(note=f"cost {float(terms['cost'].detach()):.3f}")
            if (step + 1) % 10 == 0:
                log(step=step + 1, phase="head", **{k: round(float(v.detach()), 6) for k, v in terms.items()})
    for parameter in body.parameters():
        parameter.requires_grad_(True)
    return head.eval()


def head_terms(head: CommandHead, planner: Planner, lessons: Lessons, config: HeadFitConfig) -> dict[str, Tensor]:
    """Terms of a batch, and under `total` what is trained.

    `cost` is that of the head's plans, as a share of what being where one is costs, so that near goals teach to be
    exact; `hindsight` the distance from the plans that led to the goals.
    """
    history = lessons.history_WTD + config.noise * torch.randn_like(lessons.history_WTD)
    goal = planner.body.aim(lessons.goal_WD + config.noise * torch.randn_like(lessons.goal_WD))
    problem = Problem(planner.body.observe(history, lessons.proprio_WP), lessons.reference_WU, goal)
    plan_WHU = head(problem)
    cost_W1, _ = planner.evaluate(plan_WHU[:, None], problem)
    cost_W = cost_W1[:, 0] / (planner.cost_now(problem) + _NEAR)
    counted_WH = torch.arange(plan_WHU.shape[1]) < lessons.steps_W[:, None]
    away_WH = (plan_WHU - lessons.plan_WHU).square().mean(-1)
    hindsight = (away_WH * counted_WH).sum() / counted_WH.sum()
    cost = cost_W.mean()
    return {"cost": cost, "hindsight": hindsight, "total": cost + config.hindsight * hindsight}


@torch.no_grad()
def relabelled(body: Body, latents_FD: Tensor, windows: Windows, horizon: int) -> Lessons:
    """What the log itself teaches: every later latent of a window is a goal that its commands led to."""
    history, rows = body.history, windows.rows
    starts, future = rows[:, history - 1], min(horizon, rows.shape[1] - history)
    chunks = windows.chunks[rows[:, history - 1 : history - 1 + future]]
    plans = _resting(body, len(rows), horizon)
    plans[:, :future] = chunks.unflatten(2, (-1, body.command.dim)).mean(2).clamp(-1, 1)
    parts = []
    for steps in range(1, future + 1):
        parts.append(
            Lessons(
                latents_FD[rows[:, :history]],
                body.standardize(windows.proprio[starts]),
                windows.reference[starts],
                latents_FD[rows[:, history - 1 + steps]],
                _rest_after(body, plans, torch.full((len(rows),), steps)),
                torch.full((len(rows),), steps),
            )
        )
    return sum(parts[1:], parts[0])


@torch.no_grad()
def imagined(
    body: Body, latents_FD: Tensor, windows: Windows, config: HeadFitConfig, generator: torch.Generator
) -> Lessons:
    """What the model teaches: where random plans lead that are held for a while, then rest."""
    horizon, count = config.size.horizon, config.futures
    picked = torch.randint(len(windows.rows), (count,), generator=generator)
    rows = windows.rows[picked]
    start = rows[:, body.history - 1]
    proprio, reference = body.standardize(windows.proprio[start]), windows.reference[start]
    now = body.observe(latents_FD[rows[:, : body.history]], proprio)
    shape = (count, horizon, body.command.dim)
    plans = (2 * torch.rand(shape, generator=generator) - 1) * torch.rand((count, 1, 1), generator=generator).sqrt()
    held = torch.rand((count, 1, 1), generator=generator) < 0.5
    plans = torch.where(held, plans[:, :1], plans)
    steps = torch.randint(1, horizon + 1, (count,), generator=generator)
    plans = _rest_after(body, plans, steps)
    goal, in_force = torch.empty(count, body.latent_dim), reference
    for step in range(horizon):
        commands, effective = body.command_map(plans[:, step], in_force)
        now, _ = body.imagine(now, effective.flatten(1), in_force)
        in_force = commands[:, -1]
        goal[steps == step + 1] = now.history_BTD[steps == step + 1, -1]
    return Lessons(latents_FD[rows[:, : body.history]], proprio, reference, goal, plans, steps)


def _resting(body: Body, count: int, horizon: int) -> Tensor:
    return body.command_map.rest().expand(count, horizon, -1).clone()


def _rest_after(body: Body, plans_WHU: Tensor, steps_W: Tensor) -> Tensor:
    moving = (torch.arange(plans_WHU.shape[1]) < steps_W[:, None])[..., None]
    return torch.where(moving, plans_WHU, _resting(body, *plans_WHU.shape[:2]))
