"""The terms of pretraining."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from robot_wm.contracts.errors import UserError
from robot_wm.data.loader import Batch
from robot_wm.models.labeler import Labeler
from robot_wm.models.world_model import WorldModel
from robot_wm.training import ranks


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms, and the number of steps rolled out; a weight of zero switches the term off.

    Attributes:
        predict: next latent, teacher-forced.
        rollout: the latents of `rollout_steps` steps predicted from predictions.
        regularize: SIGReg, towards an isotropic Gaussian latent.
        bottleneck: KL of the latent action to a standard Gaussian (before the tanh).
        flow: pooled optical flow, decoded from the latent action and the latent.
        moments: four moments of that flow, from the latent action alone.
        state: positions of hand, nearest object and arm, and hand displacement, for simulated clips only.
        goal: latent action towards later frames and the time to them; reads latents, does not shape them.
    """

    predict: float = 1.0
    rollout: float = 1.0
    rollout_steps: int = 4
    regularize: float = 0.1
    bottleneck: float = 0.01
    flow: float = 2.0
    moments: float = 1.0
    state: float = 1.0
    goal: float = 1.0

    def __post_init__(self) -> None:
        if self.rollout_steps < 1:
            raise UserError(f"loss.rollout_steps is {self.rollout_steps}", "Give 1 or more")


def sigreg(z_ND: Tensor, directions_DM: Tensor, points: int = 17, limit: float = 5.0) -> Tensor:
    """Sketched isotropic Gaussian regularisation (LeJEPA, arXiv:2511.08544): Epps–Pulley along random directions.

    The mean over directions of ∫ |φ(t) − exp(−t²/2)|² exp(−t²/2) dt, φ being the empirical characteristic function of
    the projections, by the trapezoidal rule. Not multiplied by N, so that it does not grow with the batch; φ is
    averaged over all ranks.

    Args:
        z_ND: latents.
        directions_DM: columns of unit length.
        points, limit: of the integration over [-limit, limit].
    """
    t_P = torch.linspace(-limit, limit, points, device=z_ND.device, dtype=z_ND.dtype)
    phase_NMP = (z_ND @ directions_DM)[..., None] * t_P
    characteristic = ranks.mean(torch.stack([phase_NMP.cos().mean(0), phase_NMP.sin().mean(0)]))
    gaussian_P = (-t_P.square() / 2).exp()
    distance_MP = (characteristic[0] - gaussian_P).square() + characteristic[1].square()
    return torch.trapezoid(distance_MP * gaussian_P, t_P, dim=-1).mean()


