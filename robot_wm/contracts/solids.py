"""A body's parts as capsules on its links, few enough for controller.json, so that a runtime knows where they are."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from robot_wm.contracts.errors import UserError

Triple = tuple[float, float, float]
MOST_LINKS, MOST_PAIRS = 256, 1 << 15


@dataclass(frozen=True)
class Joint:
    """A frame that one joint moves.

    Attributes:
        parent: the joint that it hangs on, one before it in the table; -1 is the frame that the table is in.
        rotation: of its frame in that of its parent while the joint is at `zero`, row by row.
        position_m: of its origin, likewise.
        joint: what the joint does.
        axis: of the joint in its own frame, a unit vector.
        anchor_m: a point on that axis, in its own frame.
        entry: of proprio that measures the joint [rad or m].
        zero: the joint's position at which it has not moved anything.
    """

    parent: int
    rotation: tuple[float, float, float, float, float, float, float, float, float]
    position_m: Triple
    joint: Literal["hinge", "slide"]
    axis: Triple
    anchor_m: Triple
    entry: int
    zero: float


@dataclass(frozen=True)
class Capsule:
    """All points within `radius_m` of a segment fixed to a joint's frame (-1: to the base); named for its body."""

    name: str
    link: int
    start_m: Triple
    end_m: Triple
    radius_m: float


@dataclass(frozen=True)
class Solids:
    """Joints, parents first, the capsules that they carry, and which two of these must stay apart."""

    joints: tuple[Joint, ...]
    capsules: tuple[Capsule, ...]
    pairs: tuple[tuple[int, int], ...]

    def check(self, num_proprio: int) -> None:
        """Raise UserError unless the table is one of a body with so many entries of proprio."""
        if len(self.joints) > MOST_LINKS or len(self.pairs) > MOST_PAIRS:
            raise UserError(
                f"bundle: solids has {len(self.joints)} joints and {len(self.pairs)} pairs",
                f"At most {MOST_LINKS} and {MOST_PAIRS} are read",
            )
        for index, joint in enumerate(self.joints):
            if not (-1 <= joint.parent < index and 0 <= joint.entry < num_proprio):
                raise UserError(
                    f"bundle: solids.joints.{index} hangs on {joint.parent} and is measured by entry {joint.entry}",
                    "Parents come first, and proprio has to have the entry; export again",
                )
            values = (*joint.rotation, *joint.position_m, *joint.axis, *joint.anchor_m, joint.zero)
            _require_finite(f"joints.{index}", values)
        for index, part in enumerate(self.capsules):
            _require_finite(f"capsules.{index}", (*part.start_m, *part.end_m, part.radius_m))
            if not -1 <= part.link < len(self.joints) or part.radius_m <= 0:
                raise UserError(
                    f"bundle: capsule {part.name!r} is on joint {part.link}, with radius {part.radius_m}",
                    "There is no such joint, or the radius is not positive; export again",
                )
        if any(not 0 <= one < len(self.capsules) for pair in self.pairs for one in pair):
            raise UserError("bundle: solids.pairs names a capsule that there is not", "Export again")


def _require_finite(name: str, values: tuple[float, ...]) -> None:
    if not np.isfinite(values).all():
        raise UserError(f"bundle: solids.{name} holds a value that is not finite", "Export again")
