"""From what an embodiment says of its model file to a compiled model: found, changed as asked, compiled."""

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from robot_wm.contracts.embodiment import Interface, Mjcf, Servos
from robot_wm.contracts.errors import UserError
from sims import actuation, menagerie, scenes
from sims.vetting import vet

PROCEDURAL = "procedural"
_JOINTS = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
_URDF = ".urdf"
_WIDE_RAD = 2 * np.pi  # commands of a joint without limits
_BELOW_M = 0.005  # of a floor that is added, under the lowest point


def read(mjcf: Mjcf, interface: Interface = "joint_position") -> mujoco.MjSpec:
    """The model file, changed as asked, ready to be compiled or changed further.

    Args:
        mjcf: which file, and what to change.
        interface: what added servos take.

    Raises:
        UserError: the file or its package is missing, does not compile, or lacks what should be changed.
    """
    if mjcf.package == PROCEDURAL:
        return scenes.sample(_seed(mjcf.path), interface=interface).spec
    path = model_path(mjcf)
    vet(path, package_root(mjcf))
    try:
        spec = mujoco.MjSpec.from_file(str(path))
        if path.suffix == _URDF:
            spec.compiler.fusestatic = False  # a link without a joint is mostly a tool's frame, and goes by its name
            _part(spec)
        if mjcf.keep or mjcf.fixed_base:
            _keep(spec, mjcf.keep)
            _drop_keys(spec, mjcf.fixed_base)
            _part(spec)
        for name, site in mjcf.sites.items():
            _body(spec, site.body).add_site(name=name, pos=site.position_m)
        if mjcf.servos:
            _add_servos(spec, mjcf.servos, interface)
        if mjcf.room:
            _add_room(spec)
    except (ValueError, RuntimeError, mujoco.FatalError) as error:
        raise _broken(path, error) from None
    return spec


def compile_model(mjcf: Mjcf, interface: Interface = "joint_position") -> mujoco.MjModel:
    """`read`, compiled."""
    spec = read(mjcf, interface)
    try:
        return spec.compile()
    except (ValueError, RuntimeError, mujoco.FatalError) as error:
        raise _broken(Path(mjcf.path), error) from None


def compile_mjcf(path: Path, root: Path | None = None) -> mujoco.MjModel:
    """Compile a model file; MuJoCo's own message, which names the line, becomes the error. `root`: see `vet`."""
    vet(path, root)
    try:
        return mujoco.MjModel.from_xml_path(str(path))
    except (ValueError, RuntimeError, mujoco.FatalError) as error:
        raise _broken(path, error) from None


def model_path(mjcf: Mjcf) -> Path:
    """Where the model file is: inside its package, or a path as given (relative to the current folder)."""
    root = Path()
    if mjcf.package == menagerie.PACKAGE:
        path = menagerie.path(mjcf.path)
    else:
        if mjcf.package is not None:
            root = package_folder(mjcf.package)
        path = root / Path(mjcf.path).expanduser()
    if not path.is_file():
        where = f"in package {mjcf.package}" if mjcf.package else f"seen from {Path.cwd()}"
        raise UserError(
            f"MJCF {mjcf.path} does not exist ({where})", "Correct the path (mjcf.path in an embodiment's yaml)"
        )
    return path


def package_root(mjcf: Mjcf) -> Path | None:
    """The folder that a packaged model's files lie in; None for a model of the user's own."""
    if mjcf.package == menagerie.PACKAGE:
        return menagerie.folder(mjcf.path.partition("/")[0]).parent
    return package_folder(mjcf.package) if mjcf.package is not None else None


