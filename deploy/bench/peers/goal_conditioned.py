"""Goal-conditioned behaviour cloning by stable-worldmodel: its model, goals and settings. Runs in its environment.

Its script takes either DINOv2, which is downloaded from a hub, or a ViT-tiny trained along; here it is the latter.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from deploy.bench.arena import Decide
from deploy.bench.peers import conversion, swm
from deploy.bench.peers.contest import Contest, Entrant, Outcome, count, judge, obeying
from deploy.bench.peers.jepa import vit_tiny
from deploy.bench.peers.training import Actions, Pictures, batches, device, scale, train
from robot_wm.contracts.embodiment import CommandSpace

_DIM, _HISTORY, _LEARNING_RATE, _WEIGHT_DECAY = 192, 3, 1e-4, 0.01


def gcbc(contest: Contest) -> Outcome:
    """The action chunk of every frame of the history, given a later frame of the episode."""
    swm.prepare()
    from stable_worldmodel.data import GoalDataset, HDF5Dataset  # type: ignore[import-not-found]
    from stable_worldmodel.wm.gcrl import GCRL  # type: ignore[import-not-found]
    from stable_worldmodel.wm.gcrl.module import Predictor  # type: ignore[import-not-found]

    torch.manual_seed(contest.seed)
    size = scale()
    with contest.arena() as arena:
        log, space = contest.log(arena), arena.task.simulation.command
        file = conversion.write_and_check(log, Path(contest.cache) / f"{contest.body}-{contest.transitions}.h5")
        windows = HDF5Dataset(
            path=file, frameskip=log.skip, num_steps=_HISTORY, keys_to_load=["pixels", "action"],
            keys_to_cache=["action"],
        )  # fmt: skip
        data = GoalDataset(
            windows, goal_probabilities=(0.0, 0.0, 1.0, 0.0), current_goal_offset=_HISTORY,
            goal_keys={"pixels": "goal_pixels"}, seed=contest.seed,
        )  # fmt: skip
        pictures = Pictures(size.image).to(device())
        actions = Actions(torch.from_numpy(windows.get_col_data("action"))).to(device())
        patches = (size.image // size.patch) ** 2
        predictor = Predictor(
            num_patches=patches, num_frames=_HISTORY, dim=_DIM, depth=6, heads=16, mlp_dim=2048,
            out_dim=log.skip * space.dim, dim_head=64, dropout=0.1,
        )  # fmt: skip
        model = GCRL(vit_tiny(size), predictor, history_size=_HISTORY).to(device())

        def loss(batch: dict[str, Tensor]) -> Tensor:
            seen = {
                name: pictures.scaled(batch[name].flatten(0, 1)).unflatten(0, (len(batch[name]), -1))
                for name in ("pixels", "goal_pixels")
            }
            model.encode(seen, pixels_key="pixels", target="embed")
            model.encode(seen, pixels_key="goal_pixels", prefix="goal_", target="goal_embed")
            told, _ = model.predict_actions(seen["embed"], seen["goal_embed"])
            return (told - actions(batch["action"])).square().mean()

        samples, train_s = train(
            model, loss, batches(data, min(size.batch, 32), contest.seed), contest.budget_s, _LEARNING_RATE,
            _WEIGHT_DECAY,
        )  # fmt: skip
        entrant = Entrant(
            pictures.cpu(), lambda seed: deciding(model, pictures, actions, space), _HISTORY, contest.transitions,
            train_s, samples, count(model),
        )  # fmt: skip
        return judge(arena, entrant, contest.seed, size.remark)


def deciding(model: nn.Module, pictures: Pictures, actions: Actions, space: CommandSpace) -> Decide:
    """The action chunk of the newest frame."""

    def decide(history_BTD: Tensor, goal_BD: Tensor, proprio_BP: Tensor, reference_BU: Tensor) -> Tensor:
        seen = {
            "pixels": pictures.unflatten(history_BTD).to(device()),
            "goal": pictures.unflatten(goal_BD[:, None]).to(device()),
        }
        plan_BKU = actions.back(model.get_action(seen)).double().cpu().numpy()  # type: ignore[operator]
        return obeying(space, plan_BKU, reference_BU.double().numpy())

    return decide
