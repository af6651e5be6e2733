"""What lies and stands around an arm: things to push or grasp, things that are only in the picture."""

import math

import mujoco
import numpy as np
from numpy.typing import NDArray

from sims import looks
from sims.tools import ALONG_X, ARM_GROUP

PICTURE = {"contype": 0, "conaffinity": 0}  # seen, never touched
STATIC = {"contype": 1, "conaffinity": 1}
OBJECT = {"contype": 1, "conaffinity": 1 | ARM_GROUP}
_GEOM, _JOINT = mujoco.mjtGeom, mujoco.mjtJoint
_NUM_OBJECTS, _NUM_ODDS = (1, 2, 3), (0.48, 0.35, 0.17)
_FORMS = ("box", "cylinder", "sphere", "ellipsoid", "capsule", "corner", "hammer", "mug")
_FORM_ODDS = (0.28, 0.2, 0.1, 0.06, 0.09, 0.09, 0.09, 0.09)
_FRICTION, _MASS_KG, _HALF_SIZES_M = (0.3, 1.1), (0.03, 0.5), (0.02, 0.046)
_APART_M, _PLACES = 0.01, 12  # between two objects; places tried before one is left out
_MIDDLE, _AROUND_M = 0.75, 0.04  # where the first object may lie, as a share of the workspace; how far out the others
_CLUTTER_FORMS = (_GEOM.mjGEOM_BOX, _GEOM.mjGEOM_CYLINDER, _GEOM.mjGEOM_ELLIPSOID)
_SWINGING_SHARE, _PERIODS_S, _SWING = 0.2, (1.5, 6.0), (0.15, 0.6)  # [rad]
_Part = tuple[mujoco.mjtGeom, list[float], list[float], tuple[float, float, float, float]]
_UPRIGHT = (1.0, 0.0, 0.0, 0.0)


