"""From a MuJoCo model to the capsules that a running robot keeps apart."""

import itertools
from collections.abc import Mapping, Sequence

import mujoco
import numpy as np

from calibration import kinematics
from calibration.signals import Array
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.solids import Capsule, Joint, Solids
from sims import actuation
from sims.simulation import Simulation

_GEOM = mujoco.mjtGeom
_MOST_STRIPS = 4  # capsules side by side that stand for one box


def of_body(simulation: Simulation, zeros: Mapping[int, float] | None = None) -> Solids:
    """Capsules around all that the body can collide with, and the pairs of them that its joints can bring together.

    A sphere and a capsule of the MJCF are themselves; cylinders, ellipsoids, boxes and meshes (as their boxes) are
    inside what stands for them. Parts without a bit in contype and conaffinity are for show and not counted, nor are
    geoms of the world itself. Never a pair: parts of one body, of a body and the next one above it, of bodies that
    the MJCF excludes, and of those that only the gripper moves against each other.

    Args:
        simulation: of the body, at home; joints without a command stay as they are there.
        zeros: what an encoder reads where its joint has not moved anything, by entry of proprio, where that is known
            better than the MJCF has it.

    Raises:
        UserError: a body that does not measure its joints, or one without anything to collide with.
    """
    model = simulation.model
    if simulation.command.interface == "end_effector_velocity" or (
        len(simulation.proprio_names) != 2 * simulation.command.dim
    ):
        raise UserError(
            f"self_clearance_m or workspace_m: {simulation.embodiment.name} does not measure the joints that it moves",
            "Leave them out; `safety.bounds` keeps the hand in a box",
        )
    driven = {int(model.actuator_trnid[i, 0]): entry for entry, i in enumerate(
        actuation.select(simulation.embodiment, model))}  # fmt: skip
    bias = {j: zeros[entry] - float(model.qpos0[model.jnt_qposadr[j]]) for j, entry in driven.items()
            if zeros and entry in zeros}  # fmt: skip
    joints, frames = kinematics.of_all(model, simulation.data, driven, bias)
    roots = {int(model.body_rootid[model.jnt_bodyid[joint]]) for joint in driven}
    capsules, bodies = [], []
    for geom in range(model.ngeom):
        body = int(model.geom_bodyid[geom])
        collides = model.geom_contype[geom] or model.geom_conaffinity[geom]
        if not collides or int(model.body_rootid[body]) not in roots or body == 0:
            continue
        link, T_link_body = frames[body]
        for start_m, end_m, radius_m in _capsules(model, geom):
            start, end = (kinematics.triple(T_link_body[:3, :3] @ at + T_link_body[:3, 3]) for at in (start_m, end_m))
            capsules.append(Capsule(model.body(body).name or f"body {body}", link, start, end, radius_m))
            bodies.append(body)
    if not capsules:
        raise UserError(
            f"self_clearance_m or workspace_m: the MJCF of {simulation.embodiment.name} has no parts that collide",
            "Give its geoms contype or conaffinity, or leave them out",
        )
    apart = {two for two in itertools.combinations(sorted(set(bodies)), 2) if _strangers(model, *two)}
    gripper = {i for i, joint in enumerate(joints) if joint.entry == simulation.gripper}
    pairs = tuple(
        (i, j)
        for i, j in itertools.combinations(range(len(capsules)), 2)
        if tuple(sorted((bodies[i], bodies[j]))) in apart
        and (_above(joints, capsules[i].link) ^ _above(joints, capsules[j].link)) - gripper
    )
    return Solids(tuple(joints), tuple(capsules), pairs)


def without(solids: Solids, near: list[bool]) -> tuple[Solids, list[str]]:
    """Leave out every pair of bodies of which a pair of capsules is `near` (M,); returns the names of those bodies."""
    names = [" and ".join(sorted({solids.capsules[i].name for i in pair})) for pair in solids.pairs]
    out = {name for name, is_near in zip(names, near, strict=True) if is_near}
    kept = tuple(pair for pair, name in zip(solids.pairs, names, strict=True) if name not in out)
    return Solids(solids.joints, solids.capsules, kept), sorted(out)


def _above(joints: Sequence[Joint], link: int) -> set[int]:
    """The joints that move a link."""
    found = set()
    while link >= 0:
        found.add(link)
        link = joints[link].parent
    return found


def _strangers(model: mujoco.MjModel, one: int, other: int) -> bool:
    """Whether two bodies are neither one piece, nor neighbours, nor excluded by the MJCF."""
    first, second = int(model.body_weldid[one]), int(model.body_weldid[other])
    if first == second or first in _next(model, second) or second in _next(model, first):
        return False
    excluded = {(int(s) >> 16, int(s) & 0xFFFF) for s in model.exclude_signature}
    return (one, other) not in excluded and (other, one) not in excluded


def _next(model: mujoco.MjModel, piece: int) -> set[int]:
    """The pieces right above one: bodies without geoms, as joints with several axes have them, are passed by."""
    found = set()
    while piece > 0:
        piece = int(model.body_weldid[model.body_parentid[piece]])
        found.add(piece)
        if any(int(model.body_weldid[body]) == piece for body in model.geom_bodyid):
            break
    return found


def _capsules(model: mujoco.MjModel, geom: int) -> list[tuple[Array, Array, float]]:
    """Capsules that hold a geom, in its body's frame: both ends of each, and its radius [m]."""
    kind, size = model.geom_type[geom], model.geom_size[geom]
    centre, turn = model.geom_pos[geom], np.zeros(9)
    mujoco.mju_quat2Mat(turn, model.geom_quat[geom])
    R = turn.reshape(3, 3)
    if kind in (_GEOM.mjGEOM_PLANE, _GEOM.mjGEOM_HFIELD):
        return []
    if kind == _GEOM.mjGEOM_SPHERE:
        return [(centre, centre, float(size[0]))]
    if kind in (_GEOM.mjGEOM_CAPSULE, _GEOM.mjGEOM_CYLINDER):
        return [(centre - size[1] * R[:, 2], centre + size[1] * R[:, 2], float(size[0]))]
    if kind == _GEOM.mjGEOM_ELLIPSOID:  # a ball rolled along the longest axis touches it at both tips from outside
        long, radius = int(np.argmax(size)), float(np.sort(size)[1])
        reach = (size[long] - radius) * R[:, long]
        return [(centre - reach, centre + reach, radius)]
    box = size if kind == _GEOM.mjGEOM_BOX else model.geom_aabb[geom, 3:]
    middle = centre if kind == _GEOM.mjGEOM_BOX else centre + R @ model.geom_aabb[geom, :3]
    thin, wide, long = np.argsort(box)
    num = int(np.clip(np.ceil(box[wide] / max(box[thin], 1e-6)), 1, _MOST_STRIPS))
    half = box[wide] / num
    beside = np.linspace(-box[wide] + half, box[wide] - half, num)
    reach = box[long] * R[:, long]
    return [
        (middle + at * R[:, wide] - reach, middle + at * R[:, wide] + reach, float(np.hypot(half, box[thin])))
        for at in beside
    ]
