"""One robot's body as the world model knows it: the same step of imagination for the fit and for the search."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.models.adapter import Adapter, KinematicAdapter, ProprioHead
from robot_wm.models.command import CommandMap
from robot_wm.models.dynamics import Dynamics


class Moment(NamedTuple):
    """What is known, or imagined, of one moment.

    Attributes:
        history_BTD: the last latents, newest last.
        proprio_BP: proprio, standardised.
        offset_BP: by how much measured positions differ from what latents show, standardised. What the robot measures
            of itself is exact; latents only say how it will change.
    """

    history_BTD: Tensor
    proprio_BP: Tensor
    offset_BP: Tensor

    def repeat(self, num: int) -> "Moment":
        """Every moment of the batch `num` times in a row, (B · num, …)."""
        return Moment(*(x[:, None].expand(-1, num, *x.shape[1:]).flatten(0, 1) for x in self))


class Body(nn.Module):
    """Dynamics, adapter and proprio head of a calibrated model, and the commands that the body takes.

    Attributes:
        command: the command space.
        position_P: 1 for entries of proprio that measure a position, which is what a goal image determines; else 0.
        proprio_mean_P, proprio_std_P: standardisation of proprio.
    """

    position_P: Tensor
    proprio_mean_P: Tensor
    proprio_std_P: Tensor

    def __init__(
        self,
        dynamics: Dynamics,
        adapter: Adapter | KinematicAdapter,
        proprio_head: ProprioHead,
        command: CommandSpace,
        proprio_mean_P: Tensor,
        proprio_std_P: Tensor,
        position_P: Tensor,
    ):
        super().__init__()
        self.dynamics, self.adapter, self.proprio_head = dynamics, adapter, proprio_head
        self.command, self.command_map = command, CommandMap(command)
        self.register_buffer("proprio_mean_P", proprio_mean_P)
        self.register_buffer("proprio_std_P", proprio_std_P)
        self.register_buffer("position_P", position_P)

    @property
    def latent_dim(self) -> int:
        return self.dynamics.outputs.out_features

    @property
    def history(self) -> int:
        return self.dynamics.history

    def standardize(self, proprio_BP: Tensor) -> Tensor:
        """Proprio in its own units to standardised; any leading dimensions."""
        return (proprio_BP - self.proprio_mean_P) / self.proprio_std_P

    def read(self, history_BTD: Tensor) -> Tensor:
        """Standardised proprio (B, P) that latents (B, T, D) show."""
        return self.proprio_head(history_BTD, self.position_P)

    def read_goal(self, goal_BD: Tensor) -> Tensor:
        """Standardised proprio (B, P) that the latent of a goal shows, of a body at rest there."""
        return self.read(goal_BD[:, None].expand(-1, self.history, -1))

    def observe(self, history_BTD: Tensor, proprio_BP: Tensor) -> Moment:
        """The present, from latents and measured proprio (standardised)."""
        return Moment(history_BTD, proprio_BP, (proprio_BP - self.read(history_BTD)) * self.position_P)

    def imagine(self, now: Moment, chunk_BV: Tensor) -> tuple[Moment, Tensor]:
        """The moment after one command chunk (B, K · U, in plan units), and the log of its latent's expected error."""
        action_BA = self.adapter(chunk_BV, now.proprio_BP, now.history_BTD[:, -1])
        z_BD, log_error_B = self.dynamics(now.history_BTD, action_BA)
        history_BTD = torch.cat([now.history_BTD[:, 1:], z_BD[:, None]], dim=1)
        return Moment(history_BTD, self.read(history_BTD) + now.offset_BP, now.offset_BP), log_error_B

    def follow(self, now: Moment, pending_BSKU: Tensor, reference_BU: Tensor) -> tuple[Moment, Tensor]:
        """The moment after commands that are already decided on.

        Args:
            now: before them.
            pending_BSKU: S chunks in physical units.
            reference_BU: the command before the first of them.

        Returns:
            The moment, and the command (B, U) that is then in force.
        """
        for chunk_BKU in pending_BSKU.unbind(dim=1):
            effective_BKU = self.command_map.normalize(chunk_BKU, reference_BU)
            now, _ = self.imagine(now, effective_BKU.flatten(1))
            reference_BU = chunk_BKU[:, -1]
        return now, reference_BU
