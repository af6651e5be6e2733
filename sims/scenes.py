"""Procedural scenes: an arm, a table, things on it and cameras, all from one seed."""

import math
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.embodiment import Camera, Interface
from sims import arms, looks, things, viewpoints
from sims.things import PICTURE, STATIC

TIMESTEP_S = 0.005
_GEOM = mujoco.mjtGeom
_FLOOR_M = -0.75  # below the table top
_HALF_WORKSPACE_M = np.array([[0.14, 0.16, 0.09], [0.2, 0.26, 0.15]])  # least and most, for an arm of 1 m reach
_STRETCH, _FOLD_RAD = 0.94, 1.85  # an arm works neither stretched nor folded further than this
_FITS, _AWAY, _SHRINK = 20, 1.03, 0.95  # steps that move the base or shrink a workspace that its arm does not cover
_CAMERA_ODDS = (0.5, 0.3, 0.2)  # of one, two and three cameras
_WHOLE_SHARE = 0.6  # of scenes whose first camera frames the whole arm, as a user's mostly does, not only the workspace
_RAISED = (0.1, 0.4)  # how far over its shoulder a framed arm rises, as a share of its reach


@dataclass(frozen=True)
class Scene:
    """A compiled scene. The table top is z = 0 and the middle of the workspace x = y = 0; the arm stands at x < 0.

    Attributes:
        spec: for saving as MJCF (`spec.to_xml()`).
        model: compiled.
        arm: the body's design.
        cameras: where pictures are taken from, one to three. The first is static. One without `position_m` moves by
            itself or with the wrist; the model has all of them under their names.
        objects: names of the movable bodies; pushes aim at the first.
        workspace_m: lowest and highest corner of where the hand goes, (2, 3).
        whole: the first camera frames the whole arm, not only the workspace.
    """

    spec: mujoco.MjSpec
    model: mujoco.MjModel
    arm: arms.Arm
    cameras: tuple[Camera, ...]
    objects: tuple[str, ...]
    workspace_m: NDArray[np.float64]
    whole: bool

    @property
    def camera(self) -> Camera:
        """The first, static camera."""
        return self.cameras[0]


def sample(
    seed: int | tuple[int, ...],
    size: int = 64,
    num_cameras: int | None = None,
    interface: Interface = "joint_position",
    body_seed: tuple[int, ...] | None = None,
) -> Scene:
    """Draw a scene; the same for the same arguments, and the same but for cameras and servos for the same seed.

    Args:
        seed: one number, or several (run, episode, attempt).
        size: height and width of the pictures [px].
        num_cameras: 1 to 3; drawn as well when None.
        interface: what the arm's actuators take: positions, velocities or torques.
        body_seed: of the arm, its mount and its colours, so that several scenes have one body; None: as all else.
    """
    rng = np.random.default_rng(seed)
    body_rng = rng if body_seed is None else np.random.default_rng(body_seed)
    spec = _empty_spec()
    arm = arms.draw(body_rng)
    half = rng.uniform(*_HALF_WORKSPACE_M) * (0.5 + 0.5 * arm.reach_m)
    lift = rng.uniform(0.03, 0.05)
    shoulder_m, tool, half = _add_arm(spec, arm, half, lift, interface, body_rng)
    workspace = np.stack([[-half[0], -half[1], lift], [half[0], half[1], lift + 2 * half[2]]])
    _add_room(spec, rng)
    objects = things.add_objects(spec, workspace, rng)
    things.add_clutter(spec, rng)
    looks.add_lights(spec, rng)
    looks.add_background(spec, rng)
    drawn = looks.pick(rng, (1, 2, 3), _CAMERA_ODDS)
    whole = bool(rng.random() < _WHOLE_SHARE)
    raised_m = shoulder_m + np.array([0.0, 0.0, arm.reach_m * rng.uniform(*_RAISED)])
    arm_m = np.stack([shoulder_m, raised_m]) if whole else None
    cameras = viewpoints.add_cameras(spec, tool, arm.tool.hand_m, workspace, arm_m, num_cameras or drawn, size, rng)
    return Scene(spec, spec.compile(), arm, cameras, objects, workspace, whole)


def _empty_spec() -> mujoco.MjSpec:
    spec = mujoco.MjSpec()
    spec.compiler.degree = False  # MjSpec reads angles in degrees unless told otherwise
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.memory = 1 << 20  # ten times what is used; MuJoCo's own 14 MB are cleared for every MjData, a millisecond each
    quality = spec.visual.quality
    quality.numslices, quality.numstacks, quality.numquads = 14, 8, 2  # round enough at 64 px, a third of the triangles
    spec.visual.map.znear, spec.visual.map.zfar = 0.02, 60
    return spec


def _add_arm(
    spec: mujoco.MjSpec,
    arm: arms.Arm,
    half: NDArray[np.float64],
    lift: float,
    interface: Interface,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], mujoco.MjsBody, NDArray[np.float64]]:
    """The arm on its mount: a column, a torso on a wide foot, a drum on the table, or a post from above.

    Returns:
        The shoulder's place, the tool's body, and half the edges of the workspace, smaller when the arm
        does not cover it all.
    """
    colours = looks.Colours.of_arm(rng)
    distance, turn = arm.reach_m * rng.uniform(0.52, 0.66), rng.uniform(-0.3, 0.3)
    high = rng.uniform(0.05, 0.42) * (0.4 + 0.6 * arm.reach_m)
    if arm.slides:
        high = rng.uniform(0.2, 0.3)
    if arm.hangs:
        high = rng.uniform(0.42, 0.58) * arm.reach_m
    distance, half = _fit(arm, distance, high, half, lift)
    position = [-distance * np.cos(turn), -distance * np.sin(turn), high]
    quat = np.array([np.cos(turn / 2), 0, 0, np.sin(turn / 2)])
    if arm.hangs:
        mujoco.mju_mulQuat(quat, quat.copy(), np.array([0.0, 1.0, 0.0, 0.0]))
    base = spec.worldbody.add_body(name="base", pos=position, quat=quat)
    for form, size, x, z in _mount(arm, high, rng):
        base.add_geom(type=form, size=size, pos=[x, 0, z], rgba=colours.draw(rng), **PICTURE)
    return np.array(position), arms.build(spec, base, arm, colours, interface, rng), half


