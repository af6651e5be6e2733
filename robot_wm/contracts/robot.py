"""The live robot: three methods that a driver, a twin and a replay all implement."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Observation:
    """What a robot measures at one instant.

    Attributes:
        frame_YXC: RGB image, uint8.
        proprio_P: what the robot measures of itself [rad, rad/s or m, m/s], float32.
        time_s: when the frame was taken, on the robot's own clock.
        proprio_time_s: when proprio was measured, on the same clock; None: as it was read.
    """

    frame_YXC: NDArray[np.uint8]
    proprio_P: NDArray[np.float32]
    time_s: float
    proprio_time_s: float | None = None


class Robot(Protocol):
    """One control period passes from one `write` to the next."""

    def read(self) -> Observation:
        """The newest observation; never blocks for longer than one control period."""
        ...

    def write(self, command_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """Send one command [the embodiment's unit]; returns what was really sent after the robot's own limits."""
        ...

    def now(self) -> float:
        """The robot's clock [s]: wall time for hardware, simulated time for a twin."""
        ...


@runtime_checkable
class Releasable(Protocol):
    """A robot whose motors can be switched off."""

    def release(self) -> None:
        """Take the torque off every motor: whatever the robot holds or carries falls."""
        ...
