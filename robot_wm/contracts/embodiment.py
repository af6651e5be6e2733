"""A robot body as data: what one yaml says, and the command space that follows from it and the MJCF."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.config import to_mapping
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.safety import Safety as Safety

_FIRST_LIMITS = ("max_step", "margin", "max_frame_age_s", "max_overruns")
_FORMER_LIMITS = {"max_surprise": (2.0, 2.4)}  # what calibrations of earlier versions wrote down unasked
Interface = Literal["joint_position", "joint_velocity", "joint_torque", "end_effector_velocity"]
LONGEST_DELAY_S = 1.0  # what is slower than this cannot be controlled in closed loop


@dataclass(frozen=True)
class Servos:
    """A servo for every hinge and slide joint, instead of whatever actuators the model file has or lacks.

    Each joint's gains follow from the inertia that it moves in the start pose, so that one pair of numbers suits a hand
    and a humanoid. Gravity is compensated unless the base floats, as robots' own controllers do.

    Attributes:
        frequency_hz: of a joint on its position servo.
        damping_ratio: 1 is critical.
        top_speed: largest command of a velocity interface [rad/s or m/s].
    """

    frequency_hz: float = 6.0
    damping_ratio: float = 1.0
    top_speed: float = 2.0

    def __post_init__(self) -> None:
        if not min(self.frequency_hz, self.damping_ratio, self.top_speed) > 0:
            raise UserError(f"mjcf.servos is {self}", "All of its values must be positive")


@dataclass(frozen=True)
class Site:
    """A named point fixed to a body, in that body's frame."""

    body: str
    position_m: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Mjcf:
    """Where the model file (MJCF or URDF) is, and what to change in it to have a body that can be commanded and seen.

    Attributes:
        path: of the file; inside `package` when that is given.
        package: an installed Python package that carries the file. Two names stand for more: `mujoco_menagerie`, whose
            robots live under MENAGERIE_ROOT or in that package's cache, and `procedural`, whose path is a seed.
        keep: bodies of the world to keep, each with all that hangs on it; empty keeps all.
        fixed_base: a floating base stays where it starts.
        servos: see there; None keeps the file's own actuators.
        sites: points to add, by name: what the end effector may be.
        room: add a floor below the body and a light where the file has none.
    """

    path: str
    package: str | None = None
    keep: tuple[str, ...] = ()
    fixed_base: bool = False
    servos: Servos | None = None
    sites: dict[str, Site] = field(default_factory=dict)
    room: bool = False


@dataclass(frozen=True)
class Camera:
    """A camera of the MJCF (by `name` alone), or one placed in the world by `position_m` and `target_m`.

    Attributes:
        name: of the camera; datasets of the body call its pictures `observation.images.NAME`.
        height, width: of its pictures as the model gets them [px].
        position_m: where it stands in the world; left out, the MJCF's camera of that name is used.
        target_m: what it looks at.
        fovy_deg: vertical field of view.
    """

    name: str
    height: int = 96
    width: int = 96
    position_m: tuple[float, float, float] | None = None
    target_m: tuple[float, float, float] | None = None
    fovy_deg: float = 45.0

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1 or not 0 < self.fovy_deg < 180:
            raise UserError(
                f"camera {self.name}: {self.width} x {self.height} px, fovy_deg {self.fovy_deg}",
                "Give a positive height and width, and an angle between 0 and 180",
            )


