"""System identification over `mujoco.sysid`: what a body's parameters are, how surely, and what the log cannot say.

The library brings parameters, the bounded Gauss-Newton search and the intervals. Added around it: residuals without
recompilation (`open_loop`), a robust loss, several starts, a held-out part of the log, intervals that count correlated
residuals once, and the names of what ended on a bound or cannot be told apart.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mujoco
import numpy as np
from mujoco import sysid
from scipy.stats import qmc

from calibration.certainty import Estimate, judge
from calibration.open_loop import OpenLoop
from calibration.parameters import Parameter, to_sysid
from calibration.signals import Array, Log, noise
from robot_wm.contracts.errors import UserError

_STEP = 1e-6  # of the finite differences, in units of each parameter's scale
_CONVERGED = 3e-4  # largest last step, in the same units
_ROBUST = 3.0  # residuals beyond this many robust deviations pull linearly, not quadratically
_EXPLAINED = 1.5  # residual in units of the measurement noise at which no further start is tried


@dataclass(frozen=True)
class FitConfig:
    """How to search.

    Attributes:
        fit_share: share of the log, from its beginning, that is fitted; the rest is held out.
        starts: most starting points: the MJCF's values, then a spread over the bounds until one explains the log to
            its measurement noise.
        segment_s: longest open-loop stretch; 0 leaves the log whole.
        settle_s: start of each stretch left out of the residual, while errors of the start state die away.
        iterations: most Gauss-Newton steps of a search.
        robust: outliers pull linearly.
    """

    fit_share: float = 0.6
    starts: int = 4
    segment_s: float = 0.0
    settle_s: float = 0.1
    iterations: int = 60
    robust: bool = True


@dataclass(frozen=True)
class Identified:
    """What the log says.

    Attributes:
        estimates: one per parameter.
        confused: groups of parameters that this log cannot separate.
        rmse: open-loop RMSE [rad or m] over all joints: `before`, `after` (fitted part), and on the held-out part
            `held_out_before`, `held_out`, `held_out_command` (the command itself as prediction).
        kept: the fit told the held-out part no better than the MJCF, so that the estimates are the MJCF's values;
            `rmse` then names what the fit had reached as `held_out_fitted`.
        held_out_J, held_out_before_J: the held-out RMSE per joint, as identified and as the MJCF was.
        starts: objective and values that every start ended at.
        outliers: share of the samples that the robust loss discounts.
    """

    parameters: tuple[Parameter, ...]
    estimates: tuple[Estimate, ...]
    confused: tuple[tuple[str, ...], ...]
    rmse: dict[str, float]
    held_out_J: Array
    held_out_before_J: Array
    starts: tuple[tuple[float, Array], ...]
    outliers: float
    covariance: Array = field(repr=False)
    kept: bool = False

    @property
    def values(self) -> Array:
        return np.array([e.value for e in self.estimates])

    @property
    def warnings(self) -> list[str]:
        """What a person must know before trusting the numbers."""
        if self.kept:
            return ["the MJCF tells the part that was not fitted as well as the fit does, so its values are kept"]
        lines = [f"{e.name} ended on its {e.bound} bound ({e.value:.4g} {e.unit})" for e in self.estimates if e.bound]
        silent = [e.name for e in self.estimates if not e.identifiable and not e.bound]
        if silent:
            lines.append(f"the log says too little about: {', '.join(silent)}")
        return lines + [f"the log cannot separate {' and '.join(group)}" for group in self.confused]


class _Huber:
    """mujoco.minimize's norm for residuals in units of their own deviation."""

    def __init__(self, beyond: float):
        self._beyond = beyond

    def value(self, r: Array) -> float:
        size, d = np.abs(r), self._beyond
        return float(np.where(size <= d, 0.5 * r * r, d * (size - 0.5 * d)).sum())

    def grad_hess(self, r: Array, proj: Array) -> tuple[Array, Array]:
        weight = np.minimum(1.0, self._beyond / np.maximum(np.abs(r), 1e-12))
        return proj.T @ (weight * r), proj.T @ (weight * proj)


