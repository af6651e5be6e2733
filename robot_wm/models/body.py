"""One robot's body as the world model knows it: the same step of imagination for the fit and for the search."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.models.adapter import Adapter, KinematicAdapter, ProprioHead
from robot_wm.models.command import CommandMap
from robot_wm.models.dynamics import Dynamics
from robot_wm.models.posterior import Posterior
from robot_wm.models.response import Response

_ALIKE = 0.5  # how fast the misreadings of two pictures become strangers: standardised distance of what is read


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


class Goal(NamedTuple):
    """What to reach.

    Attributes:
        latent_BD: of a picture of it.
        proprio_BP: of the body there, standardised.
        asked_BP: 1 for entries of `proprio_BP` that are to be reached, 0 for those that do not matter.
    """

    latent_BD: Tensor
    proprio_BP: Tensor
    asked_BP: Tensor


class Problem(NamedTuple):
    """Where a plan starts, the command (B, U) in force there, and where it should lead."""

    now: Moment
    reference_BU: Tensor
    goal: Goal

    def repeat(self, num: int) -> "Problem":
        """Every problem of the batch `num` times in a row, (B · num, …)."""

        def spread(x: Tensor) -> Tensor:
            return x[:, None].expand(-1, num, *x.shape[1:]).flatten(0, 1)

        now, goal = Moment(*map(spread, self.now)), Goal(*map(spread, self.goal))
        return Problem(now, spread(self.reference_BU), goal)


class Body(nn.Module):
    """Dynamics, adapter, proprio head and response of a calibrated model, and the commands that the body takes.

    Attributes:
        command: the command space.
        position_P: 1 for entries of proprio that measure a position, which is what a goal image determines; else 0.
        proprio_mean_P, proprio_std_P: standardisation of proprio.
        posterior: how unsure the dynamics are, as the log of a calibration left them; None: as pretraining has it.
    """

    position_P: Tensor
    proprio_mean_P: Tensor
    proprio_std_P: Tensor
    posterior: Posterior | None

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
        self.response = Response(command.frame_skip * command.dim, command.dim, len(position_P))
        self.posterior = None
        self.register_buffer("proprio_mean_P", proprio_mean_P)
        self.register_buffer("proprio_std_P", proprio_std_P)
        self.register_buffer("position_P", position_P)

    @property
    def latent_dim(self) -> int:
        return self.dynamics.outputs.out_features

    @property
    def history(self) -> int:
        return self.dynamics.history

    @property
    def proprio_dim(self) -> int:
        return len(self.position_P)

    def standardize(self, proprio_BP: Tensor) -> Tensor:
        """Proprio in its own units to standardised; any leading dimensions."""
        return (proprio_BP - self.proprio_mean_P) / self.proprio_std_P

    def read(self, history_BTD: Tensor) -> Tensor:
        """Standardised proprio (B, P) that latents (B, T, D) show."""
        return self.proprio_head(history_BTD, self.position_P)

    def aim(self, goal_BD: Tensor, target_BP: Tensor | None = None, now: Moment | None = None) -> Goal:
        """A goal from the latent of its picture.

        Args:
            goal_BD: the latent; of a body at rest, as far as the picture can say.
            target_BP: proprio to reach, in its own units, where it is known better than the picture shows it; NaN
                where it is not.
            now: the present as it is seen; the nearer its picture is to the goal's, the more of what is misread of it
                is taken for misread of the goal as well.
        """
        shown_BP = self.read(goal_BD[:, None].expand(-1, self.history, -1))
        if now is not None:
            shown_BP = shown_BP + self._misread(shown_BP, now)
        shown_asked_BP = self.position_P.expand_as(shown_BP)
        if target_BP is None:
            return Goal(goal_BD, shown_BP, shown_asked_BP)
        open_BP = torch.isnan(target_BP)
        asked_BP = torch.where(open_BP, shown_asked_BP, torch.ones_like(shown_BP))
        return Goal(goal_BD, torch.where(open_BP, shown_BP, self.standardize(target_BP)), asked_BP)

    def _misread(self, shown_BP: Tensor, now: Moment) -> Tensor:
        """What to add to positions that a picture shows: pictures that read alike are misread alike."""
        away_BP = (now.proprio_BP - now.offset_BP - shown_BP) * self.position_P
        square_B1 = away_BP.square().sum(-1, keepdim=True) / self.position_P.sum().clamp(min=1)
        return torch.exp(-(square_B1 + 1e-12).sqrt() / _ALIKE) * now.offset_BP

    def observe(self, history_BTD: Tensor, proprio_BP: Tensor) -> Moment:
        """The present, from latents and measured proprio (standardised)."""
        return Moment(history_BTD, proprio_BP, (proprio_BP - self.read(history_BTD)) * self.position_P)

    def imagine(self, now: Moment, chunk_BV: Tensor, reference_BU: Tensor) -> tuple[Moment, Tensor]:
        """The moment after one command chunk, and the log of its latent's expected error.

        Args:
            now: before it.
            chunk_BV: (B, K · U) in plan units.
            reference_BU: the command in force before it, in its own unit.
        """
        action_BA = self.adapter(chunk_BV, now.proprio_BP, now.history_BTD[:, -1])
        if self.posterior is None:
            z_BD, log_error_B = self.dynamics(now.history_BTD, action_BA)
        else:
            x_BW = self.dynamics.features(now.history_BTD, action_BA)
            z_BD, log_error_B = self.dynamics.predict(now.history_BTD, x_BW), self.posterior(x_BW)
        history_BTD = torch.cat([now.history_BTD[:, 1:], z_BD[:, None]], dim=1)
        shown_BP = self.read(history_BTD) + now.offset_BP
        told_BP = self.response(chunk_BV, self.command_map.share(reference_BU), now.proprio_BP)
        proprio_BP = torch.lerp(shown_BP, told_BP, self.response.used_P)
        return Moment(history_BTD, proprio_BP, now.offset_BP), log_error_B

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
            now, _ = self.imagine(now, effective_BKU.flatten(1), reference_BU)
            reference_BU = chunk_BKU[:, -1]
        return now, reference_BU
