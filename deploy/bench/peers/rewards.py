"""TD-MPC2 by stable-worldmodel, from the log with rewards given in hindsight. Runs in its environment.

It learns from a state and a reward, not from pictures, so it is told more than the others: the place of the goal. The
reward is FetchReach's own, 0 within the task's threshold of the goal and -1 beyond; goals are later places of the hand
or places from elsewhere in the log, in the shares of its script. A step is a command chunk.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calibration.transitions import Transitions
from deploy.bench.arena import Arena, Decide
from deploy.bench.peers import swm
from deploy.bench.peers.contest import Contest, Entrant, Outcome, count, judge, obeying
from deploy.bench.peers.training import device, train
from robot_wm.contracts.errors import UserError

_HORIZON, _BATCH, _LEARNING_RATE = 5, 256, 3e-4
_SEARCH, _ITERATIONS, _ELITES, _ACTORS = 512, 6, 64, 24
_ENCODER, _ACTOR = 0.3, 0.1  # of the learning rate
_ELSEWHERE, _NOW = 0.2, 0.1  # shares of goals: from anywhere, where one is; the rest comes later in the episode
_SHORTEN = 0.99  # goals that come later are geometrically distributed with this


class Settings(dict[str, Any]):
    """Values by name in both of the ways that its code asks for them."""

    __getattr__ = dict.__getitem__


def tdmpc2(contest: Contest) -> Outcome:
    """State, goal and reward to a search that ends in a value.

    Raises:
        UserError: a task whose state is more than the robot measures of itself.
    """
    swm.prepare()
    from stable_worldmodel.wm.tdmpc2 import TDMPC2, tdmpc2_forward  # type: ignore[import-not-found]

    torch.manual_seed(contest.seed)
    with contest.arena() as arena:
        if arena.task.name != "reach":
            raise UserError("not run: it needs the block's place, which neither robot nor log measures", "Give reach")
        log, space = contest.log(arena), arena.task.simulation.command
        settings = _settings(log.proprio_FP.shape[1] + 3, log.skip * space.dim)
        model = TDMPC2(settings).to(device())
        state = State(log.proprio_FP).to(device())
        its = SimpleNamespace(model=model, log_dict=lambda *_, **__: None)

        def loss(batch: dict[str, Tensor]) -> Tensor:
            seen = batch | {"state": state(batch["proprio"], batch["goal"])}
            found: Tensor = tdmpc2_forward(its, seen, "train", settings)["loss"]
            return found

        groups = {name: [p for n, p in model.named_parameters() if n.startswith(name)] for name in _parts(model)}
        rates = [(weights, _share(name)) for name, weights in groups.items() if not name.startswith("target")]
        data = windows(log, arena.task.threshold_m, contest.seed)
        samples, train_s = train(
            model, loss, data, contest.budget_s, _LEARNING_RATE, weight_decay=0.0, clip=20.0, groups=rates
        )  # fmt: skip
        entrant = Entrant(
            Nothing(), lambda seed: deciding(Bounded(model), state, arena, seed), 1, contest.transitions, train_s,
            samples, count(model),
        )  # fmt: skip
        return judge(arena, entrant, contest.seed, "is told the goal's place, no picture; rewards in hindsight")


class State(nn.Module):
    """Proprio and the goal's place, standardised by the log's."""

    mean_P: Tensor
    std_P: Tensor

    def __init__(self, proprio_FP: NDArray[np.float32]):
        super().__init__()
        self.register_buffer("mean_P", torch.from_numpy(proprio_FP.mean(0)))
        self.register_buffer("std_P", torch.from_numpy(proprio_FP.std(0) + 1e-2))

    def forward(self, proprio: Tensor, goal: Tensor) -> Tensor:
        """(…, P) and (…, 3) to (…, P + 3); the hand's place are the first three entries of proprio."""
        place = (goal - self.mean_P[:3]) / self.std_P[:3]
        return torch.cat([(proprio - self.mean_P) / self.std_P, place], dim=-1)


class Nothing(nn.Module):
    """An encoder for who looks at no picture."""

    def forward(self, frames_BYXC: Tensor) -> Tensor:
        return torch.zeros(len(frames_BYXC), 1)


