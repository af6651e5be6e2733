"""Points of a body that an embodiment names: the end effector, a second hand, the object."""

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from sims import actuation


@dataclass(frozen=True)
class Point:
    """The origin of a site, or else of a body."""

    is_site: bool
    index: int

    def place(self, data: mujoco.MjData) -> NDArray[np.float64]:
        """Where it is in the world [m], (3,): a view that follows `mj_kinematics`."""
        return (data.site_xpos if self.is_site else data.xpos)[self.index]

    def fill_jacobian(self, model: mujoco.MjModel, data: mujoco.MjData, jacobian_3V: NDArray[np.float64]) -> None:
        """Its velocity by the velocity of every degree of freedom."""
        (mujoco.mj_jacSite if self.is_site else mujoco.mj_jacBody)(model, data, jacobian_3V, None, self.index)


def find(model: mujoco.MjModel, name: str, key: str = "end_effector") -> Point:
    """The site, or else the body, of that name.

    Args:
        key: of the embodiment, for the message.

    Raises:
        UserError: there is neither.
    """
    sites = [model.site(i).name for i in range(model.nsite)]
    bodies = [model.body(i).name for i in range(1, model.nbody)]
    if name in sites:
        return Point(True, sites.index(name))
    if name in bodies:
        return Point(False, bodies.index(name) + 1)
    raise UserError(
        f"{key} {name!r} is neither a site nor a body of the MJCF",
        f"Sites: {actuation.listing(sites)}; bodies: {actuation.listing(bodies)}",
    )


def find_object(embodiment: Embodiment, model: mujoco.MjModel) -> int:
    """The body that the embodiment's object is.

    Raises:
        UserError: no body of that name, or one that is not free to move.
    """
    free = [int(model.jnt_bodyid[j]) for j in range(model.njnt) if model.jnt_type[j] == mujoco.mjtJoint.mjJNT_FREE]
    for body in free:
        if model.body(body).name == embodiment.object:
            return body
    raise UserError(
        f"embodiment {embodiment.name}: object {embodiment.object!r} is no body of the MJCF with a free joint",
        f"Bodies with one: {actuation.listing([model.body(b).name for b in free])}",
    )
