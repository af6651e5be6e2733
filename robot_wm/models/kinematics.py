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
    """Joint positions to places of points, as MuJoCo has them; unrolled over the links, so that it exports.

    Written without products of small matrices, which ONNX Runtime does one by one (they took a quarter of a plan): what
    is constant is multiplied once, here, and the batch comes last, where it is added up row by row.
    """

    zero_L: Tensor
    still_L34: Tensor
    first_L34: Tensor
    second_L34: Tensor
    point_M3: Tensor

    def __init__(self, table: Kinematics):
        super().__init__()
        self.table = table
        # A link's pose on its parent, rotation beside position, is still + a · first + b · second: a and b are sine and
        # cosine of a hinge's angle (Rodrigues' formula about its anchor), or how far a slide has moved, and 0.
        still, first, second = zip(*(_parts(link) for link in table.links), strict=True) if table.links else ((),) * 3
        for name, parts in (("still_L34", still), ("first_L34", first), ("second_L34", second)):
            values = torch.stack(parts) if parts else torch.zeros(0, 3, 4)
            self.register_buffer(name, values.float()[..., None], persistent=False)
        for name, rows in (
            ("zero_L", [link.zero for link in table.links]),
            ("point_M3", [point.position_m for point in table.points]),
        ):
            self.register_buffer(name, torch.tensor(rows, dtype=torch.float32), persistent=False)

    def forward(self, proprio_BP: Tensor) -> Tensor:
        """Places (B, M, 3) [m] in the camera's frame for proprio in its own units (B, P)."""
        turns: list[Tensor] = []  # (3, 3, B), or (3, 3, 1) where nothing has turned yet
        origins: list[Tensor] = []  # (3, B)
        for index, link in enumerate(self.table.links):
            moved_B = proprio_BP[:, link.entry] - self.zero_L[index]
            own_34B = self.still_L34[index]
            if link.joint == "hinge":
                own_34B = own_34B + moved_B.sin() * self.first_L34[index] + moved_B.cos() * self.second_L34[index]
                turn_33B, origin_3B = own_34B[:, :3], own_34B[:, 3]
            else:
                turn_33B, origin_3B = own_34B[:, :3], own_34B[:, 3] + moved_B * self.first_L34[index, :, 3]
            if link.parent >= 0:
                parent_33B = turns[link.parent]
                origin_3B = origins[link.parent] + (parent_33B * origin_3B).sum(1)
                turn_33B = (parent_33B[:, :, None] * turn_33B).sum(1)
            turns.append(turn_33B)
            origins.append(origin_3B)
        places = []
        for index, point in enumerate(self.table.points):
            place_31 = self.point_M3[index, :, None]
            if point.link >= 0:
                places.append(origins[point.link] + (turns[point.link] * place_31).sum(1))
            else:
                places.append(place_31.expand(3, len(proprio_BP)))
        return torch.stack(places).permute(2, 0, 1)


def _parts(link: Joint) -> tuple[Tensor, Tensor, Tensor]:
    """Still, first and second of a link's pose, (3, 4) each."""
    rotation_33 = torch.tensor(link.rotation, dtype=torch.float64).reshape(3, 3)
    still_34 = torch.cat([rotation_33, torch.tensor(link.position_m, dtype=torch.float64)[:, None]], dim=1)
    axis_3, nothing_33 = torch.tensor(link.axis, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    if link.joint != "hinge":
        return still_34, torch.cat([nothing_33, (rotation_33 @ axis_3)[:, None]], dim=1), torch.zeros_like(still_34)
    x, y, z = link.axis
    cross_33 = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    anchor_31 = torch.tensor(link.anchor_m, dtype=torch.float64)[:, None]
    once_33, twice_33 = rotation_33 @ cross_33, rotation_33 @ cross_33 @ cross_33
    once_34, twice_34 = (torch.cat([turn_33, -turn_33 @ anchor_31], dim=1) for turn_33 in (once_33, twice_33))
    return still_34 + twice_34, once_34, -twice_34  # the anchor stays where it is