def _fit(
    arm: arms.Arm, distance: float, high: float, half: NDArray[np.float64], lift: float
) -> tuple[float, NDArray[np.float64]]:
    """Move the base away from, and shrink, a workspace that the arm does not cover.

    Upper and fore arm count as two links in a plane; what follows them points down where it can.
    """
    bends = [i for i, kind in enumerate(arm.kinds) if kind == ("yaw" if arm.slides else "pitch")]
    last = bends[-1] if arm.points_down else len(arm.kinds)
    shoulder, upper = sum(arm.lengths_m[: bends[0]]), sum(arm.lengths_m[bends[0] : bends[1]])
    fore, tip = sum(arm.lengths_m[bends[1] : last]), sum(arm.lengths_m[last:]) + arm.tool.hand_m
    below = 0.0
    if arm.points_down:
        below = tip
    elif not arm.slides:  # the tool is a rigid end of the forearm, at an angle
        fore = float(np.hypot(fore + tip * np.cos(arm.bend_rad), tip * np.sin(arm.bend_rad)))
    least = float(np.sqrt(upper**2 + fore**2 + 2 * upper * fore * np.cos(_FOLD_RAD)))
    for _ in range(_FITS):
        (x, y, z), foot = half.tolist(), lift + below - high
        heights = [0.0] if arm.slides else [abs(foot), abs(foot + 2 * z)]
        near = math.hypot(max(distance - x - shoulder, 0.0), min(heights))
        far = math.hypot(math.hypot(distance + x, y) - shoulder, max(heights))
        if near < least:
            distance *= _AWAY
        if far > _STRETCH * (upper + fore):
            half = half * _SHRINK
        if near >= least and far <= _STRETCH * (upper + fore):
            break
    return distance, half


def _mount(
    arm: arms.Arm, high: float, rng: np.random.Generator
) -> list[tuple[mujoco.mjtGeom, list[float], float, float]]:
    """Form, size, x and z (from the arm's foot, which is `high` over the table) of each part."""
    kind, width = looks.pick(rng, ("column", "torso", "drum"), (0.4, 0.35, 0.25)), rng.uniform(0.045, 0.09)
    floor = -rng.uniform(0.5, 1.0) if arm.hangs else _FLOOR_M - high  # what hangs has its foot above
    if kind == "column" or arm.hangs:
        if rng.random() < 0.6:
            return [(_GEOM.mjGEOM_CYLINDER, [width, -floor / 2, 0], 0.0, floor / 2)]
        return [(_GEOM.mjGEOM_BOX, [width, width, -floor / 2], 0.0, floor / 2)]
    if kind == "drum":
        return [(_GEOM.mjGEOM_CYLINDER, [width, high / 2 + 0.01, 0], 0.0, -high / 2)]
    deep, wide, tall = rng.uniform(0.07, 0.13), rng.uniform(0.1, 0.2), (rng.uniform(0.1, 0.4) - floor) / 2
    foot = [rng.uniform(0.22, 0.32), rng.uniform(0.08, 0.18), 0]
    return [
        (_GEOM.mjGEOM_BOX, [deep, wide, tall], -deep - width, floor + tall),
        (_GEOM.mjGEOM_CYLINDER, foot, -deep, floor + 0.15),
        (_GEOM.mjGEOM_SPHERE, [width * 1.1, 0, 0], -width / 2, 0.0),
    ]


def _add_room(spec: mujoco.MjSpec, rng: np.random.Generator) -> None:
    """Floor, table, and now and then a wall."""
    world = spec.worldbody
    floor = looks.add_material(spec, "floor", looks.rgb(rng, "grey", "dark", "light", "wood", "white"), rng)
    world.add_geom(type=_GEOM.mjGEOM_PLANE, size=[3, 3, 1], pos=[0, 0, _FLOOR_M], material=floor, **STATIC)
    top = looks.add_material(spec, "table", looks.rgb(rng, "white", "white", "light", "wood", "grey", "dark"), rng)
    across, along, thick = rng.uniform(0.25, 0.55), rng.uniform(0.32, 0.8), looks.pick(rng, (0.02, 0.2))
    is_round = rng.random() < 0.15
    form = _GEOM.mjGEOM_CYLINDER if is_round else _GEOM.mjGEOM_BOX
    size = [max(across, 0.35), thick, 0] if is_round else [across, along, thick]
    world.add_geom(type=form, size=size, pos=[0.02, 0, -thick], material=top, **STATIC)
    if rng.random() < 0.3:
        wall = looks.add_material(spec, "wall", looks.rgb(rng, "white", "light", "grey", "wood"), rng)
        position = [-rng.uniform(1.2, 2.5), 0, 0]
        world.add_geom(type=_GEOM.mjGEOM_BOX, size=[0.02, 3, 2], pos=position, material=wall, **PICTURE)
