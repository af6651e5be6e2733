"""The world model: encode · infer · predict · rollout."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robot_wm.contracts import limits
from robot_wm.contracts.errors import UserError
from robot_wm.models.dynamics import Dynamics, DynamicsConfig
from robot_wm.models.encoder import Encoder, EncoderConfig
from robot_wm.models.heads import GoalHead, MotionHeads, StateHeads
from robot_wm.models.labeler import Labeler


@dataclass(frozen=True)
class WorldModelConfig:
    """Size of the world model.

    Attributes:
        encoder, dynamics: their sizes.
        action_dim: entries of a latent action.
        history: latents that the dynamics see.
        labeler_width: hidden width of the labeler and of the flow decoder, and half that of the goal head.
        flow_cells: side of the pooled optical flow that the labeler is grounded by.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    action_dim: int = 8
    history: int = 2
    labeler_width: int = 256
    flow_cells: int = 16

    def __post_init__(self) -> None:
        for name in ("history", "action_dim", "labeler_width"):
            if getattr(self, name) < 1:
                raise UserError(f"model.{name} is {getattr(self, name)}", "Give 1 or more")
            limits.refuse_over(f"model.{name}", getattr(self, name), limits.LAYER_WIDTH)
        limits.refuse_over("model.flow_cells", self.flow_cells, self.encoder.size)


class WorldModel(nn.Module):
    """Encoder, labeler and dynamics, with the heads that ground them."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.config = config
        latent_dim = config.encoder.latent_dim
        self.encoder = Encoder(config.encoder)
        self.labeler = Labeler(latent_dim, config.action_dim, config.labeler_width)
        self.dynamics = Dynamics(config.dynamics, latent_dim, config.history, config.action_dim)
        self.motion = MotionHeads(latent_dim, config.action_dim, config.flow_cells, config.labeler_width)
        self.state = StateHeads(latent_dim, config.action_dim)
        self.goal = GoalHead(latent_dim, config.action_dim, 2 * config.labeler_width)

    def encode(self, frames_BTYXC: Tensor) -> Tensor:
        """Frames (B, T, Y, X, 3), uint8, to latents (B, T, D)."""
        return self.encoder(frames_BTYXC.flatten(0, 1)).unflatten(0, frames_BTYXC.shape[:2])

    def infer(self, z_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """Latent actions between consecutive latents: mean and log deviation before the tanh, (B, T - 1, A) each.

        The first one has no latent before it and takes its own in that place, as a robot at rest would.
        """
        before = torch.cat([z_BTD[:, :1], z_BTD[:, :-2]], dim=1)
        return self.labeler(before, z_BTD[:, :-1], z_BTD[:, 1:])

    def predict(self, history_BTD: Tensor, action_BA: Tensor) -> tuple[Tensor, Tensor]:
        """The next latent (B, D) and the log of its expected mean squared error (B,)."""
        return self.dynamics(history_BTD, action_BA)

    def rollout(self, history_BTD: Tensor, actions_BHA: Tensor) -> Tensor:
        """Latents (B, H, D) that follow `history` under the given latent actions."""
        predicted = []
        for action_BA in actions_BHA.unbind(dim=1):
            z_BD, _ = self.dynamics(history_BTD, action_BA)
            history_BTD = torch.cat([history_BTD[:, 1:], z_BD[:, None]], dim=1)
            predicted.append(z_BD)
        return torch.stack(predicted, dim=1)

    def histories(self, z_BTD: Tensor) -> Tensor:
        """For every latent the `history` that ends there, (B, T, history, D); the first is repeated at the start."""
        padding = z_BTD[:, :1].expand(-1, self.config.history - 1, -1)
        return torch.cat([padding, z_BTD], dim=1).unfold(1, self.config.history, 1).transpose(2, 3)
