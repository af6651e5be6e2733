"""What a twin may throw at a controller: one number per axis, in shares of a stated range."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation, Robot
from sims.truth import Truth

_MOST_THINGS = 50


@dataclass(frozen=True)
class Ranges:
    """The largest disturbance along each axis; zero leaves an axis out.

    Attributes:
        exposure: logarithm of the factor of every pixel, to both sides.
        noise: standard deviation of every pixel, of 255.
        occlusion: share of the picture that something grey hides.
        camera_right_m, camera_up_m: the camera's place, along the world's y and z, to both sides.
        camera_pan_rad, camera_tilt_rad: its view, to both sides.
        zoom: logarithm of the factor of its field of view, to both sides.
        friction: logarithm of the factor of every contact's, to both sides.
        mass, gain: logarithm of the factor of every body's mass and every command's effect, to both sides.
        delay_s: from a command to its effect.
        dropped: share of frames that never arrive.
        distractors: things that swing about in the picture and that the task is not about; a part of one is none.
    """

    exposure: float = 0.7
    noise: float = 25.0
    occlusion: float = 0.15
    camera_right_m: float = 0.05
    camera_up_m: float = 0.05
    camera_pan_rad: float = 0.07
    camera_tilt_rad: float = 0.07
    zoom: float = 0.1
    friction: float = 0.7
    mass: float = 0.5
    gain: float = 0.3
    delay_s: float = 0.2
    dropped: float = 0.5
    distractors: float = 6.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise UserError(f"ranges.{field.name} is {getattr(self, field.name)}", "Give 0 or more")
        if self.occlusion > 0.9 or self.dropped > 0.95 or self.distractors > _MOST_THINGS:
            raise UserError(
                f"ranges.occlusion is over 0.9, dropped over 0.95, or distractors over {_MOST_THINGS}",
                "Leave something to be seen",
            )
        if not self.axes():
            raise UserError("every range is 0", "Give at least one axis a range")

    def axes(self) -> tuple[str, ...]:
        """The axes that are searched, in order."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name) > 0)


ONE_SIDED = ("noise", "occlusion", "delay_s", "dropped", "distractors")  # nothing lies below zero


@dataclass(frozen=True)
class Scenario:
    """A pair of start and goal, and what goes wrong in the meantime.

    Attributes:
        pair: index of the pair of start and goal.
        disturbance: axis to value, in the units of Ranges; an axis that is missing is undisturbed.
        seed: of noise and of dropped frames.
    """

    pair: int
    disturbance: dict[str, float]
    seed: int = 0

    @classmethod
    def at(cls, pair: int, point_A: NDArray[np.float64], ranges: Ranges, seed: int) -> "Scenario":
        """From a point in [-1, 1] per axis of `ranges`; axes with one side take its lower half as nothing."""
        axes = ranges.axes()
        shares = {a: max(0.0, float(x)) if a in ONE_SIDED else float(x) for a, x in zip(axes, point_A, strict=True)}
        return cls(pair, {a: share * getattr(ranges, a) for a, share in shares.items() if share}, seed)

    def truth(self, num_bodies: int, num_commands: int) -> Truth:
        """The twin's hidden parameters."""
        got = self.disturbance.get
        return Truth(
            mass=(float(np.exp(got("mass", 0.0))),) * num_bodies if got("mass") else (),
            friction=float(np.exp(got("friction", 0.0))),
            gain=(float(np.exp(got("gain", 0.0))),) * num_commands if got("gain") else (),
            delay_s=got("delay_s", 0.0),
            dropped=got("dropped", 0.0),
            camera_shift_m=(0.0, got("camera_right_m", 0.0), got("camera_up_m", 0.0)),
            camera_turn_rad=(got("camera_tilt_rad", 0.0), got("camera_pan_rad", 0.0), 0.0),
            fovy=float(np.exp(got("zoom", 0.0))),
            exposure=float(np.exp(got("exposure", 0.0))),
            noise=got("noise", 0.0),
            distractors=int(got("distractors", 0.0)),
        )


class Occluded:
    """A robot with something grey before its camera: a square, at a place that follows from the seed."""

    def __init__(self, robot: Any, share: float, seed: int):
        self._robot: Robot = robot
        self._share, self._at = share, np.random.default_rng([seed, 7]).uniform(size=2)
        self.reset = robot.reset

    def read(self) -> Observation:
        """What the robot sees, less what is hidden."""
        seen = self._robot.read()
        frame_YXC = seen.frame_YXC.copy()
        height, width = frame_YXC.shape[:2]
        tall, wide = (round(size * self._share**0.5) for size in (height, width))
        top, left = (
            int(at * (size - part)) for at, size, part in zip(self._at, (height, width), (tall, wide), strict=True)
        )
        frame_YXC[top : top + tall, left : left + wide] = 110
        return Observation(frame_YXC, seen.proprio_P, seen.time_s)

    def write(self, command_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """As the robot itself."""
        return self._robot.write(command_U)

    def now(self) -> float:
        """As the robot itself."""
        return self._robot.now()
