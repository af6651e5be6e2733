"""The adapter: one body's commands to latent actions, and its latents back to proprioception."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_wm.contracts import limits
from robot_wm.contracts.errors import UserError
from robot_wm.models.kinematics import ForwardKinematics, Kinematics
from robot_wm.models.layers import mlp


@dataclass(frozen=True)
class AdapterConfig:
    """How large the adapter is, and which.

    Attributes:
        width: of the hidden layers.
        context: numbers of the latent that the adapter may look at.
        kind: `learned` knows nothing of the body; `kinematic` knows how its points move in the camera's frame; `auto`
            leaves the choice to the calibration, which then names one of the two.
    """

    width: int = 128
    context: int = 32
    kind: Literal["auto", "learned", "kinematic"] = "learned"

    def __post_init__(self) -> None:
        if min(self.width, self.context) < 1:
            raise UserError(f"adapter: width {self.width}, context {self.context}", "Both must be at least 1")
        limits.refuse_over("adapter.width or adapter.context", max(self.width, self.context), limits.LAYER_WIDTH)


class Adapter(nn.Module):
    """(command chunk in plan units, proprio, z) to a latent action; all a new body has to teach."""

    def __init__(self, config: AdapterConfig, chunk_dim: int, proprio_dim: int, latent_dim: int, action_dim: int):
        super().__init__()
        self.context = nn.Linear(latent_dim, config.context)
        self.network = mlp((chunk_dim + proprio_dim + config.context, config.width, config.width, action_dim))

    def forward(self, chunk_BV: Tensor, proprio_BP: Tensor, z_BD: Tensor) -> Tensor:
        """Chunk (B, K · U) in plan units and standardised proprio (B, P) to the latent action (B, A) in (-1, 1)."""
        context_BE = torch.tanh(self.context(z_BD))
        return torch.tanh(self.network(torch.cat([chunk_BV, proprio_BP, context_BE], dim=-1)))


class KinematicAdapter(nn.Module):
    """The same for a body whose kinematics and camera are known: only what they leave is learned.

    A command chunk becomes a change of the joints by a linear response per joint, the change a motion of the body's
    points in the camera's frame, depth included, and that motion a latent action by a linear map, which starts as the
    inverse of what ties latent actions to the motion of a hand in pretraining. A network that starts at zero adds
    what those two do not say.

    Attributes:
        response_UR: of each joint to the K commands of a chunk, its position, its velocity and 1 [rad or m].
        centre_3, scale_3: from places in the camera's frame [m] to the units in which pretraining sees them.
        gain: of motions over places in those units.
    """

    proprio_mean_P: Tensor
    proprio_std_P: Tensor
    response_UR: Tensor
    centre_3: Tensor
    scale_3: Tensor
    gain: Tensor

    def __init__(
        self,
        config: AdapterConfig,
        table: Kinematics,
        chunk_dim: int,
        proprio_dim: int,
        latent_dim: int,
        action_dim: int,
    ):
        super().__init__()
        self.num_joints = proprio_dim // 2  # positions, then velocities
        if chunk_dim % self.num_joints:
            raise ValueError(f"chunks of {chunk_dim} do not belong to {self.num_joints} joints")
        self.kinematics = ForwardKinematics(table)
        known = 3 * len(table.points) + 3
        self.linear = nn.Linear(known, action_dim)
        self.context = nn.Linear(latent_dim, config.context)
        self.residual = mlp((known + chunk_dim + proprio_dim + config.context, config.width, config.width, action_dim))
        nn.init.zeros_(self.residual[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.residual[-1].bias)  # type: ignore[arg-type]
        for name, value in (
            ("proprio_mean_P", torch.zeros(proprio_dim)),
            ("proprio_std_P", torch.ones(proprio_dim)),
            ("response_UR", torch.zeros(self.num_joints, chunk_dim // self.num_joints + 3)),
            ("centre_3", torch.zeros(3)),
            ("scale_3", torch.ones(3)),
            ("gain", torch.ones(())),
        ):
            self.register_buffer(name, value)

    def stimulus(self, chunk_BV: Tensor, proprio_BP: Tensor) -> Tensor:
        """What each joint's response is linear in, (B, U, R); proprio standardised."""
        num = self.num_joints
        position_BU, velocity_BU = self._physical(proprio_BP).split(num, dim=1)
        own = torch.stack([position_BU, velocity_BU, torch.ones_like(position_BU)], dim=2)
        return torch.cat([chunk_BV.unflatten(1, (-1, num)).transpose(1, 2), own], dim=2)

    def motion(self, chunk_BV: Tensor, proprio_BP: Tensor) -> Tensor:
        """Motion of every point over the chunk, then where the first one is, in pretraining's units, (B, 3 M + 3)."""
        joints_BU = self._physical(proprio_BP)[:, : self.num_joints]
        moved_BU = joints_BU + (self.stimulus(chunk_BV, proprio_BP) * self.response_UR).sum(-1)
        places = (self.kinematics(torch.cat([joints_BU, moved_BU])) - self.centre_3) * self.scale_3
        now_BM3, then_BM3 = places.chunk(2)
        return torch.cat([((then_BM3 - now_BM3) * self.gain).flatten(1), now_BM3[:, 0]], dim=1)

    def forward(self, chunk_BV: Tensor, proprio_BP: Tensor, z_BD: Tensor) -> Tensor:
        """As Adapter.forward."""
        known = self.motion(chunk_BV, proprio_BP)
        context_BE = torch.tanh(self.context(z_BD))
        rest_BA = self.residual(torch.cat([known, chunk_BV, proprio_BP, context_BE], dim=-1))
        return torch.tanh(self.linear(known) + rest_BA)

    def _physical(self, proprio_BP: Tensor) -> Tensor:
        return proprio_BP * self.proprio_std_P + self.proprio_mean_P


def make_adapter(
    config: AdapterConfig, table: Kinematics | None, chunk_dim: int, proprio_dim: int, latent_dim: int, action_dim: int
) -> Adapter | KinematicAdapter:
    """The adapter of a kind; a kinematic one needs the table.

    Raises:
        UserError: a kinematic adapter without a table.
    """
    if config.kind != "kinematic":
        return Adapter(config, chunk_dim, proprio_dim, latent_dim, action_dim)
    if table is None:
        raise UserError("a kinematic adapter without kinematics", "Calibrate again, or give adapter.kind=learned")
    return KinematicAdapter(config, table, chunk_dim, proprio_dim, latent_dim, action_dim)


class ProprioHead(nn.Module):
    """Latents to proprio: the planner's idea of where its own body will be, and what a goal image asks for.

    Positions are read from the newest latent alone: read from the history, they would lean on its motion, and the
    still history of a goal image would be judged by a rule that moving ones taught.
    """

    def __init__(self, latent_dim: int, proprio_dim: int, width: int = 128):
        super().__init__()
        self.position = mlp((latent_dim, width, proprio_dim))
        self.linear = nn.Linear(latent_dim, proprio_dim)
        self.change = nn.Linear(latent_dim, proprio_dim, bias=False)

    def forward(self, history_BTD: Tensor, position_P: Tensor) -> Tensor:
        """Standardised proprio (B, P); `position_P` is 1 for its entries that measure a position, else 0."""
        now, before = history_BTD[:, -1], history_BTD[:, 0]
        change_PD = (1 - position_P)[:, None] * self.change.weight
        linear_BP = F.linear(now, self.linear.weight + change_PD, self.linear.bias) - F.linear(before, change_PD)
        return linear_BP + self.position(now)