@dataclass(frozen=True)
class Embodiment:
    """One robot body. What the MJCF knows (joint names, ranges, actuator limits, timestep) is read from there.

    Attributes:
        name: also the name of the yaml.
        mjcf: the model file.
        interface: what a command means.
        end_effector: site or body of the MJCF whose place a reach task judges.
        camera: the camera that the model sees through.
        control_rate_hz: commands per second.
        frame_skip: commands per model step (one command chunk).
        safety: limits beyond the MJCF's.
        actuators: commanded actuators in order; empty means all of the MJCF's.
        home: proprio-independent start: joint positions of the actuated joints [rad or m]; empty means the MJCF's.
        max_speed_m_s: command range of an end-effector interface.
        environment: a gymnasium environment id that simulates this body, where one exists.
        identifiable: MuJoCo parameters that calibration may move, each with (low, high) as factors of the MJCF's value.
        object: a body of the MJCF with a free joint, which tasks push or grasp.
        gripper: the actuator that opens and closes one.
        second_hand: site or body that a whole-body reach brings to a place of its own, beside the end effector.
        delay_s: from a command to the first frame that shows its effect. Calibration takes it out of a log, so that
            the model knows of no delay; the runtime allows for it.
    """

    name: str
    mjcf: Mjcf
    interface: Interface
    end_effector: str
    camera: Camera
    control_rate_hz: float
    frame_skip: int
    safety: Safety
    actuators: tuple[str, ...] = ()
    home: tuple[float, ...] = ()
    max_speed_m_s: float = 0.0
    environment: str | None = None
    identifiable: dict[str, tuple[float, float]] = field(default_factory=dict)
    object: str | None = None
    gripper: str | None = None
    second_hand: str | None = None
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("control_rate_hz", self.control_rate_hz), ("frame_skip", self.frame_skip)):
            if not value > 0:
                raise UserError(f"embodiment {self.name}: {name} is {value}", "It must be positive")
        if self.interface == "end_effector_velocity" and not self.max_speed_m_s > 0:
            raise UserError(f"embodiment {self.name}: max_speed_m_s is {self.max_speed_m_s}", "Give the top speed")
        if not 0 <= self.delay_s <= LONGEST_DELAY_S:
            raise UserError(
                f"embodiment {self.name}: delay_s is {self.delay_s}",
                f"Give the seconds from a command to the frame that shows its effect, 0 to {LONGEST_DELAY_S:g}",
            )
        for name, (low, high) in self.identifiable.items():
            if not 0 <= low < high:
                raise UserError(
                    f"embodiment {self.name}: identifiable.{name} is [{low}, {high}]",
                    "Give [low, high] with 0 <= low < high",
                )

    @property
    def step_s(self) -> float:
        """Duration of one model step [s]."""
        return self.frame_skip / self.control_rate_hz

    def digest(self) -> str:
        """SHA-256 of the embodiment's values: a checkpoint of another body is recognised by it.

        The MJCF counts by its path here, because not everyone who reads an embodiment can see the file. Its content
        counts where a stage simulates the body: there the file is an input of the run. Changes to it that are not
        asked for do not count either, so that a body keeps its digest when a version brings new ones; nor does its
        delay, which calibration measures and a bundle carries along, nor what only tasks are about.
        """
        apart = ("object", "gripper", "second_hand", "delay_s")
        values = {k: v for k, v in to_mapping(self).items() if k not in apart}
        new = Safety(self.safety.max_step)  # a limit that came with a later version counts once it is asked for
        unasked = {k: (getattr(new, k), *_FORMER_LIMITS.get(k, ())) for k in values["safety"]}
        values["safety"] = {k: v for k, v in values["safety"].items() if k in _FIRST_LIMITS or v not in unasked[k]}
        values["mjcf"] = {k: v for k, v in values["mjcf"].items() if v or k in ("path", "package")}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class CommandSpace:
    """Which commands a body takes, resolved from embodiment and MJCF.

    A planner works on a normalised plan `v` in [-1, 1]. For rate interfaces (velocity, torque) `v` spans the range of
    the command. For `joint_position` it spans the change of the target per control tick, so that targets move no
    faster than `max_step`; both directions of the map need the command sent before (`reference`).

    Attributes:
        interface: what a command means.
        names: one per command dimension, in order.
        unit: unit of the command.
        low, high: limits, the safety margin already taken off.
        max_step: largest change between two control ticks, per dimension.
        frame_skip: commands per chunk.
        control_rate_hz: commands per second.
        joints: which joint each of them moves, where actuators have names of their own; empty: that of the same name.
    """

    interface: Interface
    names: tuple[str, ...]
    unit: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    max_step: tuple[float, ...]
    frame_skip: int
    control_rate_hz: float
    joints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sizes = {len(self.names), len(self.low), len(self.high), len(self.max_step), len(self.joints or self.names)}
        if len(sizes) != 1 or not self.names:
            raise UserError(f"command space has lists of {sorted(sizes)} entries", "Give one entry per command")
        if not all(lo < hi for lo, hi in zip(self.low, self.high, strict=True)):
            raise UserError(f"command limits are {self.low} to {self.high}", "Every low must be below its high")
        if not all(step > 0 for step in self.max_step):
            raise UserError(f"command max_step is {self.max_step}", "Every step must be positive")
        if not self.control_rate_hz > 0 or not self.frame_skip > 0:
            raise UserError(
                f"command space: control_rate_hz is {self.control_rate_hz}, frame_skip {self.frame_skip}",
                "Both must be positive",
            )

    @property
    def dim(self) -> int:
        return len(self.names)

    @property
    def moved(self) -> tuple[str, ...]:
        """The joint that each command moves, by the name that proprio has for it."""
        return self.joints or self.names

    @property
    def is_position(self) -> bool:
        return self.interface == "joint_position"

    def hold(self, reference_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """The command that stays in place: the last target for positions, zero (within limits) for rates."""
        rest = reference_U if self.is_position else np.zeros(self.dim)
        return np.clip(rest, self.low, self.high)

    def normalize(self, chunk_KU: NDArray[np.float64], reference_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """Commands in physical units to plan units, (K, U) to (K, U); `reference_U` was sent just before the chunk."""
        if self.is_position:
            return np.diff(np.vstack([reference_U, chunk_KU]), axis=0) / np.asarray(self.max_step)
        low, high = np.asarray(self.low), np.asarray(self.high)
        return (chunk_KU - (low + high) / 2) / ((high - low) / 2)

    def denormalize(self, plan_KU: NDArray[np.float64], reference_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """Plan units to commands within the limits, (K, U) to (K, U): the inverse of normalize inside the limits."""
        low, high = np.asarray(self.low), np.asarray(self.high)
        if not self.is_position:
            return np.clip((low + high) / 2 + plan_KU * (high - low) / 2, low, high)
        return np.clip(reference_U + np.cumsum(plan_KU * np.asarray(self.max_step), axis=0), low, high)
