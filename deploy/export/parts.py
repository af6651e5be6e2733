"""Which parts of a calibrated body the runtime must keep apart."""

import numpy as np

from deploy.runtime.clearance import Clearance
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.solids import Solids
from robot_wm.models.kinematics import Kinematics


def measure(embodiment: Embodiment, clearance_m: float, calibrated: Kinematics | None) -> tuple[Solids, list[str]]:
    """The body's parts for the guard against self-collision.

    Args:
        embodiment: of the body.
        clearance_m: how far apart its parts must stay.
        calibrated: the table that its calibration wrote, for what the encoders read too much.

    Returns:
        The parts, and the names of those pairs of bodies that are left out because they are nearer than the clearance
        at home.

    Raises:
        UserError: MuJoCo is not installed, or the body's parts cannot be told from its model and joints.
    """
    try:
        from calibration import solids  # a machine that only exports may lack MuJoCo
        from sims import robots
    except ImportError as error:
        raise UserError(
            f"safety.self_clearance_m needs the body's MJCF, and MuJoCo cannot be loaded: {error}",
            "Install robot-wm[sim], or leave the key out of the yaml",
        ) from error
    with robots.load(embodiment) as simulation:
        zeros = {} if calibrated is None else {link.entry: link.zero for link in calibrated.links}
        home_P = np.concatenate([simulation.home(), np.zeros(simulation.command.dim)])
        at_home_M = Clearance(solids.of_body(simulation)).between(home_P[None])[0]
        return solids.without(solids.of_body(simulation, zeros), (at_home_M < clearance_m).tolist())
