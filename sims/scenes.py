"""Procedural scenes: an arm, a table, things on it and a camera, all from one seed."""

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.embodiment import Camera
from sims import arms, looks

TIMESTEP_S = 0.005
_GEOM = mujoco.mjtGeom
_STATIC = {"contype": 1, "conaffinity": 1}
_OBJECT = {"contype": 1, "conaffinity": 1 | arms.ARM_GROUP}
_FRICTION = (0.3, 1.0)


@dataclass(frozen=True)
class Scene:
    """A compiled scene. The table top is z = 0 and the middle of the workspace x = y = 0; the arm stands at x < 0.

    Attributes:
        spec: for saving as MJCF (`spec.to_xml()`).
        model: compiled.
        arm: the body's design.
        camera: where the picture is taken from.
        objects: names of the movable bodies; pushes aim at the first.
        workspace_m: lowest and highest corner of where the hand goes, (2, 3).
        rest_m: height of each object's centre when it lies on the table.
    """

    spec: mujoco.MjSpec
    model: mujoco.MjModel
    arm: arms.Arm
    camera: Camera
    objects: tuple[str, ...]
    workspace_m: NDArray[np.float64]
    rest_m: tuple[float, ...]


def sample(seed: int | tuple[int, ...], size: int = 64) -> Scene:
    """Draw a scene; the same for the same seed.

    Args:
        seed: one number, or several (run, episode, attempt).
        size: height and width of the picture [px].
    """
    rng = np.random.default_rng(seed)
    spec = _empty_spec()
    arm = arms.draw(rng)
    base_m = _add_base(spec, arm, rng)
    _add_room(spec, rng)
    half = np.array([rng.uniform(0.14, 0.2), rng.uniform(0.16, 0.26), rng.uniform(0.09, 0.15)]) * (0.5 + 0.5 * arm.reach_m)
    lift = rng.uniform(0.03, 0.05)
    workspace = np.stack([[-half[0], -half[1], lift], [half[0], half[1], lift + 2 * half[2]]])
    del base_m
    objects, rest = _add_objects(spec, workspace, rng)
    looks.add_lights(spec, rng)
    looks.add_background(spec, rng)
    return Scene(spec, spec.compile(), arm, _camera(rng, size, half), objects, workspace, rest)


def _empty_spec() -> mujoco.MjSpec:
    spec = mujoco.MjSpec()
    spec.compiler.degree = False  # MjSpec reads angles in degrees unless told otherwise
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    quality = spec.visual.quality
    quality.numslices, quality.numstacks, quality.numquads = 14, 8, 2  # round enough at 64 px, a third of the triangles
    spec.visual.map.znear, spec.visual.map.zfar = 0.02, 60
    return spec


def _add_base(spec: mujoco.MjSpec, arm: arms.Arm, rng: np.random.Generator) -> NDArray[np.float64]:
    """The arm on its pedestal: a column, a torso on a wide foot, or a plate on the table."""
    colours = looks.Colours.of_arm(rng)
    distance = arm.reach_m * rng.uniform(0.52, 0.66)
    height = rng.uniform(0.05, 0.42) * (0.4 + 0.6 * arm.reach_m)
    if "lift" in arm.kinds:
        height = rng.uniform(0.2, 0.3)
    turn = rng.uniform(-0.3, 0.3)
    base_m = np.array([-distance * np.cos(turn), -distance * np.sin(turn), height])
    base = spec.worldbody.add_body(name="base", pos=base_m, quat=[np.cos(turn / 2), 0, 0, np.sin(turn / 2)])
    kind = rng.choice(["column", "torso", "plate"], p=[0.4, 0.35, 0.25])
    width = rng.uniform(0.045, 0.09)
    floor = -0.75
    if kind == "plate":
        parts = [(_GEOM.mjGEOM_CYLINDER, [width, height / 2 + 0.01, 0], -height / 2, 0.0)]
    elif kind == "column":
        form = _GEOM.mjGEOM_CYLINDER if rng.random() < 0.6 else _GEOM.mjGEOM_BOX
        long = (height - floor) / 2
        size = [width, long, 0] if form == _GEOM.mjGEOM_CYLINDER else [width, width, long]
        parts = [(form, size, -long, 0.0)]
    else:
        deep, wide, tall = rng.uniform(0.07, 0.13), rng.uniform(0.1, 0.2), (height + rng.uniform(0.1, 0.4) - floor) / 2
        parts = [
            (_GEOM.mjGEOM_BOX, [deep, wide, tall], floor - height + tall, -deep - width),
            (_GEOM.mjGEOM_CYLINDER, [rng.uniform(0.22, 0.32), rng.uniform(0.08, 0.18), 0], floor - height + 0.15, -deep),
            (_GEOM.mjGEOM_SPHERE, [width * 1.1, 0, 0], 0.0, -width / 2),
        ]
    for form, size, z, x in parts:
        base.add_geom(type=form, size=size, pos=[x, 0, z], rgba=colours.draw(rng), contype=0, conaffinity=0)
    arms.build(spec, base, arm, colours, rng)
    return base_m