class Bounded(nn.Module):
    """The model as its search may see it: commands beyond the range count as those at its end."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def get_cost(self, seen: dict[str, Tensor], plans: Tensor) -> Tensor:
        """Of plans (B, N, H, V)."""
        cost: Tensor = self.model.get_cost(seen, plans.clamp(-1, 1).contiguous())
        return cost

    def get_action(self, *args: Any, **named: Any) -> Tensor:
        """What its actor proposes."""
        plan: Tensor = self.model.get_action(*args, **named)
        return plan


def windows(log: Transitions, threshold_m: float, seed: int) -> Iterator[dict[str, Tensor]]:
    """Batches of five steps, with goals in hindsight and what they would have earned, for ever."""
    rng, places_F3 = np.random.default_rng(seed), log.proprio_FP[:, :3]
    rows_WT = log.windows(_HORIZON + 2, np.unique(log.episode_F))
    last_E = np.cumsum(np.bincount(log.episode_F)) - 1
    while True:
        rows = rows_WT[rng.integers(len(rows_WT), size=_BATCH)]
        now, kind = rows[:, 0], rng.random(_BATCH)
        later = np.minimum(now + log.skip * rng.geometric(1 - _SHORTEN, _BATCH), last_E[log.episode_F[now]])
        goal = np.where(kind < _ELSEWHERE, rng.integers(len(places_F3), size=_BATCH), later)
        goal = np.where(kind > 1 - _NOW, now, goal)
        away = np.linalg.norm(places_F3[rows[:, 1:]] - places_F3[goal][:, None], axis=-1)
        yield {
            "proprio": torch.from_numpy(log.proprio_FP[rows[:, :-1]]),
            "goal": torch.from_numpy(places_F3[goal])[:, None].expand(-1, _HORIZON + 1, -1),
            "action": torch.from_numpy(log.chunks_FKU[rows[:, :-1]]).flatten(2),
            "reward": torch.from_numpy(-(away >= threshold_m).astype(np.float32)),
        }


def deciding(model: Bounded, state: State, arena: Arena, seed: int) -> Decide:
    """Its MPPI over five steps, of which one is carried out."""
    from stable_worldmodel.policy import PlanConfig  # type: ignore[import-not-found]
    from stable_worldmodel.solver import MPPISolver  # type: ignore[import-not-found]

    space = arena.task.simulation.command
    goals = torch.from_numpy(np.stack([pair.goal_position_m for pair in arena.pairs])).float()
    solver = MPPISolver(
        model, batch_size=1, num_samples=_SEARCH, n_steps=_ITERATIONS, topk=_ELITES, device=device(), seed=seed
    )  # fmt: skip

    def decide(history_BTD: Tensor, goal_BD: Tensor, proprio_BP: Tensor, reference_BU: Tensor) -> Tensor:
        num = len(proprio_BP)
        box = gymnasium.spaces.Box(-1, 1, (num, space.dim), np.float32)
        plan = PlanConfig(horizon=_HORIZON, receding_horizon=1, action_block=space.frame_skip)
        solver.configure(action_space=box, n_envs=num, config=plan)
        seen = {"state": state(proprio_BP.to(device()), goals[:num].to(device()))}
        chunk_BV = solver(seen)["actions"][:, 0].clamp(-1, 1)
        plan_BKU = chunk_BV.unflatten(1, (space.frame_skip, -1)).double().numpy()
        return obeying(space, plan_BKU, reference_BU.double().numpy())

    return decide


def _parts(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_children()]


def _share(name: str) -> float:
    """Of the learning rate, as its script has it."""
    return _ACTOR if name == "pi" else _ENCODER if name in ("extra_encoders", "sim_norm") else 1.0


def _settings(state_dim: int, action_dim: int) -> Settings:
    """Those of its script, with the size of this task."""
    world = Settings(
        horizon=_HORIZON, mlp_dim=384, enc_dim=256, simnorm_dim=8, num_q=5, rho=0.5, tau=0.01, consistency_coef=20.0,
        reward_coef=0.1, value_coef=0.1, discount=0.99, uncertainty_penalty=0.5, entropy_coef=1e-4, num_bins=101,
        vmin=-10, vmax=0, encoding=Settings(state=128),
    )  # fmt: skip
    return Settings(
        wm=world, action_dim=action_dim, extra_dims={"state": state_dim, "action": action_dim}, num_pi_trajs=_ACTORS
    )  # fmt: skip