class _Problem:
    """Residuals of one part of the log, as `mujoco.sysid.optimize` wants them."""

    def __init__(self, loop: OpenLoop, config: FitConfig, from_row: int = 0):
        self.loop, self.scale = loop, np.array([p.scale for p in loop.parameters])
        rows = loop.log.rows(loop.rows)
        began = np.concatenate([np.full(len(s.rows), s.start_s) for s in loop._segments])
        self.use_MS = loop.valid() & ((rows.time_s - began >= config.settle_s) & (loop.rows >= from_row))[:, None]
        self.sigma_S = noise(loop.log)

    def residual(self, x: Array, _: sysid.ParameterDict) -> tuple[list[Array], list, list]:
        columns = x.reshape(len(self.scale), -1).T * self.scale
        error = (self.loop.measured() - self.loop.signals(columns)) / self.sigma_S
        return [error[:, self.use_MS].T if x.ndim > 1 else error[0, self.use_MS]], [], []

    def jacobian(self, x: Array, r: Array) -> Array:
        """Forward differences; separate kinematic trees share a simulation (Curtis, Powell and Reid 1974)."""
        x = x.ravel()
        middle = np.array([(p.low + p.high) / 2 for p in self.loop.parameters]) / self.scale
        step = np.where(x > middle, -_STEP, _STEP) * np.maximum(1.0, np.abs(x))
        member = np.array([self.loop.tree_of(p) for p in self.loop.parameters])
        turn = np.array([np.sum(member[:p] == member[p]) for p in range(len(x))])
        alone = np.flatnonzero(member < 0)
        together = [np.flatnonzero((turn == k) & (member >= 0)) for k in range(turn.max() + 1)]
        groups = [g for g in together if len(g)] + [np.array([p]) for p in alone]
        moved = np.array([x + np.isin(np.arange(len(x)), group) * step for group in groups])
        change = self.residual(moved.T, sysid.ParameterDict())[0][0] - r
        felt = self.loop.trees()[np.nonzero(self.use_MS)[1]]
        found = np.zeros((len(r), len(x)))
        for group, column in zip(groups, change.T, strict=True):
            for p in group:
                found[:, p] = np.where((member[p] < 0) | (felt == member[p]), column, 0.0) / step[p]
        return found

    def error(self, values_P: Array) -> Array:
        """Measured minus predicted signals, (M, S)."""
        return self.loop.measured() - self.loop.signals(values_P)[0]

    def rmse(self, values_P: Array) -> Array:
        """Of each joint's position, with the settling time left out."""
        joints = slice(len(self.loop.log.joints))
        error, use_MJ = self.error(values_P)[:, joints], self.use_MS[:, joints]
        return np.sqrt(np.where(use_MJ, error**2, 0).sum(axis=0) / np.maximum(use_MJ.sum(axis=0), 1))

    def rescale(self, values_P: Array) -> float:
        """Take each signal's deviation from what is left at these values; returns the share of outliers."""
        error = self.error(values_P)
        outliers = 0
        for j in range(error.shape[1]):
            left = error[self.use_MS[:, j], j]
            if len(left):
                self.sigma_S[j] = max(float(np.median(np.abs(left))) / 0.6745, 1e-6)
                outliers += int((np.abs(left) > 5 * self.sigma_S[j]).sum())
        return outliers / max(int(self.use_MS.sum()), 1)


def identify(
    spec: mujoco.MjSpec,
    log: Log,
    parameters: Sequence[Parameter],
    config: FitConfig | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
    guess: Array | None = None,
    step: Callable[..., None] = lambda **_: None,
) -> Identified:
    """Fit the parameters to the first part of a log and judge them on the rest.

    `guess` is one of the starting points: after the MJCF's values, or instead of them where there is to be one. `step`
    is called at every step of a search, with a `note` of where it is. A fit that tells the rest no better than the
    MJCF is left: its values stay.

    Raises:
        UserError: no parameters, or a log and MJCF that do not belong together.
    """
    config = config or FitConfig()
    if not parameters:
        raise UserError("nothing to identify", "Name at least one parameter, such as armature of each joint")
    if not 0 < config.fit_share <= 1:
        raise UserError(f"fit.fit_share is {config.fit_share}", "Give a number above 0, at most 1")
    cut = int(config.fit_share * len(log.time_s))
    fitted, longest = slice(0, cut), config.segment_s or np.inf
    problem = _Problem(OpenLoop(spec, log, parameters, fitted, longest), config)
    found, starts, outliers = _search(problem, _starts(parameters, config.starts, seed, guess), config, say, step)
    if not problem.loop.uses_contact_rightly(found[0]):
        say("contacts occur at the identified values: fitting again with contacts simulated")
        problem = _Problem(OpenLoop(spec, log, parameters, fitted, longest, contact=True), config)
        found, starts, outliers = _search(problem, _starts(parameters, config.starts, seed, guess), config, say, step)
    values, jacobian = found
    nominal = np.array([p.nominal for p in parameters])
    rmse = {"before": _mean(problem.rmse(nominal)), "after": _mean(problem.rmse(values))}
    held_out_J = held_out_before_J = np.zeros(0)
    if cut < len(log.time_s):
        # simulated from the beginning of the log, so that nothing measured after the cut enters
        later = _Problem(OpenLoop(spec, log, parameters, slice(None), longest, problem.loop.contact), config, cut)
        held_out_J, held_out_before_J = later.rmse(values), later.rmse(nominal)
        rmse |= {"held_out_before": _mean(held_out_before_J), "held_out": _mean(held_out_J)}
        if log.command_NU.shape == log.position_NJ.shape:
            rmse["held_out_command"] = float(np.sqrt(((log.command_NU - log.position_NJ)[cut:] ** 2).mean()))
    kept = "held_out" in rmse and rmse["held_out"] >= rmse["held_out_before"]
    if kept:
        values, held_out_J = nominal, held_out_before_J
        rmse |= {"after": rmse["before"], "held_out": rmse["held_out_before"], "held_out_fitted": rmse["held_out"]}
        x = (nominal / problem.scale)[:, None]
        jacobian = problem.jacobian(x, problem.residual(x, sysid.ParameterDict())[0][0])
    error = problem.error(values) / problem.sigma_S
    estimates, confused, covariance = judge(parameters, values, jacobian, error, problem.use_MS)
    ends = tuple(starts)
    return Identified(
        tuple(parameters), estimates, confused, rmse, held_out_J, held_out_before_J, ends, outliers, covariance, kept
    )