def add_objects(spec: mujoco.MjSpec, workspace_m: NDArray[np.float64], rng: np.random.Generator) -> tuple[str, ...]:
    """One to three movable bodies of random shape, size, mass and friction, lying on the table; their names."""
    names: list[str] = []
    taken: list[tuple[NDArray[np.float64], float]] = []
    for _ in range(looks.pick(rng, _NUM_OBJECTS, _NUM_ODDS)):
        form = looks.pick(rng, _FORMS, _FORM_ODDS)
        parts, height = _shape(form, rng.uniform(*_HALF_SIZES_M, 3))
        radius = max(map(_radius, parts))
        place = _place(workspace_m, taken, radius, rng)
        if place is None:
            continue
        taken.append((place, radius))
        names.append(f"object{len(names)}")
        yaw = rng.uniform(-np.pi, np.pi)
        quat = [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        body = spec.worldbody.add_body(name=names[-1], pos=[*place, height], quat=quat)
        body.add_freejoint()
        rgba = [*looks.rgb(rng, "red", "green", "blue", "yellow", "orange", "black", own=0.6), 1]
        friction, mass = [rng.uniform(*_FRICTION), 0.01, 0.005], rng.uniform(*_MASS_KG) / len(parts)
        condim = 6 if form in ("sphere", "ellipsoid", "capsule") else 3  # only what rolls needs friction against it
        for kind, size, where, turn in parts:
            body.add_geom(
                type=kind, size=size, pos=where, quat=turn, rgba=rgba, mass=mass, friction=friction, condim=condim,
                **OBJECT,
            )  # fmt: skip
    return tuple(names)


def _shape(form: str, half: NDArray[np.float64]) -> tuple[list[_Part], float]:
    """The parts of an object, and the height of its frame when it rests on the table."""
    x, y, z = half.tolist()
    if form == "box":
        return [(_GEOM.mjGEOM_BOX, [x, y, z], [0, 0, 0], _UPRIGHT)], z
    if form == "cylinder":
        return [(_GEOM.mjGEOM_CYLINDER, [x, y, 0], [0, 0, 0], _UPRIGHT)], y
    if form == "sphere":
        return [(_GEOM.mjGEOM_SPHERE, [x, 0, 0], [0, 0, 0], _UPRIGHT)], x
    if form == "ellipsoid":
        low = 0.7 * min(x, y)
        return [(_GEOM.mjGEOM_ELLIPSOID, [x, y, low], [0, 0, 0], _UPRIGHT)], low
    if form == "capsule":
        thick = 0.7 * x
        return [(_GEOM.mjGEOM_CAPSULE, [thick, y, 0], [0, 0, 0], ALONG_X)], thick
    if form == "corner":
        thin, high = 0.4 * y, 0.7 * z
        along: _Part = (_GEOM.mjGEOM_BOX, [1.3 * x, thin, high], [0, 0, 0], _UPRIGHT)
        return [along, (_GEOM.mjGEOM_BOX, [thin, y, high], [1.3 * x - thin, y, 0], _UPRIGHT)], high
    if form == "hammer":
        thin = 0.4 * x
        head: _Part = (_GEOM.mjGEOM_BOX, [thin, y, thin], [1.6 * x, 0, 0], _UPRIGHT)
        return [head, (_GEOM.mjGEOM_CYLINDER, [0.6 * thin, 1.6 * x, 0], [0, 0, 0], ALONG_X)], thin
    cup: _Part = (_GEOM.mjGEOM_CYLINDER, [0.8 * x, z, 0], [0, 0, 0], _UPRIGHT)
    return [cup, (_GEOM.mjGEOM_BOX, [0.4 * x, 0.15 * x, 0.6 * z], [1.1 * x, 0, 0], _UPRIGHT)], z


def _radius(part: _Part) -> float:
    """Of the circle around an object's frame that a part keeps within, seen from above."""
    kind, (first, second, _), where, quat = part
    if kind == _GEOM.mjGEOM_BOX:
        reach = math.hypot(first, second)
    elif kind == _GEOM.mjGEOM_ELLIPSOID:
        reach = max(first, second)
    else:
        reach = first if quat == _UPRIGHT else first + second
    return math.hypot(*where[:2]) + reach


def _place(
    workspace_m: NDArray[np.float64],
    taken: list[tuple[NDArray[np.float64], float]],
    radius: float,
    rng: np.random.Generator,
) -> NDArray[np.float64] | None:
    """x and y, in the middle for the first object, for the others wherever there is room; None where there is none."""
    low, high = workspace_m[:, :2]
    middle, half = (low + high) / 2, (high - low) / 2
    half = half + _AROUND_M if taken else _MIDDLE * half
    for _ in range(_PLACES):
        place = middle + half * (2 * rng.random(2) - 1)
        if all(math.dist(place, other) > radius + its + _APART_M for other, its in taken):
            return place
    return None


def add_clutter(spec: mujoco.MjSpec, rng: np.random.Generator) -> None:
    """Up to three things that never move, and now and then one that swings on a spring by itself."""
    for _ in range(looks.pick(rng, (0, 1, 2, 3))):
        half, form = rng.uniform(0.02, 0.12, 3), looks.pick(rng, _CLUTTER_FORMS)
        place, rgba = _beside(half[2], rng), [*looks.rgb(rng, "grey", own=0.8), 1]
        if place[0] < 0.25:  # not between the camera and the work
            spec.worldbody.add_geom(type=form, size=half, pos=place, rgba=rgba, **PICTURE)
    if rng.random() < _SWINGING_SHARE:
        half, form = rng.uniform(0.03, 0.12, 3), looks.pick(rng, _CLUTTER_FORMS)
        place = _beside(rng.uniform(0.1, 0.5), rng)
        place[0] = min(place[0], 0.2)
        hung = add_swing(spec, "swinging", place, np.append(rng.normal(size=2), 0.5), rng.uniform(*_SWING), rng)
        hung.add_geom(
            type=form, size=half, pos=[0, 0, -rng.uniform(0.05, 0.3)], rgba=[*looks.rgb(rng, own=1.0), 1], mass=0,
            **PICTURE,
        )  # fmt: skip


def add_swing(
    spec: mujoco.MjSpec,
    name: str,
    place: NDArray[np.float64],
    axis: NDArray[np.float64],
    amplitude: float,
    rng: np.random.Generator,
) -> mujoco.MjsBody:
    """A body that turns to and fro between 0 and twice `amplitude` [rad], driven by a spring that starts tense.

    No controller and no code moves it: it swings in any program that steps the model.
    """
    body = spec.worldbody.add_body(name=name, pos=place, gravcomp=1)
    body.explicitinertial, body.mass, body.inertia = True, 1.0, [1.0, 1.0, 1.0]
    stiffness = (2 * np.pi / rng.uniform(*_PERIODS_S)) ** 2
    body.add_joint(
        name=name, type=_JOINT.mjJNT_HINGE, axis=axis, stiffness=stiffness, springref=amplitude, damping=0, armature=0
    )  # fmt: skip
    return body


def _beside(height: float, rng: np.random.Generator) -> NDArray[np.float64]:
    angle, distance = rng.uniform(-np.pi, np.pi), rng.uniform(0.4, 0.9)
    return np.array([distance * np.cos(angle), distance * np.sin(angle), height])
