"""A simulation behind the live Robot protocol: a real robot's stand-in, hidden faults included."""

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation
from sims.render import Renderer
from sims.simulation import Simulation


@dataclass(frozen=True)
class Truth:
    """What sets a twin apart from its model; only an evaluation may read it.

    Attributes:
        camera_shift_m: of the camera's position, (x, y, z); zero for a camera that the MJCF itself places.
        brightness: factor on every pixel.
        noise: standard deviation of pixel noise, of 255.
        latency_ticks: control ticks from a command to its effect.
        dropped: share of frames that never arrive; the one before is seen again.
    """

    camera_shift_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    brightness: float = 1.0
    noise: float = 0.0
    latency_ticks: int = 0
    dropped: float = 0.0

    @classmethod
    def draw(cls, severity: float, rng: np.random.Generator) -> "Truth":
        """At severity 1: 3 cm, ±30 %, noise of 12, three ticks, every fifth frame."""
        shift = severity * rng.uniform(-0.03, 0.03, 3)
        return cls(
            camera_shift_m=(float(shift[0]), float(shift[1]), float(shift[2])),
            brightness=float(1 + severity * rng.uniform(-0.3, 0.3)),
            noise=float(12 * severity),
            latency_ticks=round(3 * severity),
            dropped=float(0.2 * severity),
        )


class Twin:
    """The live Robot protocol over a simulation, in simulated time: `write` lets one control period pass.

    Args:
        simulation: the body; tasks reset it and evaluations read its state, controllers never touch it.
        severity: 0 (the simulation as it is) to 1.
        seed: of the hidden parameters and of the noise.

    Attributes:
        truth: the hidden parameters.
    """

    def __init__(self, simulation: Simulation, severity: float = 0.0, seed: int = 0):
        if not 0 <= severity <= 1:
            raise UserError(f"severity is {severity}", "Give a number from 0 to 1")
        self.simulation = simulation
        self._seed = seed
        self.truth = Truth.draw(severity, np.random.default_rng([seed, 0]))
        self._renderer: Renderer | None = None
        camera = simulation.embodiment.camera
        if camera.position_m is not None and any(self.truth.camera_shift_m):
            x, y, z = np.add(camera.position_m, self.truth.camera_shift_m).tolist()
            self._renderer = Renderer(simulation.model, replace(camera, position_m=(x, y, z)))
        self.reset()

    def reset(self) -> None:
        """Forget commands and frames on their way, after the simulation was put elsewhere."""
        self._rng = np.random.default_rng([self._seed, 1])
        hold_U = self.simulation.command.hold(self.simulation.reference())
        self._on_their_way = deque([hold_U] * self.truth.latency_ticks)
        self._newest: Observation | None = None

    def read(self) -> Observation:
        """Frame and proprio of now; the frame of an earlier tick, under its own time, when this one was dropped."""
        now_s = self.now()
        if self._newest is not None and self._newest.time_s == now_s:
            return self._newest
        if self._newest is not None and self._rng.random() < self.truth.dropped:
            return replace(self._newest, proprio_P=self.simulation.proprio())
        self._newest = Observation(self._picture(), self.simulation.proprio(), now_s)
        return self._newest

    def write(self, command_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take a command, let one control period pass; returns the command after the robot's own limits.

        With latency, what takes effect in this period is a command written earlier.
        """
        command = self.simulation.command
        accepted_U = np.clip(np.asarray(command_U, dtype=np.float64), command.low, command.high)
        self._on_their_way.append(accepted_U)
        self.simulation.step(self._on_their_way.popleft())
        return accepted_U

    def now(self) -> float:
        """Simulated time [s]."""
        return self.simulation.time_s

    def close(self) -> None:
        """Free the twin's own renderer; the simulation stays open."""
        if self._renderer is not None:
            self._renderer.close()

    def _picture(self) -> NDArray[np.uint8]:
        shifted = self._renderer
        frame = self.simulation.frame() if shifted is None else shifted.frame(self.simulation.data)
        if self.truth.brightness == 1.0 and not self.truth.noise:
            return frame
        light = frame * self.truth.brightness + self.truth.noise * self._rng.normal(size=frame.shape)
        return np.clip(light, 0, 255).astype(np.uint8)
