"""LeWM and PLDM by stable-worldmodel: its models, losses, data format and search. Runs in its environment.

Sizes and weights are those of its training scripts (ViT-tiny, latent of 192, predictor of six layers, history 3;
LeWM: SIGReg 0.09; PLDM: variance 18 and 0.7 over time, covariance 12, alignment 0.2, read in a copy of its yaml).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from deploy.bench.arena import Decide
from deploy.bench.peers import conversion, swm
from deploy.bench.peers.contest import Contest, Entrant, Outcome, count, judge, obeying
from deploy.bench.peers.training import Actions, Pictures, Scale, batches, device, scale, train
from robot_wm.contracts.embodiment import CommandSpace

_DIM, _HISTORY, _HORIZON = 192, 3, 5
_LEARNING_RATE, _WEIGHT_DECAY, _SIGREG = 5e-5, 1e-3, 0.09
_PLDM = {"std_loss": 18.0, "std_t_loss": 0.7, "cov_loss": 12.0, "temp_align_loss": 0.2}


def lewm(contest: Contest) -> Outcome:
    """Prediction and SIGReg."""
    return _fly(contest, "lewm")


def pldm(contest: Contest) -> Outcome:
    """Prediction, variance and covariance, and alignment in time."""
    return _fly(contest, "pldm")


@dataclass(frozen=True)
class Learned:
    """A model after its training, and what stands between it and frames and commands."""

    model: Any
    pictures: Pictures
    actions: Actions
    size: Scale
    samples: int
    train_s: float


def learn(name: str, file: Path, skip: int, contest: Contest) -> Learned:
    """Train one of the two on a file in its format, a window of four frames that lie `skip` rows apart at a time."""
    swm.prepare()
    from stable_worldmodel.data import HDF5Dataset  # type: ignore[import-not-found]

    torch.manual_seed(contest.seed)
    size = scale()
    data = HDF5Dataset(
        path=file, frameskip=skip, num_steps=_HISTORY + 1, keys_to_load=["pixels", "action"], keys_to_cache=["action"]
    )  # fmt: skip
    pictures = Pictures(size.image).to(device())
    actions = Actions(torch.from_numpy(data.get_col_data("action"))).to(device())
    kind, regularizer = _kind(name)
    model = build(kind, size, skip * len(actions.mean_U)).to(device())

    def loss(batch: dict[str, Tensor]) -> Tensor:
        image = pictures.scaled(batch["pixels"].flatten(0, 1)).unflatten(0, (-1, _HISTORY + 1))
        found = model.encode({"pixels": image, "action": actions(batch["action"])})
        z_BTD = found["emb"]
        told_BTD = model.predict(z_BTD[:, :_HISTORY], found["act_emb"][:, :_HISTORY])
        return (told_BTD - z_BTD[:, 1:]).square().mean() + regularizer(z_BTD.float())

    samples, train_s = train(
        model, loss, batches(data, size.batch, contest.seed), contest.budget_s, _LEARNING_RATE, _WEIGHT_DECAY
    )  # fmt: skip
    return Learned(model, pictures.cpu(), actions, size, samples, train_s)


def _fly(contest: Contest, name: str) -> Outcome:
    swm.prepare()
    with contest.arena() as arena:
        log, space = contest.log(arena), arena.task.simulation.command
        file = conversion.write_and_check(log, Path(contest.cache) / f"{contest.body}-{contest.transitions}.h5")
        learned = learn(name, file, log.skip, contest)
        entrant = Entrant(
            learned.pictures, lambda seed: deciding(learned, space, seed), 1, contest.transitions, learned.train_s,
            learned.samples, count(learned.model),
        )  # fmt: skip
        return judge(arena, entrant, contest.seed, learned.size.remark)


def _kind(name: str) -> tuple[Any, Callable[[Tensor], Tensor]]:
    """Its class, and what keeps its latents (B, T, D) from collapsing."""
    from stable_worldmodel.wm.lewm import LeWM  # type: ignore[import-not-found]
    from stable_worldmodel.wm.loss import PLDMLoss, SIGReg  # type: ignore[import-not-found]
    from stable_worldmodel.wm.pldm import PLDM  # type: ignore[import-not-found]

    if name == "lewm":
        sigreg = SIGReg(knots=17, num_proj=1024).to(device())
        return LeWM, lambda z_BTD: _SIGREG * sigreg(z_BTD.transpose(0, 1))
    terms = PLDMLoss().to(device())

    def regularizer(z_BTD: Tensor) -> Tensor:
        found = terms(z_BTD)
        return torch.stack([weight * found[term] for term, weight in _PLDM.items()]).sum()

    return PLDM, regularizer


def build(kind: Any, size: Scale, chunk_dim: int) -> Any:
    """The model of its scripts."""
    from stable_worldmodel.wm.lewm.module import MLP, Embedder, Predictor  # type: ignore[import-not-found]

    def projector() -> nn.Module:
        made: nn.Module = MLP(_DIM, 2048, _DIM, norm_fn=nn.BatchNorm1d)
        return made

    return kind(
        encoder=vit_tiny(size),
        predictor=Predictor(
            num_frames=_HISTORY, depth=6, heads=16, mlp_dim=2048, input_dim=_DIM, hidden_dim=_DIM, output_dim=_DIM,
            dim_head=64, dropout=0.1,
        ),
        action_encoder=Embedder(input_dim=chunk_dim, emb_dim=_DIM),
        projector=projector(),
        pred_proj=projector(),
    )  # fmt: skip


def vit_tiny(size: Scale) -> nn.Module:
    """A ViT-tiny with random weights, as its scripts build one."""
    from transformers import ViTConfig, ViTModel  # type: ignore[import-not-found]

    sizes = ViTConfig(
        hidden_size=_DIM, num_hidden_layers=12, num_attention_heads=3, intermediate_size=4 * _DIM,
        image_size=size.image, patch_size=size.patch,
    )  # fmt: skip
    model: nn.Module = ViTModel(sizes, add_pooling_layer=False)
    return model


def search(learned: Learned, seed: int) -> Any:
    """Its own CEM."""
    from stable_worldmodel.solver import CEMSolver  # type: ignore[import-not-found]

    size = learned.size
    return CEMSolver(
        learned.model, batch_size=1, num_samples=size.samples, n_steps=size.iterations, topk=size.elites,
        device=device(), seed=seed,
    )  # fmt: skip


def plan_of(block: int) -> Any:
    """Five blocks ahead, all of which are carried out before the next plan, as in its protocol."""
    from stable_worldmodel.policy import PlanConfig  # type: ignore[import-not-found]

    return PlanConfig(horizon=_HORIZON, receding_horizon=_HORIZON, action_block=block)


def deciding(learned: Learned, space: CommandSpace, seed: int) -> Decide:
    """Its search, of whose plan a block is carried out per decision."""
    solver, pictures, actions = search(learned, seed), learned.pictures, learned.actions
    ahead: list[Tensor] = []

    def decide(history_BTD: Tensor, goal_BD: Tensor, proprio_BP: Tensor, reference_BU: Tensor) -> Tensor:
        if not ahead:
            num = len(goal_BD)
            box = gymnasium.spaces.Box(-np.inf, np.inf, (num, space.dim), np.float32)
            solver.configure(action_space=box, n_envs=num, config=plan_of(space.frame_skip))
            seen = {
                "pixels": pictures.unflatten(history_BTD[:, -1:]), "goal": pictures.unflatten(goal_BD[:, None]),
                "action": torch.zeros(num, 1, space.frame_skip * space.dim),
            }  # fmt: skip
            ahead.extend(solver(seen)["actions"].unbind(dim=1))
        plan_BKU = actions.back(ahead.pop(0).to(actions.mean_U)).double().cpu().numpy()
        return obeying(space, plan_BKU, reference_BU.double().numpy())

    return decide
