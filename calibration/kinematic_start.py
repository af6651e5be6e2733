"""What a kinematic adapter starts from, in closed form: how joints answer commands, and motion as latent action."""

import torch
from torch import Tensor

from calibration.ridge import ridge
from robot_wm.data.scales import STANDARD_M, Scales
from robot_wm.models.adapter import KinematicAdapter
from robot_wm.models.world_model import WorldModel

_RIDGE = 1e-3  # of the joints' response: share of the stimulus' mean square
_TRUST = 20.0  # rows of labels that pretraining's own map from motion to latent action weighs as much as
_MOST = 2.5  # of a latent action before its tanh: beyond it labels say only that it is large


@torch.no_grad()
def set_scales(adapter: KinematicAdapter, proprio: Tensor, scales: Scales, focal: float) -> None:
    """Units of proprio, and places as pretraining has them: at the standard distance of the hand.

    Args:
        adapter: changed in place.
        proprio: the log (F, P) in its own units.
        scales: of the world model.
        focal: focal length of the camera, in half heights of its picture.
    """
    hand = adapter.kinematics(proprio[:, : adapter.num_joints])[:, 0]
    depth = float(hand[:, 2].mean())
    standard = STANDARD_M * focal / depth
    adapter.scale_3.copy_(standard / torch.tensor(scales.position_m))
    adapter.centre_3.copy_(torch.tensor(scales.position_mean_m) / standard + torch.tensor([0.0, 0.0, depth]))
    adapter.gain.fill_(scales.displacement_gain)


@torch.no_grad()
def fit_response(adapter: KinematicAdapter, chunks: Tensor, proprio: Tensor, came: Tensor) -> Tensor:
    """Ridge regression per joint; returns the root of the mean squared error of each [rad or m].

    Args:
        adapter: changed in place.
        chunks: (N, K · U) in plan units.
        proprio: (N, P) standardised, before each of them.
        came: (N, P) in its own units, after.
    """
    stimulus = adapter.stimulus(chunks, proprio).double()
    moved = (came - adapter._physical(proprio))[:, : adapter.num_joints].double()
    errors = []
    for joint in range(adapter.num_joints):
        x, y = stimulus[:, joint], moved[:, joint : joint + 1]
        weight, bias = ridge(x[:, :-1], y, _RIDGE)  # its last entry is 1
        adapter.response_UR[joint] = torch.cat([weight[:, 0], bias]).float()
        errors.append((x[:, :-1] @ weight + bias - y).square().mean().sqrt())
    return torch.stack(errors).float()


@torch.no_grad()
def fit_map(
    adapter: KinematicAdapter, model: WorldModel, chunks: Tensor, proprio: Tensor, labels: Tensor | None
) -> None:
    """The linear map from motion to latent action: pretraining's own, moved to the labels as far as they say more.

    Args:
        adapter: changed in place.
        model: whose displacement head says which motion of the hand a latent action is.
        chunks, proprio: (N, K · U) in plan units, (N, P) standardised.
        labels: (N, A) latent actions before the tanh that the labeler infers; None keeps pretraining's map.
    """
    head = model.state.displacement
    inverse = torch.linalg.pinv(head.weight)  # (A, 3): the smallest latent action that is this motion
    weight, bias = torch.zeros_like(adapter.linear.weight), -inverse @ head.bias
    weight[:, :3] = inverse
    if labels is not None:
        motion = adapter.motion(chunks, proprio)
        left = labels.clamp(-_MOST, _MOST) - motion @ weight.T - bias
        more, shift = ridge(motion, left, _TRUST / len(motion))
        weight, bias = weight + more.T.float(), bias + shift.float()
    adapter.linear.weight.copy_(weight)
    adapter.linear.bias.copy_(bias)
