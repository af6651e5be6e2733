"""Which motion tells most about the wanted parameters, safely, and how surely: known before anything moves."""

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.stats import t as student

from calibration import parameters as moved
from calibration.open_loop import OpenLoop
from calibration.parameters import Parameter
from calibration.signals import Array, Log
from robot_wm import console
from robot_wm.contracts.errors import UserError

_FADE_S, _REST_S, _SETTLE_S = 0.5, 0.25, 1.0
_SHRINK, _TRIES = 0.75, 8
_STEP = 1e-5  # of the finite differences, in units of each parameter's scale


@dataclass(frozen=True)
class Limits:
    """What a planned motion must keep to, per joint.

    Attributes:
        low, high: of the command; the planned one stays away from both by `margin` of the range.
        speed: largest rate of the command [per second].
        margin: share of the range kept free at both ends, for commands and for simulated positions.
    """

    low: Array
    high: Array
    speed: Array
    margin: float = 0.08

    @property
    def inner(self) -> tuple[Array, Array]:
        spare = self.margin * (self.high - self.low)
        return self.low + spare, self.high - spare


@dataclass(frozen=True)
class ExcitationConfig:
    """The family searched, and how hard.

    Attributes:
        duration_s: of the motion, from rest to rest.
        harmonics: of the Fourier series per joint.
        highest_hz: of its highest harmonic.
        candidates: drawn at random; the best is refined by as many mutations.
        noise_rad: expected noise of the encoders, for the predicted intervals.
    """

    duration_s: float = 8.0
    harmonics: int = 5
    highest_hz: float = 2.0
    candidates: int = 24
    noise_rad: float = 1e-3


@dataclass(frozen=True)
class Excitation:
    """A planned motion.

    Attributes:
        time_s, command_NU: at the control rate.
        position_NJ: as simulated with the MJCF's values.
        interval_P: predicted half-width of each parameter's 95 % interval, in its unit.
        information: log-determinant of the Fisher information over scaled parameters.
        random_information: that of the median candidate, drawn at random under the same limits.
        refused: candidates that could not be made safe.
    """

    time_s: Array
    command_NU: Array
    position_NJ: Array
    parameters: tuple[Parameter, ...]
    interval_P: Array
    information: float
    random_information: float
    refused: int


def plan(
    spec: mujoco.MjSpec,
    joints: Sequence[str],
    actuators: Sequence[str],
    parameters: Sequence[Parameter],
    home_U: Array,
    limits: Limits,
    rate_hz: float,
    config: ExcitationConfig | None = None,
    seed: int = 0,
) -> Excitation:
    """The D-optimal motion of a small Fourier family: no contact, inside all limits, in simulation.

    Raises:
        UserError: nothing safe is found, or no motion tells the parameters apart.
    """
    config, rng = config or ExcitationConfig(), np.random.default_rng(seed)
    judge = _Judge(spec, joints, actuators, parameters, home_U, limits, rate_hz, config)
    found = [judge.score(judge.draw(rng)) for _ in console.track(range(config.candidates), "plan (draw)")]
    safe = [f for f in found if f is not None]
    if not safe:
        raise UserError(
            "no safe motion was found from this home pose",
            "Choose a freer home pose, smaller limits or a larger margin",
        )
    usual = float(np.median([information for information, _ in safe]))
    best = max(safe, key=lambda f: f[0])
    for i in console.track(range(config.candidates), "plan (refine)"):
        tried = judge.score(best[1] + 0.5 * 0.93**i * judge.draw(rng))
        best = tried if tried is not None and tried[0] > best[0] else best
    if not np.isfinite(best[0]):
        raise UserError("no motion of this family tells all parameters apart", "Identify fewer, or raise highest_hz")
    command = judge.command(best[1])
    position = judge.simulate(command)
    assert position is not None
    _, jacobian = judge.information(command, position)
    covariance = np.linalg.inv(jacobian.T @ jacobian) * config.noise_rad**2
    quantile = student.ppf(0.975, max(position.size - len(parameters), 1))
    interval = quantile * np.sqrt(np.diag(covariance)) * np.array([p.scale for p in parameters])
    refused = len(found) - len(safe)
    return Excitation(judge.time_s, command, position, tuple(parameters), interval, best[0], usual, refused)


