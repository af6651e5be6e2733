"""Procedural arms: kinematics, shapes, masses, servos and tools drawn at random, built as MjSpec.

At zero every arm lies stretched along its own x axis: yaw turns about z, pitch about y (positive bends down), roll
about x. The tool points along x of the last link.
"""

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.embodiment import Interface
from sims import tools
from sims.looks import Colours, pick
from sims.tools import ALONG_X, ALONG_Y, ARM_GROUP, HAND_SITE, Tool, add_geom

__all__ = ["ARM_GROUP", "HAND_SITE", "Arm", "build", "draw"]

_GEOM, _JOINT = mujoco.mjtGeom, mujoco.mjtJoint
_AXES = {"yaw": (0, 0, 1), "pitch": (0, 1, 0), "roll": (1, 0, 0), "lift": (0, 0, 1)}
_RANGES = {"yaw": 2.8, "pitch": 2.4, "roll": 2.9, "lift": 0.35}  # to either side [rad or m]
# Joints from base to tool; a segment's share of the reach follows each joint.
_CHAINS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("yaw", "shoulder"), ("pitch", "upper"), ("pitch", "fore")),
    (("yaw", "shoulder"), ("pitch", "upper"), ("pitch", "fore"), ("pitch", "hand")),
    (("yaw", "shoulder"), ("pitch", "upper"), ("pitch", "fore"), ("pitch", "wrist"), ("roll", "hand")),
    (("yaw", "shoulder"), ("pitch", "upper"), ("pitch", "half_fore"), ("roll", "half_fore"), ("pitch", "hand")),
    (("yaw", "shoulder"), ("pitch", "upper"), ("pitch", "half_fore"), ("roll", "half_fore"), ("pitch", "wrist"),
     ("roll", "hand")),
    (("yaw", "shoulder"), ("pitch", "half_upper"), ("roll", "half_upper"), ("pitch", "half_fore"),
     ("roll", "half_fore"), ("pitch", "wrist"), ("roll", "hand")),
    (("lift", "shoulder"), ("yaw", "upper"), ("yaw", "fore")),
)  # fmt: skip
_CHAIN_ODDS = (0.12, 0.16, 0.14, 0.14, 0.18, 0.18, 0.08)
_FORMS = ("capsule", "cylinder", "box")
_HANGING_SHARE = 0.12  # of arms that can: above the table, upside down
_BENT_SHARE, _MOST_BENT = 0.4, 0.05  # of arms whose links are shifted sideways, by up to this share of the reach
_LEAST_RANGE = 0.85  # of the widest joint range
_STIFFNESS, _LAGS_S = (350.0, 900.0), (0.07, 0.14)  # of hinge servos [N·m/rad] and how far they trail behind
_LIFT_STIFFNESS, _TORQUE_N_M, _LIFT_N = 4000.0, 150.0, 900.0
_TOP_SPEEDS = {"lift": 0.5, "hinge": 2.0}  # commands of a velocity interface [m/s, rad/s]


@dataclass(frozen=True)
class Arm:
    """A drawn arm.

    Attributes:
        kinds: yaw, pitch, roll or lift, from base to tool.
        lengths_m: of the link after each joint.
        sideways_m: by how much the link after each joint is shifted along the joint's y.
        reach_m: sum of the lengths.
        bend_rad: of the tool against the last link, downwards; for arms whose joints cannot point it down.
        points_down: it has joints enough to keep its tool downwards while it moves.
        hangs: its base is above the table, upside down.
        home: joint positions with the elbow up and the tool low.
        tool: what it carries.
    """

    kinds: tuple[str, ...]
    lengths_m: tuple[float, ...]
    sideways_m: tuple[float, ...]
    reach_m: float
    bend_rad: float
    points_down: bool
    hangs: bool
    home: NDArray[np.float64]
    tool: Tool

    @property
    def slides(self) -> bool:
        """It moves up and down as a whole and turns about vertical axes only (SCARA)."""
        return "lift" in self.kinds

    @property
    def joints(self) -> list[str]:
        return [f"joint{i}" for i in range(len(self.kinds))]


def draw(rng: np.random.Generator) -> Arm:
    """Draw an arm of 3 to 7 joints and 0.55 to 1.05 m reach."""
    chain = pick(rng, _CHAINS, _CHAIN_ODDS)
    reach = rng.uniform(0.55, 1.05)
    upper, fore = rng.uniform(0.36, 0.46), rng.uniform(0.32, 0.42)
    shares = {
        "shoulder": rng.uniform(0.0, 0.1), "upper": upper, "fore": fore, "half_upper": upper / 2, "half_fore": fore / 2,
        "wrist": rng.uniform(0.08, 0.13), "hand": rng.uniform(0.06, 0.12),
    }  # fmt: skip
    raw = np.array([shares[segment] for _, segment in chain])
    kinds = tuple(kind for kind, _ in chain)
    points_down = len(kinds) >= 4
    hangs = bool(rng.random() < _HANGING_SHARE) and points_down
    bent = _MOST_BENT * reach * float(rng.random() < _BENT_SHARE)
    sideways = rng.uniform(-bent, bent, len(kinds)) * [kind != "roll" for kind in kinds]
    bend = 0.0 if points_down else (np.pi / 2 if "lift" in kinds else rng.uniform(0.3, 0.9))
    home = _home(kinds, rng) * (-1 if hangs else 1)
    return Arm(
        kinds=kinds,
        lengths_m=tuple((reach * raw / raw.sum()).tolist()),
        sideways_m=tuple(sideways.tolist()),
        reach_m=float(reach),
        bend_rad=float(bend),
        points_down=points_down,
        hangs=hangs,
        home=home,
        tool=tools.draw(rng),
    )