def package_folder(package: str) -> Path:
    """The folder of an installed package, which is not imported for that.

    Raises:
        UserError: it is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise UserError(f"package {package!r} is not installed", f"Run {install_line(package)}")
    return Path(found.submodule_search_locations[0])


def install_line(package: str) -> str:
    """How to install what a package carries; of mjlab only the files are read, and its dependencies are huge."""
    return f"pip install {'--no-deps ' if package == 'mjlab' else ''}{package.replace('_', '-')}"


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise UserError(f"procedural/{text} is no procedural body", "Give a seed, such as procedural/42")
    return int(text)


def _broken(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} does not compile: {error}", "Mend the model file at the place named")


def _part(spec: mujoco.MjSpec) -> None:
    """Except contacts between what is fixed to the world and the links next to it, which overlap in most models.

    MuJoCo excepts parent and child, but not where the parent does not move.
    """
    model = spec.compile()
    fixed = {i for i in range(1, model.nbody) if model.body_weldid[i] == 0}
    for base, link in itertools.product(sorted(fixed), range(1, model.nbody)):
        if link not in fixed and model.body_parentid[model.body_weldid[link]] in fixed:
            spec.add_exclude(bodyname1=model.body(base).name, bodyname2=model.body(link).name)


def _keep(spec: mujoco.MjSpec, names: tuple[str, ...]) -> None:
    """Delete every body of the world that neither is nor carries one of the names, and the meshes left over."""
    for name in names:
        _body(spec, name)
    for body in list(spec.worldbody.bodies) if names else []:
        within = {b.name for b in [body, *body.find_all(mujoco.mjtObj.mjOBJ_BODY)]}
        if not within & set(names):
            spec.delete(body)
    used = {geom.meshname for geom in spec.geoms}
    for mesh in list(spec.meshes) if names else []:
        if mesh.name not in used:
            spec.delete(mesh)


def _drop_keys(spec: mujoco.MjSpec, fixed_base: bool) -> None:
    """Hold floating bases where they start; keyframes lose what belongs to them, and their controls."""
    before = spec.compile()
    bases = [j for j in spec.joints if j.type == mujoco.mjtJoint.mjJNT_FREE and fixed_base and _carries(j.parent)]
    gone = [int(before.jnt_qposadr[j.id]) for j in bases]
    keys = {key.name: np.array(key.qpos) for key in spec.keys if len(key.qpos) == before.nq}
    for joint in bases:
        spec.delete(joint)
    for key in list(spec.keys):
        spec.delete(key)
    dropped = [address + i for address in gone for i in range(7)]
    for name, qpos in keys.items():
        spec.add_key(name=name, qpos=np.delete(qpos, dropped))


def _carries(body: Any) -> bool:
    """Whether joints hang on the body, so that it is a robot's base and not a thing that lies about."""
    return bool([j for b in body.find_all(mujoco.mjtObj.mjOBJ_BODY) for j in b.joints])


def _body(spec: mujoco.MjSpec, name: str) -> Any:
    body = spec.body(name)
    if body is None:
        raise UserError(f"body {name!r} is not in the MJCF", f"Bodies there: {actuation.listing(_names(spec))}")
    return body


def _names(spec: mujoco.MjSpec) -> list[str]:
    return [body.name for body in spec.bodies if body.name not in ("", "world")]


def _add_servos(spec: mujoco.MjSpec, servos: Servos, interface: Interface) -> None:
    readings = [s for s in spec.sensors if s.objtype == mujoco.mjtObj.mjOBJ_ACTUATOR]
    for old in [*readings, *spec.actuators]:
        spec.delete(old)
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST  # the others are unstable with much damping
    model = spec.compile()
    floating = {int(model.jnt_bodyid[i]) for i in np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)}
    for body in spec.bodies[1:]:
        if int(model.body_rootid[body.id]) not in floating:
            body.gravcomp = 1.0
    rate = 2 * np.pi * servos.frequency_hz
    for joint in spec.joints:
        index = joint.id
        if not joint.name or model.jnt_type[index] not in _JOINTS:
            continue
        stiffness = model.dof_M0[model.jnt_dofadr[index]] * rate**2
        damping = 2 * servos.damping_ratio * stiffness / rate
        servo = spec.add_actuator(name=joint.name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        low, high = model.jnt_range[index] if model.jnt_limited[index] else (-_WIDE_RAD, _WIDE_RAD)
        if interface == "joint_position":
            servo.set_to_position(kp=stiffness, kv=damping)
        elif interface == "joint_velocity":
            servo.set_to_velocity(kv=damping)
            low, high = -servos.top_speed, servos.top_speed
        else:
            servo.set_to_motor()
            low, high = -stiffness, stiffness  # a radian's worth
        if model.jnt_actfrclimited[index]:
            servo.forcelimited, servo.forcerange = True, model.jnt_actfrcrange[index]
        servo.ctrllimited, servo.ctrlrange = True, [low, high]


def _add_room(spec: mujoco.MjSpec) -> None:
    """A floor under the lowest point, a sky and a light; the light alone where there is a floor but none."""
    model, world = spec.compile(), spec.worldbody
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    bare = mujoco.mjtGeom.mjGEOM_PLANE not in model.geom_type
    if bare:
        lowest = min((_lowest(model, data, i) for i in range(model.ngeom)), default=0.0)
        position, grey = [0, 0, lowest - _BELOW_M], [0.62, 0.63, 0.65, 1.0]
        world.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[5, 5, 1], pos=position, rgba=grey)
        spec.add_texture(
            name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
            rgb1=[0.9, 0.93, 0.97], rgb2=[0.6, 0.65, 0.7], width=16, height=96,
        )  # fmt: skip
    if bare or not model.nlight:
        world.add_light(
            pos=[0, 0, 3], dir=[-0.4, 0.3, -1], type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, castshadow=False,
            diffuse=[0.6] * 3,
        )  # fmt: skip


def _lowest(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> float:
    """Height of the lowest corner of a geom's bounding box."""
    centre, half = model.geom_aabb[geom].reshape(2, 3)
    rotation = data.geom_xmat[geom].reshape(3, 3)
    return float(data.geom_xpos[geom, 2] + rotation[2] @ centre - np.abs(rotation[2]) @ half)
