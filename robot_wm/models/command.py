"""The command space inside the graph: plan units to commands that obey every limit, exactly as the runtime would."""

import torch
from torch import Tensor, nn

from robot_wm.contracts.embodiment import CommandSpace


class CommandMap(nn.Module):
    """A torch equivalent of CommandSpace.denormalize and normalize, with the limit on change per tick applied.

    One plan entry is held over a chunk, so a command moves monotonically from the reference and the limits can be
    applied to all ticks at once: the graph stays small.
    """

    low: Tensor
    high: Tensor
    max_step: Tensor
    ticks_K1: Tensor

    def __init__(self, space: CommandSpace):
        super().__init__()
        self.space = space
        for name in ("low", "high", "max_step"):
            self.register_buffer(name, torch.tensor(getattr(space, name), dtype=torch.float32), persistent=False)
        ticks = torch.arange(1, space.frame_skip + 1, dtype=torch.float32)[:, None]
        self.register_buffer("ticks_K1", ticks, persistent=False)

    def forward(self, plan_BU: Tensor, reference_BU: Tensor) -> tuple[Tensor, Tensor]:
        """One plan entry held over a chunk.

        Args:
            plan_BU: in [-1, 1].
            reference_BU: the command sent before the chunk, within the limits.

        Returns:
            The commands (B, K, U) in physical units, and what they amount to in plan units, (B, K, U).
        """
        # All ticks and entries in one row (V = K · U): runtimes are slow where short axes are broadcast.
        ticks = self.space.frame_skip
        plan_BV, reference_BV = plan_BU.repeat(1, ticks), reference_BU.repeat(1, ticks)
        reach_V = (self.ticks_K1 * self.max_step).flatten()
        low_V, high_V = self.low.repeat(ticks), self.high.repeat(ticks)
        if self.space.is_position:
            commands = torch.clamp(reference_BV + plan_BV * reach_V, low_V, high_V)
        else:
            wanted = (low_V + high_V) / 2 + plan_BV * ((high_V - low_V) / 2)
            reachable = torch.minimum(torch.maximum(wanted, reference_BV - reach_V), reference_BV + reach_V)
            commands = torch.clamp(reachable, low_V, high_V)
        chunk_BKU = commands.unflatten(1, (ticks, -1))
        return chunk_BKU, self.normalize(chunk_BKU, reference_BU)

    def normalize(self, chunk_BKU: Tensor, reference_BU: Tensor) -> Tensor:
        """Commands in physical units to plan units, (B, K, U) each; `reference_BU` was sent just before the chunk."""
        ticks, chunk_BV = self.space.frame_skip, chunk_BKU.flatten(1)
        low_V, high_V = self.low.repeat(ticks), self.high.repeat(ticks)
        if self.space.is_position:
            before_BV = torch.cat([reference_BU, chunk_BV[:, : -self.space.dim]], dim=1)
            plan_BV = (chunk_BV - before_BV) / self.max_step.repeat(ticks)
        else:
            plan_BV = (chunk_BV - (low_V + high_V) / 2) / ((high_V - low_V) / 2)
        return plan_BV.unflatten(1, (ticks, -1))

    def share(self, command: Tensor) -> Tensor:
        """Where commands (…, U) lie between their limits: -1 at the lower, 1 at the upper one."""
        return (command - (self.low + self.high) / 2) / ((self.high - self.low) / 2)

    def after(self, chunk_BV: Tensor, reference_BU: Tensor) -> Tensor:
        """The command (B, U) in force after a chunk (B, K · U) in plan units."""
        chunk_BKU = chunk_BV.unflatten(1, (self.space.frame_skip, -1))
        if self.space.is_position:
            return reference_BU + chunk_BKU.sum(dim=1) * self.max_step
        return (self.low + self.high) / 2 + chunk_BKU[:, -1] * (self.high - self.low) / 2

    def rest(self) -> Tensor:
        """The plan entry (U,) that stays in place: no change of a position, a rate of zero (within the limits)."""
        zero_U = torch.zeros_like(self.low)
        return zero_U if self.space.is_position else self.share(torch.clamp(zero_U, self.low, self.high))