def _search(
    problem: _Problem,
    starts: Sequence[Array],
    config: FitConfig,
    say: Callable[[str], None],
    step: Callable[..., None],
) -> tuple[tuple[Array, Array], list[tuple[float, Array]], float]:
    """Best values with their Jacobian, where every start ended, and the share of outliers."""
    ends: list[tuple[float, Array]] = []
    parameters = problem.loop.parameters
    jacobian = np.zeros((0, len(parameters)))
    for i, start in enumerate(starts):
        values, jacobian, objective = _descend(problem, start, config, step, quick=config.robust)
        ends.append((objective, values))
        deviations = np.sqrt(2 * objective / max(int(problem.use_MS.sum()), 1))
        say(f"start {i + 1} of at most {len(starts)}: {deviations:.2f} times the measurement noise is left")
        if deviations < _EXPLAINED:
            break
    outliers = 0.0
    best = min(ends, key=lambda end: end[0])[1]
    if config.robust or len(ends) > 1:
        outliers = problem.rescale(best)
        best, jacobian, _ = _descend(problem, best, config, step)
    return (best, jacobian), ends, outliers


def _starts(parameters: Sequence[Parameter], count: int, seed: int, guess: Array | None) -> list[Array]:
    """The MJCF's values, the guess, then a scrambled Sobol set over the bounds, geometric where they are positive."""
    low, high = np.array([p.low for p in parameters]), np.array([p.high for p in parameters])
    starts = [np.array([p.nominal for p in parameters])]
    if guess is not None:
        starts = [*starts[: count - 1], guess]  # alone where there is to be one
    if count > len(starts):
        power = int(np.ceil(np.log2(count)))
        for share in qmc.Sobol(len(parameters), seed=seed).random_base2(power)[: count - len(starts)]:
            share = 0.1 + 0.8 * share
            straight = low + share * (high - low)
            with np.errstate(divide="ignore", invalid="ignore"):
                starts.append(np.where(low > 0, low * (high / low) ** share, straight))
    return starts


def _descend(
    problem: _Problem, start: Array, config: FitConfig, step: Callable[..., None], quick: bool = False
) -> tuple[Array, Array, float]:
    def jacobian(x: Array, residual: Array) -> Array:
        step(note=f"{np.sqrt(np.mean(residual**2)):.2f} times the measurement noise is left")
        return problem.jacobian(x, residual)

    options: dict[str, Any] = {"norm": _Huber(_ROBUST)} if config.robust and not quick else {}
    found, result = sysid.optimize(
        to_sysid(problem.loop.parameters, problem.loop.full, start),
        problem.residual,
        optimizer="mujoco",
        verbose=False,
        x_scale="jac",
        jacobian=jacobian,
        xtol=10 * _CONVERGED if quick else _CONVERGED,
        max_iters=config.iterations,
        output=io.StringIO(),
        **options,
    )
    return found.as_vector() * problem.scale, result.jac, float(result.extras["objective"][-1])


def _mean(rmse_J: Array) -> float:
    return float(np.sqrt((rmse_J**2).mean()))
