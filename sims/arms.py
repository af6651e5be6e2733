"""Procedural arms: kinematics, shapes and tools drawn at random, built as MjSpec.

At zero every arm lies stretched along its own x axis: yaw turns about z, pitch about y (positive bends down), roll
about x. The tool points along x of the last link.
"""

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from sims.looks import Colours

HAND_SITE = "hand"
ARM_GROUP = 2  # contacts with objects only: links may not jam against table or each other
_HALF = float(np.sqrt(0.5))
_ALONG_X, _ALONG_Y = (_HALF, 0.0, _HALF, 0.0), (_HALF, _HALF, 0.0, 0.0)  # rotations that lay a z-cylinder along x, y
_GEOM, _JOINT = mujoco.mjtGeom, mujoco.mjtJoint
_AXES = {"yaw": (0, 0, 1), "pitch": (0, 1, 0), "roll": (1, 0, 0), "lift": (0, 0, 1)}
_RANGES = {"yaw": (-2.8, 2.8), "pitch": (-2.4, 2.4), "roll": (-2.9, 2.9), "lift": (-0.35, 0.35)}
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


@dataclass(frozen=True)
class Arm:
    """A drawn arm.

    Attributes:
        kinds: yaw, pitch, roll or lift, from base to tool.
        lengths_m: of the link after each joint.
        reach_m: sum of the lengths.
        points_down: it has joints enough to keep its tool downwards while it moves.
        home: joint positions with the elbow up and the tool low.
    """

    kinds: tuple[str, ...]
    lengths_m: tuple[float, ...]
    reach_m: float
    points_down: bool
    home: NDArray[np.float64]

    @property
    def slides(self) -> bool:
        """It moves up and down as a whole and turns about vertical axes only (SCARA)."""
        return "lift" in self.kinds

    @property
    def joints(self) -> list[str]:
        return [f"joint{i}" for i in range(len(self.kinds))]


def draw(rng: np.random.Generator) -> Arm:
    """Draw an arm of 3 to 7 joints and 0.55 to 1.05 m reach."""
    chain = _CHAINS[rng.choice(len(_CHAINS), p=_CHAIN_ODDS)]
    reach = rng.uniform(0.55, 1.05)
    upper, fore = rng.uniform(0.36, 0.46), rng.uniform(0.32, 0.42)
    shares = {
        "shoulder": rng.uniform(0.0, 0.1), "upper": upper, "fore": fore, "half_upper": upper / 2, "half_fore": fore / 2,
        "wrist": rng.uniform(0.08, 0.13), "hand": rng.uniform(0.06, 0.12),
    }  # fmt: skip
    raw = np.array([shares[segment] for _, segment in chain])
    lengths = reach * raw / raw.sum()
    kinds = tuple(kind for kind, _ in chain)
    return Arm(kinds, tuple(lengths.tolist()), float(reach), len(kinds) >= 4, _home(kinds, rng))


def build(spec: mujoco.MjSpec, base: Any, arm: Arm, colours: Colours, rng: np.random.Generator) -> None:
    """Add the arm's links, joints, tool, hand site and position servos below the body `base`."""
    radius = rng.uniform(0.028, 0.068) * (0.7 + 0.4 * arm.reach_m)
    taper = rng.uniform(0.82, 1.0)
    shape = rng.choice(["capsule", "cylinder", "box", "mixed"])
    body, offset = base, 0.0
    for index, (kind, length) in enumerate(zip(arm.kinds, arm.lengths_m, strict=True)):
        body = body.add_body(name=f"link{index}", pos=[offset, 0, 0], gravcomp=1)
        body.add_joint(
            name=f"joint{index}", type=_JOINT.mjJNT_SLIDE if kind == "lift" else _JOINT.mjJNT_HINGE, axis=_AXES[kind],
            range=_RANGES[kind], limited=True, armature=0.2, damping=2.0,
        )  # fmt: skip
        _add_housing(body, kind, radius, colours.draw(rng), rng)
        if length > 0.04:
            form = rng.choice(["capsule", "cylinder", "box"]) if shape == "mixed" else shape
            _add_link(body, form, length, radius, colours.draw(rng))
        _add_servo(spec, f"joint{index}", lift=kind == "lift")
        offset, radius = length, radius * taper
    _add_tool(body, arm, offset, radius, colours, rng)