def bottleneck(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL divergence [nat] of a diagonal Gaussian to the standard one, summed over the last dimension, averaged."""
    return 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum(-1).mean()


def squared_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the entries whose target is known (not NaN); zero when none is.

    The number known is that of all ranks, so that the mean over ranks is the mean over the whole batch's entries.
    """
    known = ~target.isnan()
    difference = torch.where(known, predicted - target.nan_to_num(), torch.zeros_like(predicted))
    return difference.square().sum() / ranks.mean(known.sum().float()).clamp(min=1 / ranks.count())


def pretraining_terms(model: WorldModel, z_BTD: Tensor, batch: Batch, config: LossConfig) -> dict[str, Tensor]:
    """Every term of a batch and its latents, unweighted, and under `total` their weighted sum.

    Where a batch is shared by several ranks, the mean of a term over ranks is its value for the whole batch.
    """
    mean, log_std = model.infer(z_BTD)
    noise = ranks.share(torch.randn(len(mean) * ranks.count(), *mean.shape[1:], device=mean.device))
    actions = Labeler.sample(mean, log_std, noise)
    histories = model.histories(z_BTD)[:, :-1]
    predicted, log_error = model.predict(histories.flatten(0, 1), actions.flatten(0, 1))
    target = z_BTD[:, 1:].flatten(0, 1)
    error_N = (predicted - target).square().mean(-1)
    steps = min(config.rollout_steps, actions.shape[1])
    rolled = model.rollout(histories[:, 0], actions[:, :steps])
    flow, moments = model.motion(z_BTD[:, :-1].flatten(0, 1), actions.flatten(0, 1))
    hand, thing, arm, displacement = model.state(z_BTD, actions)
    directions = F.normalize(torch.randn(z_BTD.shape[-1], 256, device=z_BTD.device), dim=0)
    terms = {
        "predict": error_N.mean(),
        "rollout": (rolled - z_BTD[:, 1 : steps + 1]).square().mean(),
        "regularize": sigreg(z_BTD.flatten(0, 1), directions),
        "bottleneck": bottleneck(mean, log_std),
        "flow": squared_error(flow, batch.flow_BTF.flatten(0, 1)),
        "moments": squared_error(moments, batch.moments_BT4.flatten(0, 1)),
        "state": squared_error(hand, batch.hand_BT3)
        + squared_error(thing, batch.object_BT3)
        + squared_error(arm, batch.arm_BTP3)
        + squared_error(displacement, batch.displacement_BT3),
    }
    terms["goal"] = hindsight(model, histories.detach(), z_BTD.detach(), torch.tanh(mean).detach())
    weighted = sum(getattr(config, name) * value for name, value in terms.items())
    # The expected error is fitted by likelihood beside the other terms; it steers none of them.
    terms["calibration"] = (error_N.detach() / log_error.exp() + log_error).mean()
    terms["total"] = weighted + 0.1 * terms["calibration"]
    return terms


def hindsight(model: WorldModel, histories_BTHD: Tensor, z_BTD: Tensor, actions_BTA: Tensor) -> Tensor:
    """Error of the goal head on two goals per clip, each a later frame of it.

    Args:
        model: whose goal head is judged.
        histories_BTHD: of the T latents that a latent action follows.
        z_BTD: latents, (B, T + 1, D).
        actions_BTA: what the labeler inferred, (B, T, A).
    """
    clip = torch.arange(len(z_BTD), device=z_BTD.device).repeat(2)
    goals = 2, len(z_BTD) * ranks.count()
    now = ranks.share(torch.randint(actions_BTA.shape[1], goals, device=clip.device), dim=1).flatten()
    chance = ranks.share(torch.rand(goals, device=clip.device), dim=1).flatten()
    steps = 1 + (chance * (actions_BTA.shape[1] - now)).long()
    action, log_steps = model.goal(histories_BTHD[clip, now], z_BTD[clip, now + steps])
    far = (log_steps - steps.log()).square().mean()
    return (action - actions_BTA[clip, now]).square().mean() + 0.1 * far


@torch.no_grad()
def health(model: WorldModel, batch: Batch) -> dict[str, float]:
    """Signs of the three known failures: static collapse, a hash, a dead latent action.

    Returns:
        moving_share: variance within clips over the total variance of the latent (a static scene code: near 0).
        nats: KL of the latent action (dead below about 1).
        zero_ratio, shuffled_ratio: error with zero and with shuffled latent actions over that with inferred ones.
        copy_ratio: error of copying the last latent over that of predicting.
        hand_r2: R² of the displacement of the hand from the latent action, where simulator state is known.
        hand_place_r2, object_place_r2, arm_place_r2: R² of their positions from the latent, likewise.
    """
    z_BTD = model.encode(batch.frames_BTYXC)
    mean, log_std = model.infer(z_BTD)
    actions = torch.tanh(mean).flatten(0, 1)
    histories = model.histories(z_BTD)[:, :-1].flatten(0, 1)
    target = z_BTD[:, 1:].flatten(0, 1)

    def error(candidate: Tensor) -> float:
        return float((model.predict(histories, candidate)[0] - target).square().mean())

    inferred = max(error(actions), 1e-9)
    hand, thing, arm, displacement = model.state(z_BTD, torch.tanh(mean))
    return {
        "moving_share": float(z_BTD.var(dim=1).mean() / z_BTD.flatten(0, 1).var(dim=0).mean()),
        "nats": float(bottleneck(mean, log_std)),
        "zero_ratio": error(torch.zeros_like(actions)) / inferred,
        "shuffled_ratio": error(actions[torch.randperm(len(actions)).to(actions.device)]) / inferred,
        "copy_ratio": float((histories[:, -1] - target).square().mean()) / inferred,
        "hand_r2": _explained(displacement, batch.displacement_BT3),
        "hand_place_r2": _explained(hand, batch.hand_BT3),
        "object_place_r2": _explained(thing, batch.object_BT3),
        "arm_place_r2": _explained(arm, batch.arm_BTP3),
    }


def _explained(predicted: Tensor, target: Tensor) -> float:
    """R² over the rows that are known; NaN when there is none."""
    known = ~target.isnan().any(-1)
    if not known.any():
        return float("nan")
    spread = target[known] - target[known].mean(0)
    return float(1 - (predicted - target)[known].square().sum() / spread.square().sum())