def _add_room(spec: mujoco.MjSpec, rng: np.random.Generator) -> None:
    """Floor, table, and now and then a wall and things that never move."""
    world = spec.worldbody
    floor = looks.add_material(spec, "floor", looks.rgb(rng, "grey", "dark", "light", "wood", "white"), rng)
    world.add_geom(type=_GEOM.mjGEOM_PLANE, size=[3, 3, 1], pos=[0, 0, -0.75], material=floor, **_STATIC)
    top = looks.add_material(spec, "table", looks.rgb(rng, "white", "white", "light", "wood", "grey", "dark"), rng)
    across, along = rng.uniform(0.25, 0.55), rng.uniform(0.32, 0.8)
    thick = rng.choice([0.02, 0.2])
    if rng.random() < 0.15:
        world.add_geom(type=_GEOM.mjGEOM_CYLINDER, size=[max(across, 0.35), thick, 0], pos=[0.02, 0, -thick],
                       material=top, **_STATIC)  # fmt: skip
    else:
        world.add_geom(type=_GEOM.mjGEOM_BOX, size=[across, along, thick], pos=[0.02, 0, -thick],
                       material=top, **_STATIC)  # fmt: skip
    if rng.random() < 0.3:
        wall = looks.add_material(spec, "wall", looks.rgb(rng, "white", "light", "grey", "wood"), rng)
        world.add_geom(type=_GEOM.mjGEOM_BOX, size=[0.02, 3, 2], pos=[-rng.uniform(1.2, 2.5), 0, 0], material=wall,
                       contype=0, conaffinity=0)  # fmt: skip
    for _ in range(rng.integers(0, 4)):
        size = rng.uniform(0.02, 0.12, 3)
        angle, distance = rng.uniform(-np.pi, np.pi), rng.uniform(0.4, 0.9)
        position = [distance * np.cos(angle), distance * np.sin(angle), size[2]]
        form = rng.choice([int(_GEOM.mjGEOM_BOX), int(_GEOM.mjGEOM_CYLINDER), int(_GEOM.mjGEOM_ELLIPSOID)])
        if position[0] < 0.25:  # not between the camera and the work
            world.add_geom(type=_GEOM(form), size=size, pos=position, rgba=[*looks.rgb(rng, "grey", own=0.8), 1],
                           contype=0, conaffinity=0)  # fmt: skip


def _add_objects(
    spec: mujoco.MjSpec, workspace: NDArray[np.float64], rng: np.random.Generator
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """One or two things to push, in their rest pose."""
    names, rest = [], []
    for index in range(1 + int(rng.random() < 0.35)):
        form = rng.choice([int(_GEOM.mjGEOM_BOX), int(_GEOM.mjGEOM_CYLINDER), int(_GEOM.mjGEOM_SPHERE)], p=[0.5, 0.35, 0.15])
        size = rng.uniform(0.022, 0.045, 3)
        height = size[0] if form == _GEOM.mjGEOM_SPHERE else size[1 if form == _GEOM.mjGEOM_CYLINDER else 2]
        x, y = rng.uniform(0.75 * workspace[0, :2], 0.75 * workspace[1, :2])
        yaw = rng.uniform(-np.pi, np.pi)
        body = spec.worldbody.add_body(
            name=f"object{index}", pos=[x, y, height], quat=[np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        )
        body.add_freejoint()
        rgba = [*looks.rgb(rng, "red", "green", "blue", "yellow", "orange", "black", own=0.6), 1]
        friction = [rng.uniform(*_FRICTION), 0.01, 0.005]
        body.add_geom(type=_GEOM(form), size=size, rgba=rgba, mass=rng.uniform(0.05, 0.4), friction=friction,
                      condim=6 if form == _GEOM.mjGEOM_SPHERE else 4, **_OBJECT)  # fmt: skip
        names.append(f"object{index}")
        rest.append(float(height))
    return tuple(names), tuple(rest)


def _camera(rng: np.random.Generator, size: int, half: NDArray[np.float64]) -> Camera:
    """In front of the work, up to 65° to either side, so close that the workspace fills the picture."""
    azimuth, elevation = rng.uniform(-1.15, 1.15), rng.uniform(0.2, 0.95)
    fovy = rng.uniform(38, 62)
    extent = float(np.linalg.norm(half)) * rng.uniform(0.85, 1.4)
    distance = extent / np.tan(np.radians(fovy / 2)) + 0.12
    target = np.array([0.0, 0.0, half[2]]) + rng.normal(0, 0.04, 3)
    ahead = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    position = target + distance * ahead
    position[2] = max(position[2], 0.06)
    return Camera("front", size, size, tuple(position.tolist()), tuple(target.tolist()), float(fovy))