def build(
    spec: mujoco.MjSpec, base: Any, arm: Arm, colours: Colours, interface: Interface, rng: np.random.Generator
) -> Any:
    """Add the arm's links, joints, servos and tool below the body `base`; returns the tool's body."""
    radius = rng.uniform(0.028, 0.068) * (0.7 + 0.4 * arm.reach_m)
    taper, density = rng.uniform(0.82, 1.0), float(np.exp(rng.uniform(np.log(200), np.log(1000))))
    shape = pick(rng, (*_FORMS, "mixed"))
    servo = _Servo(rng.uniform(*_STIFFNESS), rng.uniform(*_LAGS_S))
    armature, damping = rng.uniform(0.1, 0.3), rng.uniform(1.0, 3.0)
    body, offset, aside = base, 0.0, 0.0
    for index, (kind, length) in enumerate(zip(arm.kinds, arm.lengths_m, strict=True)):
        name, limit = f"joint{index}", _RANGES[kind] * rng.uniform(_LEAST_RANGE, 1.0)
        body = body.add_body(name=f"link{index}", pos=[offset, aside, 0], gravcomp=1)
        body.add_joint(
            name=name, type=_JOINT.mjJNT_SLIDE if kind == "lift" else _JOINT.mjJNT_HINGE, axis=_AXES[kind],
            range=[-limit, limit], limited=True, armature=armature, damping=damping,
        )  # fmt: skip
        _add_housing(body, kind, radius, density, colours.draw(rng), rng)
        aside = arm.sideways_m[index]
        if length > 0.04:
            form = pick(rng, _FORMS) if shape == "mixed" else shape
            _add_link(body, form, (length, aside), radius, density, colours.draw(rng))
        servo.add(spec, name, kind == "lift", limit, interface)
        offset, radius = length, radius * taper
    return _add_tool(spec, body, arm, [offset, aside, 0], density, colours, interface, rng)


def _home(kinds: tuple[str, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Shoulder raised, elbow and wrist bent down, rolls straight: like a person over a desk."""
    bends = iter([-rng.uniform(0.6, 1.2), rng.uniform(1.3, 1.9), rng.uniform(0.5, 1.0)])
    if "lift" in kinds:
        return np.array([0.0, pick(rng, (-0.7, 0.7)), 0.0])
    return np.array([next(bends) if kind == "pitch" else 0.0 for kind in kinds])


def _add_housing(
    body: Any, kind: str, radius: float, density: float, rgba: NDArray[np.float64], rng: np.random.Generator
) -> None:
    """What sits around a joint: a ball, or a drum along its axis."""
    bulge = radius * rng.uniform(1.05, 1.45)
    if kind in ("pitch", "yaw") and rng.random() < 0.65:
        quat = ALONG_Y if kind == "pitch" else (1, 0, 0, 0)
        add_geom(body, _GEOM.mjGEOM_CYLINDER, [bulge, radius * rng.uniform(1.0, 1.6), 0], rgba, density, quat=quat)
    else:
        add_geom(body, _GEOM.mjGEOM_SPHERE, [bulge, 0, 0], rgba, density)


def _add_link(
    body: Any, form: str, end_m: tuple[float, float], radius: float, density: float, rgba: NDArray[np.float64]
) -> None:
    """From the joint to the next one, at x and y."""
    (along, aside), length = end_m, float(np.hypot(*end_m))
    middle, turn = [along / 2, aside / 2, 0], np.arctan2(aside, along) / 2
    quat = np.array([np.cos(turn), 0, 0, np.sin(turn)])
    if form == "box":
        half = [length / 2, radius * 0.85, radius * 0.85]
        add_geom(body, _GEOM.mjGEOM_BOX, half, rgba, density, pos=middle, quat=quat)
        return
    kind = _GEOM.mjGEOM_CAPSULE if form == "capsule" else _GEOM.mjGEOM_CYLINDER
    laid = np.zeros(4)
    mujoco.mju_mulQuat(laid, quat, np.array(ALONG_X))
    add_geom(body, kind, [radius, length / 2, 0], rgba, density, pos=middle, quat=laid)


@dataclass(frozen=True)
class _Servo:
    """How stiffly the joints of one arm follow their targets, and by how much they trail behind."""

    stiffness: float
    lag_s: float

    def add(self, spec: mujoco.MjSpec, joint: str, lift: bool, limit: float, interface: Interface) -> None:
        """An actuator of the joint's name that takes positions, velocities or torques."""
        servo = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        stiffness, force = (_LIFT_STIFFNESS, _LIFT_N) if lift else (self.stiffness, _TORQUE_N_M)
        if interface == "joint_position":
            servo.set_to_position(kp=stiffness, kv=stiffness * self.lag_s)
        elif interface == "joint_velocity":
            servo.set_to_velocity(kv=stiffness * self.lag_s)
            limit = _TOP_SPEEDS["lift" if lift else "hinge"]
        else:
            servo.set_to_motor()
            limit = force
        servo.forcelimited, servo.forcerange = True, [-force, force]
        servo.ctrllimited, servo.ctrlrange = True, [-limit, limit]


def _add_tool(
    spec: mujoco.MjSpec,
    body: Any,
    arm: Arm,
    where: list[float],
    density: float,
    colours: Colours,
    interface: Interface,
    rng: np.random.Generator,
) -> Any:
    """At the end of the last link; arms of few joints carry it bent down."""
    quat = [np.cos(arm.bend_rad / 2), 0, np.sin(arm.bend_rad / 2), 0]
    body = body.add_body(name=tools.TOOL_BODY, pos=where, quat=quat, gravcomp=1)
    tools.build(spec, body, arm.tool, colours.draw(rng), colours.draw_tip(rng), density, interface)
    return body