def _home(kinds: tuple[str, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Shoulder raised, elbow and wrist bent down, rolls straight: like a person over a desk."""
    bends = iter([-rng.uniform(0.6, 1.2), rng.uniform(1.3, 1.9), rng.uniform(0.5, 1.0)])
    if "lift" in kinds:
        return np.array([0.0, rng.choice([-0.7, 0.7]), 0.0])
    return np.array([next(bends) if kind == "pitch" else 0.0 for kind in kinds])


def _add_housing(body: Any, kind: str, radius: float, rgba: NDArray[np.float64], rng: np.random.Generator) -> None:
    """What sits around a joint: a ball, or a drum along its axis."""
    bulge = radius * rng.uniform(1.05, 1.45)
    if kind in ("pitch", "yaw") and rng.random() < 0.65:
        quat = _ALONG_Y if kind == "pitch" else [1, 0, 0, 0]
        _add_geom(body, _GEOM.mjGEOM_CYLINDER, [bulge, radius * rng.uniform(1.0, 1.6), 0], rgba, quat=quat)
    else:
        _add_geom(body, _GEOM.mjGEOM_SPHERE, [bulge, 0, 0], rgba)


def _add_link(body: Any, form: str, length: float, radius: float, rgba: NDArray[np.float64]) -> None:
    middle = [length / 2, 0, 0]
    if form == "box":
        _add_geom(body, _GEOM.mjGEOM_BOX, [length / 2, radius * 0.85, radius * 0.85], rgba, pos=middle)
        return
    kind = _GEOM.mjGEOM_CAPSULE if form == "capsule" else _GEOM.mjGEOM_CYLINDER
    _add_geom(body, kind, [radius, length / 2, 0], rgba, pos=middle, quat=_ALONG_X)


def _add_servo(spec: mujoco.MjSpec, joint: str, lift: bool) -> None:
    servo = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    servo.set_to_position(kp=4000.0 if lift else 500.0, kv=600.0 if lift else 60.0)
    servo.forcelimited, servo.forcerange = True, [-900, 900] if lift else [-150, 150]
    servo.ctrllimited, servo.ctrlrange = True, _RANGES["lift"] if lift else [-2.9, 2.9]


def _add_tool(body: Any, arm: Arm, offset: float, radius: float, colours: Colours, rng: np.random.Generator) -> None:
    """A stick, a two-finger gripper, a paddle or a ball; short arms of few joints carry it bent down."""
    bend = 0.0 if arm.points_down else (np.pi / 2 if arm.slides else rng.uniform(0.3, 0.9))
    quat = [np.cos(bend / 2), 0, np.sin(bend / 2), 0]
    tool = body.add_body(name="tool", pos=[offset, 0, 0], quat=quat, gravcomp=1)
    kind, size = rng.choice(list(_TOOLS), p=[0.5, 0.25, 0.15, 0.1]), rng.uniform(0.75, 1.6)
    length = _TOOLS[kind](tool, size, colours.draw(rng), colours.draw_tip(rng))
    tool.add_site(name=HAND_SITE, pos=[length * 0.85, 0, 0], rgba=[0, 0, 0, 0], size=[0.001] * 3)


def _add_gripper(tool: Any, size: float, main: NDArray[np.float64], tip: NDArray[np.float64]) -> float:
    palm, finger, gap = np.array([0.03, 0.035, 0.028]) * size, 0.026 * size, 0.018 * size
    _add_geom(tool, _GEOM.mjGEOM_BOX, palm, main, pos=[palm[0], 0, 0])
    for side in (-1, 1):
        where = [2 * palm[0] + finger, side * gap, 0]
        _add_geom(tool, _GEOM.mjGEOM_BOX, [finger, 0.007 * size, 0.012 * size], tip, pos=where)
    return 2 * palm[0] + 2 * finger


def _add_stick(tool: Any, size: float, main: NDArray[np.float64], tip: NDArray[np.float64]) -> float:
    length = 0.1 * size
    shaft = [0.014 * size, length / 2, 0]
    _add_geom(tool, _GEOM.mjGEOM_CYLINDER, shaft, main, pos=[length / 2, 0, 0], quat=_ALONG_X)
    _add_geom(tool, _GEOM.mjGEOM_SPHERE, [0.02 * size, 0, 0], tip, pos=[length, 0, 0])
    return length


def _add_paddle(tool: Any, size: float, main: NDArray[np.float64], tip: NDArray[np.float64]) -> float:
    length = 0.1 * size
    _add_geom(tool, _GEOM.mjGEOM_BOX, [length / 2, 0.04 * size, 0.009], main, pos=[length / 2, 0, 0])
    return length


def _add_ball(tool: Any, size: float, main: NDArray[np.float64], tip: NDArray[np.float64]) -> float:
    length = 0.06 * size
    _add_geom(tool, _GEOM.mjGEOM_SPHERE, [length / 2, 0, 0], tip, pos=[length / 2, 0, 0])
    return length


_TOOLS = {"gripper": _add_gripper, "stick": _add_stick, "paddle": _add_paddle, "ball": _add_ball}


def _add_geom(
    body: Any,
    kind: mujoco.mjtGeom,
    size: Any,
    rgba: NDArray[np.float64],
    pos: Any = (0, 0, 0),
    quat: Any = (1, 0, 0, 0),
) -> None:
    body.add_geom(
        type=kind, size=size, pos=pos, quat=quat, rgba=rgba, density=400, contype=ARM_GROUP, conaffinity=0
    )  # fmt: skip
