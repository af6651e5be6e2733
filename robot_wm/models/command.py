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
        plan_B1U, reference_B1U = plan_BU[:, None], reference_BU[:, None]
        reach_KU = self.ticks_K1 * self.max_step
        if self.space.is_position:
            commands = torch.clamp(reference_B1U + plan_B1U * reach_KU, self.low, self.high)
        else:
            centre, half = (self.low + self.high) / 2, (self.high - self.low) / 2
            wanted = (centre + plan_B1U * half).expand(-1, self.space.frame_skip, -1)
            reachable = torch.minimum(torch.maximum(wanted, reference_B1U - reach_KU), reference_B1U + reach_KU)
            commands = torch.clamp(reachable, self.low, self.high)
        return commands, self.normalize(commands, reference_BU)

    def normalize(self, chunk_BKU: Tensor, reference_BU: Tensor) -> Tensor:
        """Commands in physical units to plan units, (B, K, U) each; `reference_BU` was sent just before the chunk."""
        if self.space.is_position:
            before_BKU = torch.cat([reference_BU[:, None], chunk_BKU[:, :-1]], dim=1)
            return (chunk_BKU - before_BKU) / self.max_step
        return (chunk_BKU - (self.low + self.high) / 2) / ((self.high - self.low) / 2)
