"""The live robot: three methods that a driver, a twin and a replay all implement."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Observation:
    """What a robot measures at one instant.

    Attributes:
        frame_YXC: RGB image, uint8.
        proprio_P: what the robot measures of itself [rad, rad/s or m, m/s], float32.
        time_s: when the frame was taken, on the robot's own clock.
    """

    frame_YXC: NDArray[np.uint8]
    proprio_P: NDArray[np.float32]
    time_s: float


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
