"""A simulation behind the live Robot protocol: a real robot's stand-in, hidden faults included."""

import time
from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.robot import Observation
from sims.simulation import Simulation
from sims.truth import Hidden, Truth, has_actuators

_EPSILON_S = 1e-9


class Twin:
    """The live Robot protocol over a simulation that is not quite what its model says.

    The twin's body is the simulation's: hidden masses, frictions and gains are written into its model, and its camera
    is moved, so that tasks, judges and oracles that use the simulation meet the truth. Delays, backlash and what is
    wrong with pictures act between the protocol and the simulation. Without severity all of it is the simulation.

    In simulated time `write` lets one control period pass. In wall-clock time periods pass as they do in the world,
    whether or not anyone writes, and the last command stays in force.

    Args:
        simulation: the body; tasks reset it and evaluations read its state, controllers never touch it.
        severity: 0 (the simulation as it is) to 1.
        seed: of the hidden parameters and of the noise.
        preset: which faults there are, see `truth.PRESETS`.
        truth: given faults instead of drawn ones.
        wall_clock: time passes by itself.

    Attributes:
        truth: the hidden parameters.
    """

    def __init__(
        self,
        simulation: Simulation,
        severity: float = 0.0,
        seed: int = 0,
        preset: str = "all",
        truth: Truth | None = None,
        wall_clock: bool = False,
    ):
        self.simulation = simulation
        self._seed, self._wall_clock = seed, wall_clock
        self.truth = Truth.draw(simulation, severity, seed, preset) if truth is None else truth
        self._hidden = Hidden(simulation, self.truth, seed) if self.truth != Truth() else None
        self._period_s = 1 / simulation.command.control_rate_hz
        self.reset()

    def reset(self) -> None:
        """Forget commands and frames on their way, after the simulation was put elsewhere."""
        self._rng = np.random.default_rng([self._seed, 1])
        self._in_force_U = self.simulation.command.hold(self.simulation.reference())
        self._drive = _Drive(self.simulation, self.truth, self._in_force_U)
        self._on_their_way: deque[tuple[float, NDArray[np.float64]]] = deque()  # when each takes effect [s]
        self._newest: Observation | None = None
        self._epoch_s = time.monotonic() - self.simulation.time_s

    def read(self) -> Observation:
        """Frame and proprio of now; the frame of an earlier tick, under its own time, when this one was dropped."""
        self._catch_up()
        now_s = self.simulation.time_s
        if self._newest is not None and self._newest.time_s == now_s:
            return self._newest
        if self._newest is not None and self._rng.random() < self.truth.dropped:
            return replace(self._newest, proprio_P=self.simulation.proprio())
        self._newest = Observation(self._picture(), self.simulation.proprio(), now_s)
        return self._newest

    def write(self, command_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take a command; in simulated time one control period passes. Returns it after the robot's own limits.

        With a delay, what takes effect in this period was written earlier.
        """
        self._catch_up()
        command = self.simulation.command
        accepted_U = np.clip(np.asarray(command_U, dtype=np.float64), command.low, command.high)
        due_s = self.now() + self.truth.delay_s
        if self.truth.jitter_s:
            due_s += self.truth.jitter_s * self._rng.random()
        if self._on_their_way:
            due_s = max(due_s, self._on_their_way[-1][0])
        self._on_their_way.append((due_s, accepted_U))
        if not self._wall_clock:
            self._pass_period()
        return accepted_U.copy()

    def now(self) -> float:
        """Seconds of simulated time, or on the wall's clock since the start."""
        return time.monotonic() - self._epoch_s if self._wall_clock else self.simulation.time_s

    def close(self) -> None:
        """Take the hidden faults out of the simulation; it stays open."""
        if self._hidden is not None:
            self._hidden.remove()
            self._hidden = None

    def _catch_up(self) -> None:
        """Let the whole periods pass that have gone by on the wall's clock."""
        while self._wall_clock and self.now() >= self.simulation.time_s + self._period_s:
            self._pass_period()

    def _pass_period(self) -> None:
        """One control period; of the commands due in it the last one counts, from when it is due."""
        start_s, substeps, late = self.simulation.time_s, self.simulation.substeps, 0
        while self._on_their_way:
            late_now = round((self._on_their_way[0][0] - start_s - _EPSILON_S) / self._period_s * substeps)
            if late_now >= substeps:
                break
            late, (_, self._in_force_U) = max(late_now, 0), self._on_their_way.popleft()
        self.simulation.step(self._drive.effect(self._in_force_U), late=late)

    def _picture(self) -> NDArray[np.uint8]:
        frame = self.simulation.frame()
        if self.truth.exposure == 1.0 and not self.truth.noise:
            return frame
        light = frame * self.truth.exposure + self.truth.noise * self._rng.normal(size=frame.shape)
        return np.clip(light, 0, 255).astype(np.uint8)


class _Drive:
    """What gears make of a command: play, and the gain of a drive that has no actuator in the model."""

    def __init__(self, simulation: Simulation, truth: Truth, start_U: NDArray[np.float64]):
        command = simulation.command
        self._low, self._high = np.asarray(command.low), np.asarray(command.high)
        self._gain = np.ones(command.dim) if has_actuators(simulation) or not truth.gain else np.asarray(truth.gain)
        self._half_U = np.asarray(truth.backlash) / 2 if truth.backlash else np.zeros(command.dim)
        torque = command.interface == "joint_torque"
        self._rate_hz = None if command.is_position else command.control_rate_hz
        self._plays = bool(self._half_U.any()) and not torque  # a torque has no position that could be lost
        self._motor_U = start_U.copy() if command.is_position else np.zeros(command.dim)
        self._joint_U = self._motor_U.copy()

    def effect(self, command_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """The command that the body obeys, asked for once per control period."""
        effect_U = command_U
        if self._plays:
            self._motor_U = command_U if self._rate_hz is None else self._motor_U + command_U / self._rate_hz
            before_U = self._joint_U
            self._joint_U = np.clip(before_U, self._motor_U - self._half_U, self._motor_U + self._half_U)
            effect_U = self._joint_U if self._rate_hz is None else (self._joint_U - before_U) * self._rate_hz
        return np.clip(effect_U * self._gain, self._low, self._high)