class _Judge:
    """Makes motions from Fourier coefficients, simulates them and measures what they tell."""

    def __init__(
        self,
        spec: mujoco.MjSpec,
        joints: Sequence[str],
        actuators: Sequence[str],
        parameters: Sequence[Parameter],
        home_U: Array,
        limits: Limits,
        rate_hz: float,
        config: ExcitationConfig,
    ):
        self._spec, self._model = spec, spec.copy().compile()
        self._names = tuple(joints), tuple(actuators)
        self._actuators = [moved.index(self._model, "gain", name) for name in actuators]
        self._qpos = [int(self._model.joint(name).qposadr[0]) for name in joints]
        self._parameters, self._home, self._limits, self._config = tuple(parameters), home_U, limits, config
        self.time_s = np.arange(round(config.duration_s * rate_hz)) / rate_hz
        self._rate_hz = rate_hz
        exact = 1 / (rate_hz * self._model.opt.timestep)
        self._substeps = round(exact)
        if self._substeps < 1 or abs(exact - self._substeps) > 0.01 * exact:
            raise UserError(
                f"a control period of {1e3 / rate_hz:g} ms is {exact:.2f} physics steps",
                "Choose a rate or a timestep that divide without remainder",
            )

    def draw(self, rng: np.random.Generator) -> Array:
        """Coefficients of sines and cosines, (U, harmonics, 2), weaker towards high frequencies; one joint may rest."""
        order = np.arange(1, self._config.harmonics + 1)[:, None]
        size = 0.5 * np.ptp(np.stack(self._limits.inner), axis=0)[:, None, None]
        return np.asarray(size * rng.normal(size=(len(self._home), len(order), 2)) / np.sqrt(order))

    def command(self, coefficients: Array) -> Array:
        """The motion (N, U): from and to rest at home, scaled into limits of range and speed."""
        frequency = self._config.highest_hz * np.arange(1, self._config.harmonics + 1) / self._config.harmonics
        angle = 2 * np.pi * frequency[:, None] * self.time_s
        path = np.einsum("uhk,hkn->nu", coefficients, np.stack([np.sin(angle), np.cos(angle)], axis=1))
        ends = np.minimum(self.time_s - _REST_S, self.time_s[-1] - self.time_s - _REST_S)
        fade = 0.5 - 0.5 * np.cos(np.pi * np.clip(ends / _FADE_S, 0, 1))
        path *= fade[:, None]
        low, high = self._limits.inner
        speed = np.abs(np.diff(path, axis=0)).max(axis=0) * self._rate_hz
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.minimum((high - self._home) / path.max(axis=0), (self._home - low) / -path.min(axis=0))
            share = np.minimum(np.minimum(share, self._limits.speed / speed), 1.0)
        return np.asarray(self._home + np.nan_to_num(share, nan=0.0) * path)

    def simulate(self, command_NU: Array) -> Array | None:
        """Positions (N, J), or None where the motion touches something or leaves the limits of a joint."""
        model, data = self._model, mujoco.MjData(self._model)
        data.qpos[self._qpos] = self._home
        data.ctrl[self._actuators] = self._home
        mujoco.mj_step(model, data, nstep=round(_SETTLE_S / model.opt.timestep))
        touching = data.ncon
        position = np.empty((len(command_NU), len(self._qpos)))
        low, high = self._limits.low, self._limits.high
        for n, command in enumerate(command_NU):
            position[n] = data.qpos[self._qpos]
            if data.ncon > touching or (position[n] < low).any() or (position[n] > high).any():
                return None
            data.ctrl[self._actuators] = command
            mujoco.mj_step(model, data, nstep=self._substeps)
        return position if np.isfinite(position).all() else None

    def score(self, coefficients: Array) -> tuple[float, Array] | None:
        """Information and the coefficients, shrunk until they are safe; None when that does not help."""
        for _ in range(_TRIES):
            command = self.command(coefficients)
            position = self.simulate(command)
            if position is not None:
                return self.information(command, position)[0], coefficients
            coefficients = _SHRINK * coefficients
        return None

    def information(self, command_NU: Array, position_NJ: Array) -> tuple[float, Array]:
        """Log-determinant of J'J over scaled parameters, and J (all joints' samples, parameters)."""
        log = Log(self.time_s, command_NU, position_NJ, *self._names)
        loop = OpenLoop(self._spec, log, self._parameters, contact=False)
        scale = np.array([p.scale for p in self._parameters])
        inward = np.where(loop.nominal > [(p.low + p.high) / 2 for p in self._parameters], -1, 1)
        columns = np.vstack([loop.nominal, loop.nominal + np.diag(_STEP * inward * scale)])
        found = loop.predict(columns).position_CMJ.reshape(len(columns), -1)
        jacobian = ((found[1:] - found[0]) / (_STEP * inward[:, None])).T
        sign, size = np.linalg.slogdet(jacobian.T @ jacobian)
        return float(size) if sign > 0 else -np.inf, jacobian
