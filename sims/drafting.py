"""A first embodiment for a model that has none: what the file tells is read, the rest is a guess to be corrected."""

import os
import re
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import yaml

from robot_wm.contracts.config import to_mapping
from robot_wm.contracts.embodiment import Camera, Embodiment, Interface, Mjcf, Safety, Servos
from robot_wm.contracts.errors import UserError
from sims import actuation, models, scenes
from sims.tools import GRIPPER, HAND_SITE

_RATE_HZ, _FRAME_SKIP = 25.0, 5
_SIZE_PX = 96
_HAND_WORDS = ("grasp", "tcp", "eef", "effector", "tool", "grip", "pinch", "hand", "palm", "attachment")
_AZIMUTH, _ELEVATION, _FOVY_DEG = np.radians(-50.0), np.radians(22.0), 45.0  # of the camera, seen from the body
_SPARE = 1.15  # of distance, so that the body does not touch the picture's edge
_SPEEDS = {mujoco.mjtJoint.mjJNT_HINGE: 2.0, mujoco.mjtJoint.mjJNT_SLIDE: 0.25}  # of a position target [rad/s, m/s]
_JOINTS = tuple(_SPEEDS)


def draft(name: str, mjcf: Mjcf) -> Embodiment:
    """An embodiment of a MJCF or URDF file.

    Actuators that drive joints are commanded as the file has them. Where there are none, every joint gets a position
    servo. A floating base is held; a file without floor or light gets both. The end effector is the site whose name
    sounds most like it, else the body at the end of the longest chain. The camera sees the whole body.

    Raises:
        UserError: the file is missing or does not compile, or nothing in it moves or can be seen.
    """
    model = models.compile_mjcf(models.model_path(mjcf), models.package_root(mjcf))
    chosen, interface = _actuators(model)
    if not np.isin(model.jnt_type, _JOINTS).any():
        raise UserError(f"{mjcf.path} has no hinge or slide joint", "A body needs a joint that can be driven")
    mjcf = replace(
        mjcf,
        fixed_base=_floats(model),
        servos=None if chosen else Servos(),
        room=not model.nlight or mujoco.mjtGeom.mjGEOM_PLANE not in model.geom_type,
    )
    model = models.compile_model(mjcf, interface)
    chosen = chosen or [model.actuator(i).name for i in range(model.nu)]
    indices = [model.actuator(n).id for n in chosen]
    substeps = max(round(1 / (_RATE_HZ * model.opt.timestep)), 1)
    rate_hz = 1 / (substeps * model.opt.timestep)
    return Embodiment(
        name=name,
        mjcf=mjcf,
        interface=interface,
        end_effector=_end_effector(model, indices),
        camera=_camera(model, indices),
        control_rate_hz=round(rate_hz, 6),
        frame_skip=_FRAME_SKIP,
        safety=Safety(max_step=_max_step(model, indices, interface, rate_hz)),
        actuators=() if len(chosen) == model.nu else tuple(chosen),
        home=_home(model, indices),
        object=_object(model),
        gripper=_gripper(chosen),
    )


def draft_procedural(seed: str) -> Embodiment:
    """The embodiment of a procedural arm, which stands on its table with its objects."""
    mjcf = Mjcf(seed, models.PROCEDURAL)
    model = models.compile_model(mjcf)  # refuses what is no seed
    scene = scenes.sample(int(seed), _SIZE_PX)
    indices = list(range(model.nu))
    commands = [*scene.arm.home.tolist(), *[0.0] * (model.nu - len(scene.arm.joints))]
    return Embodiment(
        name=f"{models.PROCEDURAL}_{seed}",
        mjcf=mjcf,
        interface="joint_position",
        end_effector=HAND_SITE,
        camera=scene.camera,
        control_rate_hz=_RATE_HZ,
        frame_skip=_FRAME_SKIP,
        safety=Safety(max_step=_max_step(model, indices, "joint_position", _RATE_HZ)),
        home=tuple(commands),
        object=scene.objects[0],
        gripper=GRIPPER if GRIPPER in [model.actuator(i).name for i in indices] else None,
    )


def to_yaml(embodiment: Embodiment, path: Path) -> str:
    """The embodiment as the text of a yaml that will stand at `path`; what is at its default is left out."""
    values = to_mapping(embodiment)
    if embodiment.mjcf.package is None:
        values["mjcf"]["path"] = os.path.relpath(embodiment.mjcf.path, path.parent)
    plain = Embodiment("", Mjcf(""), "joint_position", "", Camera(""), 1.0, 1, Safety(1.0))
    text = yaml.safe_dump(_without(values, to_mapping(plain)), sort_keys=False, default_flow_style=None, width=110)
    source = "/".join(part for part in (embodiment.mjcf.package, embodiment.mjcf.path) if part)
    return f"# Drafted from {source}: check end_effector, camera, safety.max_step and home.\n{text}"


def _without(values: dict[str, object], defaults: dict[str, object]) -> dict[str, object]:
    left: dict[str, object] = {}
    for key, value in values.items():
        default = defaults.get(key)
        if isinstance(value, dict) and isinstance(default, dict):
            value = _without(value, default)
        if key in ("name", "interface", "control_rate_hz", "frame_skip") or value not in (default, {}, []):
            left[key] = value
    return left


def _actuators(model: mujoco.MjModel) -> tuple[list[str], Interface]:
    """Names of those that drive a joint within limits and take the same kind of command as most, and that kind."""
    kinds: dict[Interface, list[str]] = {}
    for i in range(model.nu):
        drives = model.actuator_trntype[i] == mujoco.mjtTrn.mjTRN_JOINT
        usable = drives and model.jnt_type[model.actuator_trnid[i, 0]] in _JOINTS
        if usable and model.actuator(i).name and model.actuator_ctrllimited[i]:
            kinds.setdefault(actuation.kind(model, i), []).append(model.actuator(i).name)
    if not kinds:
        return [], "joint_position"
    interface = max(kinds, key=lambda kind: len(kinds[kind]))
    return kinds[interface], interface


