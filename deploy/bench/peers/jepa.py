"""LeWM and PLDM by stable-worldmodel: its models, losses, data format and search. Runs in its environment.

Sizes and weights are those of its training scripts (ViT-tiny, latent of 192, predictor of six layers, history 3;
LeWM: SIGReg 0.09; PLDM: variance 18 and 0.7 over time, covariance 12, alignment 0.2). A plan is five blocks, all of
which are carried out before the next one, as in its protocol.
"""

from collections.abc import Callable
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
    swm.prepare()
    from stable_worldmodel.wm.lewm import LeWM  # type: ignore[import-not-found]
    from stable_worldmodel.wm.loss import SIGReg  # type: ignore[import-not-found]

    sigreg = SIGReg(knots=17, num_proj=1024).to(device())
    return _fly(contest, LeWM, lambda z_BTD: _SIGREG * sigreg(z_BTD.float().transpose(0, 1)))


def pldm(contest: Contest) -> Outcome:
    """Prediction, variance and covariance, and alignment in time."""
    swm.prepare()
    from stable_worldmodel.wm.loss import PLDMLoss
    from stable_worldmodel.wm.pldm import PLDM  # type: ignore[import-not-found]

    terms = PLDMLoss().to(device())

    def regularizer(z_BTD: Tensor) -> Tensor:
        found = terms(z_BTD.float())
        return torch.stack([weight * found[name] for name, weight in _PLDM.items()]).sum()

    return _fly(contest, PLDM, regularizer)


def _fly(contest: Contest, kind: Any, regularizer: Callable[[Tensor], Tensor]) -> Outcome:
    from stable_worldmodel.data import HDF5Dataset  # type: ignore[import-not-found]

    torch.manual_seed(contest.seed)
    size = scale()
    with contest.arena() as arena:
        log, space = contest.log(arena), arena.task.simulation.command
        file = conversion.write_and_check(log, Path(contest.cache) / f"{contest.body}-{contest.transitions}.h5")
        data = HDF5Dataset(
            path=file, frameskip=log.skip, num_steps=_HISTORY + 1, keys_to_load=["pixels", "action"],
            keys_to_cache=["action"],
        )  # fmt: skip
        pictures = Pictures(size.image).to(device())
        actions = Actions(torch.from_numpy(data.get_col_data("action"))).to(device())
        model = build(kind, size, log.skip * space.dim).to(device())

        def loss(batch: dict[str, Tensor]) -> Tensor:
            image = pictures.scaled(batch["pixels"].flatten(0, 1)).unflatten(0, (-1, _HISTORY + 1))
            found = model.encode({"pixels": image, "action": actions(batch["action"])})
            z_BTD = found["emb"]
            told_BTD = model.predict(z_BTD[:, :_HISTORY], found["act_emb"][:, :_HISTORY])
            return (told_BTD - z_BTD[:, 1:]).square().mean() + regularizer(z_BTD)

        samples, train_s = train(
            model, loss, batches(data, size.batch, contest.seed), contest.budget_s, _LEARNING_RATE, _WEIGHT_DECAY
        )  # fmt: skip
        entrant = Entrant(
            pictures.cpu(), lambda seed: deciding(model, size, pictures, actions, space, seed), 1,
            contest.transitions, train_s, samples, count(model),
        )  # fmt: skip
        return judge(arena, entrant, contest.seed, size.remark)


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


def deciding(
    model: nn.Module, size: Scale, pictures: Pictures, actions: Actions, space: CommandSpace, seed: int
) -> Decide:  # fmt: skip
    """Its own CEM over five blocks, carried out one block per decision."""
    from stable_worldmodel.policy import PlanConfig  # type: ignore[import-not-found]
    from stable_worldmodel.solver import CEMSolver  # type: ignore[import-not-found]

    solver = CEMSolver(
        model, batch_size=1, num_samples=size.samples, n_steps=size.iterations, topk=size.elites, device=device(),
        seed=seed,
    )  # fmt: skip
    ahead: list[Tensor] = []

    def decide(history_BTD: Tensor, goal_BD: Tensor, proprio_BP: Tensor, reference_BU: Tensor) -> Tensor:
        if not ahead:
            num = len(goal_BD)
            box = gymnasium.spaces.Box(-np.inf, np.inf, (num, space.dim), np.float32)
            plan = PlanConfig(horizon=_HORIZON, receding_horizon=_HORIZON, action_block=space.frame_skip)
            solver.configure(action_space=box, n_envs=num, config=plan)
            seen = {
                "pixels": pictures.unflatten(history_BTD[:, -1:]), "goal": pictures.unflatten(goal_BD[:, None]),
                "action": torch.zeros(num, 1, space.frame_skip * space.dim),
            }  # fmt: skip
            ahead.extend(solver(seen)["actions"].unbind(dim=1))
        plan_BKU = actions.back(ahead.pop(0).to(actions.mean_U)).double().cpu().numpy()
        return obeying(space, plan_BKU, reference_BU.double().numpy())

    return decide
