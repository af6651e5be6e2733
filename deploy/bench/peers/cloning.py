"""Small imitators of our own: goal-conditioned behaviour cloning, and an inverse model on a frozen encoder.

Both learn from the same log, whose later frames serve as goals (hindsight), to give the command chunk that came next.
"""

import copy
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calibration.transitions import Transitions
from deploy.bench.arena import Decide
from deploy.bench.peers.contest import Contest, Entrant, Outcome, count, judge, obeying
from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.data.windows import split
from robot_wm.models.encoder import Encoder, EncoderConfig
from robot_wm.models.layers import mlp
from robot_wm.training.checkpoint import load_world_model, model_run

_FURTHEST = 5  # model steps from a frame to the later one that serves as its goal
_BATCH, _WIDTH, _LEARNING_RATE = 64, 256, 1e-3
_VALIDATION, _EVERY, _PATIENCE = 0.1, 100, 10  # of the episodes; steps between looks at them, looks without a gain


class Imitator(nn.Module):
    """Latents of now and of the goal, and proprio, to the next command chunk in plan units."""

    mean_P: Tensor
    std_P: Tensor

    def __init__(self, encoder: nn.Module, latent_dim: int, proprio_FP: NDArray[np.float32], chunk: tuple[int, int]):
        super().__init__()
        self.encoder, self.chunk = encoder, chunk
        self.register_buffer("mean_P", torch.from_numpy(proprio_FP.mean(0)))
        self.register_buffer("std_P", torch.from_numpy(proprio_FP.std(0) + 1e-6))
        self.head = mlp((2 * latent_dim + proprio_FP.shape[1], _WIDTH, _WIDTH, chunk[0] * chunk[1]))

    def forward(self, z_BD: Tensor, goal_BD: Tensor, proprio_BP: Tensor) -> Tensor:
        """(B, K, U)."""
        seen = torch.cat([z_BD, goal_BD, (proprio_BP - self.mean_P) / self.std_P], dim=1)
        return torch.tanh(self.head(seen)).unflatten(1, self.chunk)


def behaviour_cloning(contest: Contest) -> Outcome:
    """From pixels, encoder and all."""
    return _fly(contest, frozen=False)


def inverse_model(contest: Contest) -> Outcome:
    """On the latents of the world model that comes with the package, which stays as it is."""
    return _fly(contest, frozen=True)


def _fly(contest: Contest, frozen: bool) -> Outcome:
    torch.manual_seed(contest.seed)
    with contest.arena() as arena:
        log, camera, space = contest.log(arena), arena.task.simulation.embodiment.camera, arena.task.simulation.command
        encoder = load_world_model(model_run("shipped"))[0].encoder if frozen else Encoder(EncoderConfig())
        encoder.resize_from(camera.height, camera.width)
        model = Imitator(encoder, encoder.config.latent_dim, log.proprio_FP, (space.frame_skip, space.dim))
        began_s = time.perf_counter()
        samples = _train(model, log, contest, frozen)
        train_s = time.perf_counter() - began_s
        entrant = Entrant(
            encoder, lambda seed: deciding(model, space), 1, contest.transitions, train_s, samples, count(model)
        )
        return judge(arena, entrant, contest.seed)


def deciding(model: Imitator, space: CommandSpace) -> Decide:
    """The imitator as a controller."""

    def decide(history_BTD: Tensor, goal_BD: Tensor, proprio_BP: Tensor, reference_BU: Tensor) -> Tensor:
        plan_BKU = model(history_BTD[:, -1], goal_BD, proprio_BP).double().numpy()
        return obeying(space, plan_BKU, reference_BU.double().numpy())

    return decide


def hindsight(log: Transitions, rows: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.int64]:
    """For each row a later one of its episode, 1 to 5 model steps on, as far as the episode goes."""
    last_E = np.cumsum(np.bincount(log.episode_F)) - 1
    left = (last_E[log.episode_F[rows]] - rows) // log.skip
    steps = 1 + (rng.random(len(rows)) * np.clip(left, 1, _FURTHEST)).astype(np.int64)
    return np.asarray(np.minimum(rows + steps * log.skip, last_E[log.episode_F[rows]]), np.int64)


def _train(model: Imitator, log: Transitions, contest: Contest, frozen: bool) -> int:
    """Until held-out episodes gain no more or the budget is spent; the best weights stay. Samples seen."""
    rng, ends_s = np.random.default_rng(contest.seed), time.perf_counter() + contest.budget_s
    usable = np.flatnonzero(np.isfinite(log.chunks_FKU).all(axis=(1, 2)))
    train_E, held_E = split(int(log.episode_F.max()) + 1, _VALIDATION, contest.seed)
    train, held = (usable[np.isin(log.episode_F[usable], episodes)] for episodes in (train_E, held_E))
    held = rng.permutation(held)[:512]
    held_goals = hindsight(log, held, rng)
    latents = _latents(model.encoder, log.frames_FYXC) if frozen else None
    learned = model.head if frozen else model
    optimizer = torch.optim.AdamW(learned.parameters(), _LEARNING_RATE, weight_decay=0.01)

    def loss(rows: NDArray[np.integer], goals: NDArray[np.integer]) -> Tensor:
        both = np.concatenate([rows, goals])
        z = latents[both] if latents is not None else model.encoder(torch.from_numpy(log.frames_FYXC[both]))
        plan = model(*z.split(len(rows)), torch.from_numpy(log.proprio_FP[rows]))
        return (plan - torch.from_numpy(log.chunks_FKU[rows])).square().mean()

    best, best_loss, waited, steps = copy.deepcopy(model.state_dict()), float("inf"), 0, 0
    while waited < _PATIENCE and (steps == 0 or time.perf_counter() < ends_s):
        learned.train()
        for _ in range(_EVERY):
            rows = rng.choice(train, _BATCH)
            optimizer.zero_grad()
            loss(rows, hindsight(log, rows, rng)).backward()
            optimizer.step()
            steps += 1
            if time.perf_counter() > ends_s:
                break
        model.eval()
        with torch.no_grad():
            now = float(loss(held, held_goals))
        waited = waited + 1 if now >= best_loss else 0
        if now < best_loss:
            best, best_loss = copy.deepcopy(model.state_dict()), now
    model.load_state_dict(best)
    model.eval()
    return steps * _BATCH


@torch.no_grad()
def _latents(encoder: nn.Module, frames_FYXC: NDArray[np.uint8]) -> Tensor:
    encoder.eval()
    return torch.cat([encoder(frames) for frames in torch.from_numpy(frames_FYXC).split(256)])