def _floats(model: mujoco.MjModel) -> bool:
    """Whether a robot's base is free; a single thing that lies about is none."""
    free = np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
    roots = {int(model.jnt_bodyid[j]) for j in free}
    carried = [int(model.body_rootid[model.jnt_bodyid[j]]) for j in np.flatnonzero(np.isin(model.jnt_type, _JOINTS))]
    return bool(roots & set(carried))


def _object(model: mujoco.MjModel) -> str | None:
    """The first thing that lies about: it can move freely, and nothing hangs on it."""
    for joint in np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE):
        body = int(model.jnt_bodyid[joint])
        if body not in model.body_parentid and model.body(body).name:
            return str(model.body(body).name)
    return None


def _gripper(actuators: list[str]) -> str | None:
    """The only actuator that is called so."""
    found = [name for name in actuators if "grip" in name.lower()]
    return found[0] if len(found) == 1 else None


def _end_effector(model: mujoco.MjModel, actuators: list[int]) -> str:
    """By how sites, then bodies, are called; the one at the end of the longest chain among equals, or of all bodies."""
    root = _root(model, actuators)
    moved = {int(model.jnt_bodyid[model.actuator_trnid[i, 0]]) for i in actuators}
    sites = [(model.site(i).name, int(model.site_bodyid[i])) for i in range(model.nsite)]
    bodies = [(model.body(i).name, i) for i in range(1, model.nbody)]
    found = []
    for kind, named in enumerate((bodies, sites)):  # sites count for more
        for name, body in named:
            if name and model.body_rootid[body] == root:
                found.append((_likeness(name) * (1 + kind), _depth(model, body, moved), name))
    best = max(reversed(found), key=lambda candidate: candidate[:2])
    return best[2]


def _likeness(name: str) -> int:
    """Whether one of the words in a name is what ends of arms are called: 1 or 0."""
    parts = re.split(r"[^a-z]+", name.lower())
    return int(any(part in ("ee", "tip") or part.startswith(_HAND_WORDS) for part in parts))


def _depth(model: mujoco.MjModel, body: int, moved: set[int]) -> int:
    """How many driven joints are between the world and a body."""
    depth = 0
    while body:
        depth, body = depth + (body in moved), int(model.body_parentid[body])
    return depth


def _root(model: mujoco.MjModel, actuators: list[int]) -> int:
    """The body of the world that carries what is commanded."""
    joint = int(model.actuator_trnid[actuators[0], 0])
    return int(model.body_rootid[model.jnt_bodyid[joint]])


def _camera(model: mujoco.MjModel, actuators: list[int]) -> Camera:
    """From the front and the side, as far away as the robot is large."""
    data = mujoco.MjData(model)
    data.qpos[:] = model.key("home").qpos if _has_home(model) else model.qpos0
    mujoco.mj_forward(model, data)
    root = _root(model, actuators)
    solid = [
        i for i in range(model.ngeom) if model.body_rootid[model.geom_bodyid[i]] == root and model.geom_rbound[i] > 0
    ]
    if not solid:
        raise UserError(
            "no part of the robot has a shape, so that a camera would see nothing",
            "Give its links <collision> geometry; of a URDF whose links have only <visual> geometry, MuJoCo keeps it "
            'where the file says <mujoco><compiler discardvisual="false"/></mujoco> inside <robot>',
        )
    reach = np.array([model.geom_rbound[i] for i in solid])[:, None]
    low, high = (data.geom_xpos[solid] - reach).min(0), (data.geom_xpos[solid] + reach).max(0)
    centre, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    distance = _SPARE * radius / np.sin(np.radians(_FOVY_DEG / 2))
    out = [np.cos(_AZIMUTH) * np.cos(_ELEVATION), np.sin(_AZIMUTH) * np.cos(_ELEVATION), np.sin(_ELEVATION)]
    (x, y, z), (u, v, w) = np.round(centre + distance * np.array(out), 3).tolist(), np.round(centre, 3).tolist()
    return Camera("overview", _SIZE_PX, _SIZE_PX, (x, y, z), (u, v, w), _FOVY_DEG)


def _has_home(model: mujoco.MjModel) -> bool:
    return "home" in [model.key(i).name for i in range(model.nkey)]


def _max_step(model: mujoco.MjModel, actuators: list[int], interface: Interface, rate_hz: float) -> float:
    """One value for all: of positions what the slowest kind of joint there may do, of rates half the range."""
    if interface == "joint_position":
        kinds = [mujoco.mjtJoint(model.jnt_type[model.actuator_trnid[i, 0]]) for i in actuators]
        hinges = mujoco.mjtJoint.mjJNT_HINGE in kinds
        return float(round(_SPEEDS[_JOINTS[0 if hinges else 1]] / rate_hz, 4))
    return float(round(np.ptp(model.actuator_ctrlrange[actuators], axis=1).min() / 2, 4))


def _home(model: mujoco.MjModel, actuators: list[int]) -> tuple[float, ...]:
    """Of the first keyframe, where the simulation would not find it by itself; within the joints' limits."""
    if _has_home(model):
        return ()
    joints = model.actuator_trnid[actuators, 0]
    start = model.qpos0[model.jnt_qposadr[joints]]
    home = model.key(0).qpos[model.jnt_qposadr[joints]] if model.nkey else start
    limited = model.jnt_limited[joints].astype(bool)
    home = np.where(limited, np.clip(home, *model.jnt_range[joints].T), home)
    return () if np.allclose(home, start) else tuple(np.round(home, 4).tolist())
