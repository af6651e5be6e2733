"""Procedural scenes: an arm, a table, things on it and a camera, all from one seed."""

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.embodiment import Camera
from sims import arms, looks

TIMESTEP_S = 0.005
_GEOM = mujoco.mjtGeom
_PICTURE = {"contype": 0, "conaffinity": 0}  # seen, never touched
_STATIC = {"contype": 1, "conaffinity": 1}
_OBJECT = {"contype": 1, "conaffinity": 1 | arms.ARM_GROUP}
_FRICTION = (0.3, 1.0)
_FLOOR_M = -0.75  # below the table top
_HALF_WORKSPACE_M = np.array([[0.14, 0.16, 0.09], [0.2, 0.26, 0.15]])  # least and most, for an arm of 1 m reach
_OBJECT_FORMS = (_GEOM.mjGEOM_BOX, _GEOM.mjGEOM_CYLINDER, _GEOM.mjGEOM_SPHERE)
_CLUTTER_FORMS = (_GEOM.mjGEOM_BOX, _GEOM.mjGEOM_CYLINDER, _GEOM.mjGEOM_ELLIPSOID)


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
    """

    spec: mujoco.MjSpec
    model: mujoco.MjModel
    arm: arms.Arm
    camera: Camera
    objects: tuple[str, ...]
    workspace_m: NDArray[np.float64]


def sample(seed: int | tuple[int, ...], size: int = 64) -> Scene:
    """Draw a scene; the same for the same seed.

    Args:
        seed: one number, or several (run, episode, attempt).
        size: height and width of the picture [px].
    """
    rng = np.random.default_rng(seed)
    spec = _empty_spec()
    arm = arms.draw(rng)
    _add_base(spec, arm, rng)
    _add_room(spec, rng)
    half = rng.uniform(*_HALF_WORKSPACE_M) * (0.5 + 0.5 * arm.reach_m)
    lift = rng.uniform(0.03, 0.05)
    workspace = np.stack([[-half[0], -half[1], lift], [half[0], half[1], lift + 2 * half[2]]])
    objects = _add_objects(spec, workspace, rng)
    looks.add_lights(spec, rng)
    looks.add_background(spec, rng)
    return Scene(spec, spec.compile(), arm, _camera(rng, size, half), objects, workspace)


def _empty_spec() -> mujoco.MjSpec:
    spec = mujoco.MjSpec()
    spec.compiler.degree = False  # MjSpec reads angles in degrees unless told otherwise
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    quality = spec.visual.quality
    quality.numslices, quality.numstacks, quality.numquads = 14, 8, 2  # round enough at 64 px, a third of the triangles
    spec.visual.map.znear, spec.visual.map.zfar = 0.02, 60
    return spec


def _add_base(spec: mujoco.MjSpec, arm: arms.Arm, rng: np.random.Generator) -> None:
    """The arm on its pedestal: a column, a torso on a wide foot, or a drum on the table."""
    colours = looks.Colours.of_arm(rng)
    distance, turn = arm.reach_m * rng.uniform(0.52, 0.66), rng.uniform(-0.3, 0.3)
    high = rng.uniform(0.05, 0.42) * (0.4 + 0.6 * arm.reach_m)
    if arm.slides:
        high = rng.uniform(0.2, 0.3)
    position = [-distance * np.cos(turn), -distance * np.sin(turn), high]
    base = spec.worldbody.add_body(name="base", pos=position, quat=[np.cos(turn / 2), 0, 0, np.sin(turn / 2)])
    for form, size, x, z in _pedestal(high, rng):
        base.add_geom(type=form, size=size, pos=[x, 0, z], rgba=colours.draw(rng), **_PICTURE)
    arms.build(spec, base, arm, colours, rng)


def _pedestal(high: float, rng: np.random.Generator) -> list[tuple[mujoco.mjtGeom, list[float], float, float]]:
    """Form, size, x and z (from the arm's foot, which stands `high` over the table) of each part."""
    kind, width = rng.choice(["column", "torso", "drum"], p=[0.4, 0.35, 0.25]), rng.uniform(0.045, 0.09)
    floor = _FLOOR_M - high
    if kind == "drum":
        return [(_GEOM.mjGEOM_CYLINDER, [width, high / 2 + 0.01, 0], 0.0, -high / 2)]
    if kind == "column":
        if rng.random() < 0.6:
            return [(_GEOM.mjGEOM_CYLINDER, [width, -floor / 2, 0], 0.0, floor / 2)]
        return [(_GEOM.mjGEOM_BOX, [width, width, -floor / 2], 0.0, floor / 2)]
    deep, wide, tall = rng.uniform(0.07, 0.13), rng.uniform(0.1, 0.2), (rng.uniform(0.1, 0.4) - floor) / 2
    foot = [rng.uniform(0.22, 0.32), rng.uniform(0.08, 0.18), 0]
    return [
        (_GEOM.mjGEOM_BOX, [deep, wide, tall], -deep - width, floor + tall),
        (_GEOM.mjGEOM_CYLINDER, foot, -deep, floor + 0.15),
        (_GEOM.mjGEOM_SPHERE, [width * 1.1, 0, 0], -width / 2, 0.0),
    ]


def _add_room(spec: mujoco.MjSpec, rng: np.random.Generator) -> None:
    """Floor, table, and now and then a wall and things that never move."""
    world = spec.worldbody
    floor = looks.add_material(spec, "floor", looks.rgb(rng, "grey", "dark", "light", "wood", "white"), rng)
    world.add_geom(type=_GEOM.mjGEOM_PLANE, size=[3, 3, 1], pos=[0, 0, _FLOOR_M], material=floor, **_STATIC)
    top = looks.add_material(spec, "table", looks.rgb(rng, "white", "white", "light", "wood", "grey", "dark"), rng)
    across, along, thick = rng.uniform(0.25, 0.55), rng.uniform(0.32, 0.8), rng.choice([0.02, 0.2])
    is_round = rng.random() < 0.15
    form = _GEOM.mjGEOM_CYLINDER if is_round else _GEOM.mjGEOM_BOX
    size = [max(across, 0.35), thick, 0] if is_round else [across, along, thick]
    world.add_geom(type=form, size=size, pos=[0.02, 0, -thick], material=top, **_STATIC)
    if rng.random() < 0.3:
        wall = looks.add_material(spec, "wall", looks.rgb(rng, "white", "light", "grey", "wood"), rng)
        position = [-rng.uniform(1.2, 2.5), 0, 0]
        world.add_geom(type=_GEOM.mjGEOM_BOX, size=[0.02, 3, 2], pos=position, material=wall, **_PICTURE)
    for _ in range(rng.integers(0, 4)):
        half, form = rng.uniform(0.02, 0.12, 3), _CLUTTER_FORMS[rng.integers(len(_CLUTTER_FORMS))]
        angle, distance = rng.uniform(-np.pi, np.pi), rng.uniform(0.4, 0.9)
        place = [distance * np.cos(angle), distance * np.sin(angle), half[2]]
        if place[0] < 0.25:  # not between the camera and the work
            rgba = [*looks.rgb(rng, "grey", own=0.8), 1]
            world.add_geom(type=form, size=half, pos=place, rgba=rgba, **_PICTURE)


def _add_objects(spec: mujoco.MjSpec, workspace: NDArray[np.float64], rng: np.random.Generator) -> tuple[str, ...]:
    """One or two things to push, lying on the table."""
    names = tuple(f"object{i}" for i in range(1 + int(rng.random() < 0.35)))
    for name in names:
        form, size = _OBJECT_FORMS[rng.choice(3, p=[0.5, 0.35, 0.15])], rng.uniform(0.022, 0.045, 3)
        rolls = form == _GEOM.mjGEOM_SPHERE
        height = size[{_GEOM.mjGEOM_BOX: 2, _GEOM.mjGEOM_CYLINDER: 1, _GEOM.mjGEOM_SPHERE: 0}[form]]
        x, y = rng.uniform(0.75 * workspace[0, :2], 0.75 * workspace[1, :2])
        yaw = rng.uniform(-np.pi, np.pi)
        quat = [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        body = spec.worldbody.add_body(name=name, pos=[x, y, height], quat=quat)
        body.add_freejoint()
        rgba = [*looks.rgb(rng, "red", "green", "blue", "yellow", "orange", "black", own=0.6), 1]
        friction, mass = [rng.uniform(*_FRICTION), 0.01, 0.005], rng.uniform(0.05, 0.4)
        condim = 6 if rolls else 4  # only a ball needs friction against rolling
        body.add_geom(type=form, size=size, rgba=rgba, mass=mass, friction=friction, condim=condim, **_OBJECT)
    return names


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
    (x, y, z), (u, v, w) = position.tolist(), target.tolist()
    return Camera("front", size, size, (x, y, z), (u, v, w), float(fovy))
