"""Forward kinematics from tables: where points of a body are in its camera's frame. No model file is read here."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robot_wm.contracts.errors import UserError
from robot_wm.contracts.solids import Joint, Triple


@dataclass(frozen=True)
class BodyPoint:
    """A point fixed to a link (-1: to the camera), in that link's frame."""

    name: str
    link: int
    position_m: Triple


@dataclass(frozen=True)
class Kinematics:
    """The table: what each joint moves in the camera's frame, parents first, and the points that are asked for."""

    links: tuple[Joint, ...]
    points: tuple[BodyPoint, ...]

    def __post_init__(self) -> None:
        for index, link in enumerate(self.links):
            if not -1 <= link.parent < index:
                raise UserError(f"kinematics: link {index} hangs on link {link.parent}", "Parents come first")
        for point in self.points:
            if not -1 <= point.link < len(self.links):
                raise UserError(f"kinematics: point {point.name!r} is on link {point.link}", "There is no such link")


class ForwardKinematics(nn.Module):
    """Joint positions to places of points, as MuJoCo has them; unrolled over the links, so that it exports."""

    rotation_L33: Tensor
    position_L3: Tensor
    axis_L3: Tensor
    anchor_L3: Tensor
    zero_L: Tensor
    point_M3: Tensor
    cross_L33: Tensor
    cross_twice_L33: Tensor

    def __init__(self, table: Kinematics):
        super().__init__()
        self.table = table

        def constant(name: str, rows: list[tuple[float, ...]], *shape: int) -> None:
            values = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), *shape)
            self.register_buffer(name, values.float(), persistent=False)

        constant("rotation_L33", [link.rotation for link in table.links], 3, 3)
        constant("position_L3", [link.position_m for link in table.links], 3)
        constant("axis_L3", [link.axis for link in table.links], 3)
        constant("anchor_L3", [link.anchor_m for link in table.links], 3)
        constant("zero_L", [(link.zero,) for link in table.links])
        constant("point_M3", [point.position_m for point in table.points], 3)
        x, y, z = self.axis_L3.unbind(1)
        nothing = torch.zeros_like(x)
        cross = torch.stack([nothing, -z, y, z, nothing, -x, -y, x, nothing], dim=1).reshape(-1, 3, 3)
        self.register_buffer("cross_L33", cross, persistent=False)
        self.register_buffer("cross_twice_L33", cross @ cross, persistent=False)

    def forward(self, proprio_BP: Tensor) -> Tensor:
        """Places (B, M, 3) [m] in the camera's frame for proprio in its own units (B, P)."""
        turns: list[Tensor] = []
        origins: list[Tensor] = []
        for index, link in enumerate(self.table.links):
            moved_B1 = proprio_BP[:, link.entry : link.entry + 1] - self.zero_L[index]
            R, p = self.rotation_L33[index], self.position_L3[index]
            if link.joint == "hinge":  # Rodrigues' formula
                angle_B11 = moved_B1[:, :, None]
                turn_B33 = angle_B11.sin() * self.cross_L33[index] + (1 - angle_B11.cos()) * self.cross_twice_L33[index]
                away_B3 = -(turn_B33 @ self.anchor_L3[index])  # the anchor stays where it is
                own_B33, own_B3 = R + R @ turn_B33, p + away_B3 @ R.T
            else:
                own_B33, own_B3 = R, p + moved_B1 * (R @ self.axis_L3[index])  # no turn: one matrix for the whole batch
            if link.parent >= 0:
                own_B3 = origins[link.parent] + _turned(turns[link.parent], own_B3)
                own_B33 = turns[link.parent] @ own_B33
            turns.append(own_B33)
            origins.append(own_B3)
        places = []
        for index, point in enumerate(self.table.points):
            place_3 = self.point_M3[index]
            if point.link >= 0:
                places.append(origins[point.link] + turns[point.link] @ place_3)
            else:
                places.append(place_3.expand(len(proprio_BP), 3))
        return torch.stack(places, dim=1)


def _turned(turn: Tensor, place_B3: Tensor) -> Tensor:
    """Places (B, 3) turned by one matrix (3, 3), or each by its own (B, 3, 3)."""
    return place_B3 @ turn.T if turn.ndim == 2 else (turn @ place_B3[:, :, None]).squeeze(-1)
