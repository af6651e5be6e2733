"""The twin as a live robot: a simulation of the embodiment, with hidden faults on request."""

from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from sims import gl
from sims.robots import load
from sims.twin import Twin


def open_twin(
    embodiment: Embodiment, spec: ControllerSpec, severity: float = 0.0, seed: int = 0, preset: str = "all"
) -> Twin:
    """Simulate the body that a controller was made for; close `twin` and `twin.simulation` when done.

    Args:
        embodiment: the body.
        spec: of the controller that will run it.
        severity: 0 (the simulation as it is) to 1; see Twin.
        seed: of the hidden faults.
        preset: which of them there are; see `sims.truth.PRESETS`.

    Raises:
        UserError: the controller was made for another body, the model file does not load, or nothing can render.
    """
    check_embodiment(embodiment, spec)
    gl.choose_backend()
    simulation = load(embodiment, seed)
    for name, found, wanted in (
        ("commands", simulation.command, spec.command),
        ("proprio", simulation.proprio_names, spec.proprio),
    ):
        if found != wanted:
            simulation.close()
            raise UserError(
                f"the {name} of {embodiment.name} are {found}, the controller's {wanted}",
                "The MJCF has changed since calibration: calibrate and export again",
            )
    return Twin(simulation, severity, seed, preset)


def check_embodiment(embodiment: Embodiment, spec: ControllerSpec, bundle: str = "the bundle") -> None:
    """Raise UserError, naming `bundle`, unless the controller was made for exactly this body."""
    if spec.embodiment_sha256 != embodiment.digest():
        raise UserError(
            f"{bundle} was made for another body ({spec.embodiment}) than embodiment {embodiment.name} is now",
            "Give the embodiment that it was calibrated with, or calibrate and export for this one",
        )
