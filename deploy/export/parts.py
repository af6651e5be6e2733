"""Which parts of a calibrated body the runtime must keep apart."""

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.clearance import Clearance
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.solids import Solids, Triple
from robot_wm.models.kinematics import Kinematics

_ROWS = 256  # looked at together


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
            f"safety.self_clearance_m and workspace_m need the body's MJCF, and MuJoCo cannot be loaded: {error}",
            "Install robot-wm[sim], or leave them out of the yaml",
        ) from error
    with robots.load(embodiment) as simulation:
        zeros = {} if calibrated is None else {link.entry: link.zero for link in calibrated.links}
        home_P = np.concatenate([simulation.home(), np.zeros(simulation.command.dim)])
        at_home_M = Clearance(solids.of_body(simulation)).between(home_P[None])[0]
        return solids.without(solids.of_body(simulation, zeros), (at_home_M < clearance_m).tolist())


def nearest(solids: Solids, proprio_NP: NDArray[np.floating]) -> tuple[float, str, NDArray[np.float64]]:
    """The least distance of two parts in a log [m], of which two, and the least in each of its rows (N,).

    Infinite, of nothing, where no pair is watched.
    """
    if not solids.pairs or not len(proprio_NP):
        return np.inf, "", np.full(len(proprio_NP), np.inf)
    clearance = Clearance(solids)
    pieces = np.array_split(proprio_NP.astype(np.float64), len(proprio_NP) // _ROWS + 1)
    distance_NM = np.concatenate([clearance.between(piece) for piece in pieces])
    worst = solids.pairs[int(np.argmin(distance_NM.min(0)))]
    return float(distance_NM.min()), " and ".join(solids.capsules[i].name for i in worst), distance_NM.min(1)


def leaves(solids: Solids, proprio_NP: NDArray[np.floating], workspace_m: tuple[Triple, Triple]) -> bool:
    """Whether a log leaves a box."""
    return Clearance(solids).leaves(proprio_NP.astype(np.float64), *np.asarray(workspace_m))
