"""What an arm carries at its end: pushers of three kinds, and a gripper whose two fingers open and close."""

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.embodiment import Interface
from sims.looks import pick

HAND_SITE = "hand"
TOOL_BODY = "tool"
GRIPPER = "gripper"  # also the name of its actuator: 0 is closed
ARM_GROUP = 2  # contacts with objects only: links may not jam against table or each other
HALF = float(np.sqrt(0.5))
ALONG_X, ALONG_Y = (HALF, 0.0, HALF, 0.0), (HALF, HALF, 0.0, 0.0)  # rotations that lay a z-cylinder along x, y
_GEOM, _JOINT = mujoco.mjtGeom, mujoco.mjtJoint
_KINDS, _ODDS = ("gripper", "stick", "paddle", "ball"), (0.5, 0.25, 0.15, 0.1)
_FINGERS = ("finger_left", "finger_right")
_PALM, _FINGER = np.array([0.03, 0.035, 0.028]), np.array([0.026, 0.007, 0.012])  # half sizes at size 1 [m]
_TRAVEL_M = 0.028  # of each finger, at size 1
_FINGER_FRICTION = (1.2, 0.02, 0.001)


@dataclass(frozen=True)
class Tool:
    """A drawn tool.

    Attributes:
        kind: gripper, stick, paddle or ball.
        size: factor on its lengths.
    """

    kind: str
    size: float

    @property
    def length_m(self) -> float:
        """From where it is mounted to its tip."""
        return self.size * {"gripper": 2 * float(_PALM[0] + _FINGER[0]), "ball": 0.06}.get(self.kind, 0.1)

    @property
    def hand_m(self) -> float:
        """From where it is mounted to the hand site."""
        return 0.85 * self.length_m

    @property
    def opening_m(self) -> float:
        """Between the fingers of an open gripper; 0 for a pusher."""
        return 2 * _TRAVEL_M * self.size if self.kind == GRIPPER else 0.0


def draw(rng: np.random.Generator) -> Tool:
    """A gripper every other time."""
    return Tool(pick(rng, _KINDS, _ODDS), float(rng.uniform(0.75, 1.6)))


def build(
    spec: mujoco.MjSpec,
    body: Any,
    tool: Tool,
    main: NDArray[np.float64],
    tip: NDArray[np.float64],
    density: float,
    interface: Interface,
) -> None:
    """Add the tool's shapes, its hand site and its fingers, which take the same kind of command as the arm."""
    size, length = tool.size, tool.length_m
    if tool.kind == GRIPPER:
        palm = _PALM * size
        add_geom(body, _GEOM.mjGEOM_BOX, palm, main, density, pos=[palm[0], 0, 0])
        _add_fingers(spec, body, size, tip, density, interface)
    elif tool.kind == "stick":
        shaft = [0.014 * size, length / 2, 0]
        add_geom(body, _GEOM.mjGEOM_CYLINDER, shaft, main, density, pos=[length / 2, 0, 0], quat=ALONG_X)
        add_geom(body, _GEOM.mjGEOM_SPHERE, [0.02 * size, 0, 0], tip, density, pos=[length, 0, 0])
    elif tool.kind == "paddle":
        half = [length / 2, 0.04 * size, 0.009]
        add_geom(body, _GEOM.mjGEOM_BOX, half, main, density, pos=[length / 2, 0, 0])
    else:
        add_geom(body, _GEOM.mjGEOM_SPHERE, [length / 2, 0, 0], tip, density, pos=[length / 2, 0, 0])
    body.add_site(name=HAND_SITE, pos=[tool.hand_m, 0, 0], rgba=[0, 0, 0, 0], size=[0.001] * 3)


def _add_fingers(
    spec: mujoco.MjSpec, body: Any, size: float, rgba: NDArray[np.float64], density: float, interface: Interface
) -> None:
    """Two fingers that slide apart as one: the left is driven, the right mirrors it."""
    half, travel = _FINGER * size, _TRAVEL_M * size
    for name, side in zip(_FINGERS, (1, -1), strict=True):
        where = [2 * _PALM[0] * size + half[0], side * half[1], 0]
        finger = body.add_body(name=name, pos=where, gravcomp=1)
        finger.add_joint(
            name=name, type=_JOINT.mjJNT_SLIDE, axis=[0, side, 0], range=[0, travel], limited=True, armature=0.1,
            damping=10,
        )  # fmt: skip
        add_geom(finger, _GEOM.mjGEOM_BOX, half, rgba, density, friction=_FINGER_FRICTION, condim=4)
    mirror = spec.add_equality(type=mujoco.mjtEq.mjEQ_JOINT, name1=_FINGERS[1], name2=_FINGERS[0])
    mirror.data[:5], mirror.solref, mirror.solimp[:2] = [0, 1, 0, 0, 0], [0.01, 1], [0.99, 0.999]
    servo = spec.add_actuator(name=GRIPPER, target=_FINGERS[0], trntype=mujoco.mjtTrn.mjTRN_JOINT)
    if interface == "joint_position":
        servo.set_to_position(kp=800.0, kv=60.0)
        low, high = 0.0, travel
    elif interface == "joint_velocity":
        servo.set_to_velocity(kv=200.0)
        low, high = -0.1, 0.1
    else:
        servo.set_to_motor()
        low, high = -20.0, 20.0
    servo.forcelimited, servo.forcerange = True, [-20, 20]
    servo.ctrllimited, servo.ctrlrange = True, [low, high]


def add_geom(
    body: Any,
    kind: mujoco.mjtGeom,
    size: Any,
    rgba: NDArray[np.float64],
    density: float,
    pos: Any = (0, 0, 0),
    quat: Any = (1, 0, 0, 0),
    friction: tuple[float, float, float] = (1.0, 0.005, 0.0001),
    condim: int = 3,
) -> None:
    """A part of the arm: it touches objects, nothing else."""
    body.add_geom(
        type=kind, size=size, pos=pos, quat=quat, rgba=rgba, density=density, contype=ARM_GROUP, conaffinity=0,
        friction=friction, condim=condim,
    )  # fmt: skip
