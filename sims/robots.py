"""Robots by name, yaml or model file: from an embodiment to its simulation."""

from collections.abc import Callable, Sequence
from pathlib import Path

import mujoco
import numpy as np

from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from sims import actuation, catalog, models
from sims.fetch import FetchSimulation
from sims.simulation import Simulation
from sims.viewpoints import in_view

_ENVIRONMENTS: dict[str, Callable[[Embodiment], Simulation]] = {
    "FetchReach-v4": FetchSimulation,
    "FetchPush-v4": FetchSimulation,
    "FetchPickAndPlace-v4": FetchSimulation,
}
_POSES, _SHARE = 32, 0.5  # tried when a camera is checked, and the share of each joint's range that they cover
_AROUND_M = 0.15  # where an end effector without joint commands goes, to all sides


def load(robot: Embodiment | str, seed: int = 0, folders: Sequence[Path] = ()) -> Simulation:
    """The body in its home pose.

    Args:
        robot: an embodiment, or what `robot-wm robots` takes: a name from `configs/embodiment`, `menagerie/NAME`,
            `procedural/SEED`, a yaml, or a MJCF or URDF file.
        seed: of the start pose.
        folders: searched for `embodiment/NAME.yaml` beside the shipped configs.

    Raises:
        UserError: an unknown name; the model file is missing or does not compile; an actuator, site, body or camera
            that it lacks; a camera that sees nothing of where the end effector goes; an environment that is not
            supported or not installed.
    """
    embodiment = robot if isinstance(robot, Embodiment) else catalog.find(robot, folders)
    if embodiment.environment is None:
        simulation = Simulation(embodiment, models.compile_model(embodiment.mjcf, embodiment.interface))
    else:
        kind = _ENVIRONMENTS.get(embodiment.environment)
        if kind is None:
            raise UserError(
                f"embodiment {embodiment.name}: environment {embodiment.environment!r} is not supported",
                f"Supported: {', '.join(_ENVIRONMENTS)}; or leave it out and give a joint interface",
            )
        simulation = kind(embodiment)  # compiles the MJCF of its package itself
    simulation.reset(seed)
    try:
        _refuse_blind_camera(simulation)
    except UserError:
        simulation.close()
        raise
    return simulation


def model_path(embodiment: Embodiment) -> Path:
    """Where the embodiment's model file is; `sims.models.read` gives it as it is simulated, changes included."""
    return models.model_path(embodiment.mjcf)


def model_inputs(embodiment: Embodiment) -> dict[str, Path]:
    """The user's own model files as inputs of a run, so that an edited body makes another run.

    These are the MJCF and the XML that it includes; meshes and textures count by their names alone. A model that a
    package carries counts by the package's name, as all code does.
    """
    if embodiment.mjcf.package is not None:
        return {}
    path = models.model_path(embodiment.mjcf)
    models.compile_mjcf(path)  # an error in the XML is named there
    included = [Path(p) for p in mujoco.mju_getXMLDependencies(str(path)) if p.endswith((".xml", ".urdf"))]
    others = sorted(p for p in included if p.resolve() != path.resolve())
    return {"mjcf": path} | {f"mjcf{i}": p for i, p in enumerate(others, 1)}


def _refuse_blind_camera(simulation: Simulation) -> None:
    """Kinematics alone, no picture: what hides behind something counts as seen."""
    embodiment, model, data = simulation.embodiment, simulation.model, mujoco.MjData(simulation.model)
    home_m = simulation.end_effector()
    seen = in_view(model, simulation.data, embodiment.camera, home_m[None]).any()
    if seen:
        return
    rng = np.random.default_rng(0)
    if simulation.command.interface == "end_effector_velocity":
        around = home_m + rng.uniform(-_AROUND_M, _AROUND_M, (_POSES, 3))
        seen = in_view(model, simulation.data, embodiment.camera, around).any()
    else:
        joints = [int(model.actuator_trnid[i, 0]) for i in actuation.select(embodiment, model)]
        low, high = simulation.joint_limits()
        site = embodiment.end_effector
        for _ in range(_POSES):
            middle = simulation.data.qpos[model.jnt_qposadr[joints]]
            data.qpos[:] = simulation.data.qpos
            pose = middle + _SHARE * (high - low) * rng.uniform(-0.5, 0.5, len(joints))
            data.qpos[model.jnt_qposadr[joints]] = np.clip(pose, low, high)
            mujoco.mj_fwdPosition(model, data)
            sites = [model.site(i).name for i in range(model.nsite)]
            place_m = data.site(site).xpos if site in sites else data.body(site).xpos
            seen = seen or in_view(model, data, embodiment.camera, place_m[None]).any()
    if not seen:
        raise UserError(
            f"camera {embodiment.camera.name!r} of {embodiment.name} sees nothing of where {embodiment.end_effector!r}"
            " goes",
            f"Turn it towards {np.round(home_m, 2).tolist()} (camera.target_m), where it is at home",
        )
