"""A body whose dynamics are known: a point in the plane, whose latent and proprio are its place."""

import torch
from torch import Tensor, nn

from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.models.body import Body

SPACE = CommandSpace("joint_velocity", ("a", "b"), "rad/s", (-1.0, -1.0), (1.0, 1.0), (2.0, 2.0), 2, 10.0)
STEP = 0.2  # it moves this far in a model step at full speed


class Point(nn.Module):
    """The latent action is the mean command of a chunk."""

    history = 2

    def __init__(self) -> None:
        super().__init__()
        self.outputs = nn.Linear(2, 2)

    def forward(self, history_BTD: Tensor, action_BA: Tensor) -> tuple[Tensor, Tensor]:
        return history_BTD[:, -1] + STEP * action_BA, torch.full((len(action_BA),), -4.0)


class MeanCommand(nn.Module):
    def forward(self, chunk_BV: Tensor, proprio_BP: Tensor, z_BD: Tensor) -> Tensor:
        return chunk_BV.unflatten(1, (2, 2)).mean(1)


class Place(nn.Module):
    def forward(self, history_BTD: Tensor, position_P: Tensor) -> Tensor:
        return history_BTD[:, -1]


def point_body() -> Body:
    """The body; proprio is not standardised, and both of its entries are positions."""
    zeros, ones = torch.zeros(2), torch.ones(2)
    return Body(Point(), MeanCommand(), Place(), SPACE, zeros, ones, ones)  # type: ignore[arg-type]
