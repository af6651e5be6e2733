"""The command space inside the graph: plan units to commands that obey every limit, exactly as the runtime would."""

import torch
from torch import Tensor, nn

from robot_wm.contracts.embodiment import CommandSpace


class CommandMap(nn.Module):
    """A torch equivalent of CommandSpace.denormalize and normalize, with the limit on change per tick applied."""

    def __init__(self, space: CommandSpace):
        super().__init__()
        self.space = space
        for name in ("low", "high", "max_step"):
            self.register_buffer(name, torch.tensor(getattr(space, name), dtype=torch.float32), persistent=False)

    def forward(self, plan_BU: Tensor, reference_BU: Tensor) -> tuple[Tensor, Tensor]:
        """One plan entry held over a chunk.

        Args:
            plan_BU: in [-1, 1]; any leading dimensions.
            reference_BU: the command sent before the chunk.

        Returns:
            The commands (B, K, U) in physical units, and what they amount to in plan units, (B, K, U).
        """
        centre, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        commands, effective, previous = [], [], reference_BU
        for _ in range(self.space.frame_skip):
            wanted = previous + plan_BU * self.max_step if self.space.is_position else centre + plan_BU * half
            change = torch.clamp(wanted - previous, -self.max_step, self.max_step)
            command = torch.clamp(previous + change, self.low, self.high)
            effective.append((command - previous) / self.max_step if self.space.is_position else (command - centre) / half)
            commands.append(command)
            previous = command
        return torch.stack(commands, dim=-2), torch.stack(effective, dim=-2)
