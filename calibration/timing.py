"""Clocks: rate and jitter of each stream, and the delays from command to motion and from motion to frame."""

import itertools
import math
from dataclasses import dataclass, replace

import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize_scalar

from calibration import parameters as moved
from calibration.parameters import DELAY, Parameter
from calibration.signals import Array, Log
from calibration.sysid import FitConfig, identify
from robot_wm.contracts.errors import UserError

_LEAST_MOTION = 1e-3  # of a cause [rad or m]: a delay can be seen only in what moves
_GRID_S = 0.004
_UNLIKE = 0.5  # share of the effect's variance that the cause must explain
_FEATURES = 6  # principal components of the pictures


@dataclass(frozen=True)
class Clock:
    """How regularly a stream arrives."""

    rate_hz: float
    jitter_s: float
    dropped: int
    longest_gap_s: float


@dataclass(frozen=True)
class Delay:
    """A delay with the half-width of its 95 % interval; `explained` is how well cause and effect then agree, 0 to 1."""

    seconds: float
    interval_s: float
    explained: float


def clock(time_s: Array) -> Clock:
    """Rate, jitter and losses from time stamps alone.

    The stamps are compared with the even clock that fits them best; a lost sample is a step of more than one period.

    Raises:
        UserError: fewer than ten increasing stamps.
    """
    step = np.diff(time_s)
    if len(step) < 9 or not (step > 0).all():
        raise UserError("time stamps do not increase, or are fewer than ten", "Examine the log first")
    head = time_s[:500] - time_s[0]
    candidates = np.median(step) * np.linspace(0.96, 1.04, 4 * len(head))
    period = candidates[np.abs(np.exp(2j * np.pi * head / candidates[:, None]).sum(axis=1)).argmax()]
    offset = time_s[0] + period * np.angle(np.exp(2j * np.pi * head / period).sum()) / (2 * np.pi)
    for _ in range(3):
        ticks = np.round((time_s - offset) / period)
        period, offset = np.polyfit(ticks, time_s, 1)
    away = time_s - (offset + period * ticks)
    return Clock(1 / float(period), float(away.std()), int(ticks[-1] - ticks[0]) + 1 - len(time_s), float(step.max()))


def delay_between(
    cause_s: Array,
    cause_NK: Array,
    effect_s: Array,
    effect_ML: Array,
    least_s: float = -0.05,
    most_s: float = 0.25,
    use_M: NDArray[np.bool_] | None = None,
) -> Delay:
    """The delay at which an effect is best explained by a cause, to a fraction of a sample.

    The effect at t is regressed on a polynomial of the cause at t - delay, because a picture is no linear function of
    joint positions: of the highest degree that five samples per term allow. A coarse search over delays is refined
    between its best three, on the cause's own spline. `use_M` marks the samples of the effect that count.

    Raises:
        UserError: the cause does not move, the streams overlap too little, or the effect does not follow the cause.
    """
    keep = np.ptp(cause_NK, axis=0) > _LEAST_MOTION
    if not keep.any():
        raise UserError("nothing moves in the log, so no delay can be seen", "Record while the robot moves")
    path = CubicSpline(cause_s, cause_NK[:, keep])
    inside = (effect_s - most_s >= cause_s[0]) & (effect_s - least_s <= cause_s[-1])
    inside &= np.ones(len(effect_s), bool) if use_M is None else use_M
    powers = _powers(int(keep.sum()), int(inside.sum()) // 5)
    terms = len(powers)
    if inside.sum() < 2 * terms + 10:
        raise UserError(f"only {int(inside.sum())} samples of both streams overlap", "Record for longer")
    at, effect = effect_s[inside], effect_ML[inside] - effect_ML[inside].mean(axis=0)
    mean, scale = cause_NK[:, keep].mean(axis=0), np.ptp(cause_NK[:, keep], axis=0)

    def left(delay_s: float) -> float:
        cause = (path(at - delay_s) - mean) / scale
        basis, _ = np.linalg.qr(np.stack([np.prod(cause**power, axis=1) for power in powers], axis=1))
        return float(((effect - basis @ (basis.T @ effect)) ** 2).sum())

    grid = np.arange(least_s, most_s + _GRID_S, _GRID_S)
    coarse = np.array([left(d) for d in grid])
    best = int(np.clip(coarse.argmin(), 1, len(grid) - 2))
    found = minimize_scalar(left, bounds=(grid[best - 1], grid[best + 1]), method="bounded", options={"xatol": 1e-6})
    total = float((effect**2).sum())
    explained = 1 - found.fun / max(total, 1e-12)
    if explained < _UNLIKE:
        raise UserError(
            f"the one stream explains only {100 * explained:.0f} % of the other",
            "Check that they are of the same robot",
        )
    h = 0.5 * _GRID_S
    curvature = (left(found.x + h) - 2 * found.fun + left(found.x - h)) / h**2
    noise = found.fun / max(1, (len(at) - terms) * effect.shape[1])
    interval = 1.96 * np.sqrt(2 * noise / curvature) if curvature > 0 else np.inf
    return Delay(float(found.x), float(interval), float(explained))


def _powers(dims: int, most: int) -> NDArray[np.int64]:
    """Exponents of the polynomial's terms, (terms, dims): the highest degree up to 5 with at most that many terms."""
    for degree in range(5, 0, -1):
        if math.comb(dims + degree, degree) <= most:
            break
    found = [(0,) * dims]
    for total in range(1, degree + 1):
        for chosen in itertools.combinations_with_replacement(range(dims), total):
            found.append(tuple(chosen.count(d) for d in range(dims)))
    return np.array(found)


def motion_to_frame(frame_s: Array, frames_TYXC: NDArray[np.uint8], time_s: Array, position_NJ: Array) -> Delay:
    """Delay from a motion, as the encoders report it, to the frame that shows it; no tracking, no calibrated camera.

    Cause: joint positions. Effect: the first principal components of the pictures.
    """
    return delay_between(time_s, position_NJ, frame_s, picture_components(frames_TYXC))


def picture_components(frames_TYXC: NDArray[np.uint8], count: int = _FEATURES) -> Array:
    """The pictures' first principal components over time, (T, count), on blocks of pixels."""
    block = max(1, min(frames_TYXC.shape[1:3]) // 48)
    high, wide = (size // block for size in frames_TYXC.shape[1:3])
    gray = frames_TYXC[:, : high * block, : wide * block].mean(axis=3)
    small = gray.reshape(len(gray), high, block, wide, block).mean(axis=(2, 4)).reshape(len(gray), -1)
    centred = small - small.mean(axis=0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    return vectors[:, ::-1][:, :count] * np.sqrt(np.maximum(values[::-1][:count], 0))


def command_to_motion(
    spec: mujoco.MjSpec, log: Log, dynamics: tuple[str, ...] = ("damping", "gain"), seed: int = 0
) -> Delay:
    """Delay from a command to the motion that answers it: what the body's own sluggishness leaves.

    Cross-correlation finds the sum of both; the body's model tells them apart, with its `dynamics` fitted alongside.
    """
    model = spec.copy().compile()
    chosen: list[Parameter] = []
    for kind in dynamics:
        everywhere = log.actuators if moved.KINDS[kind].target == "actuator" else log.joints
        for target in everywhere:
            if moved.KINDS[kind].read(model, moved.index(model, kind, target)) > 0:
                chosen.append(moved.parameter(model, kind, target, 0.1, 10.0))
    whole = moved.parameter(model, DELAY, "", 0.0, 0.25, absolute=True)
    chosen.append(replace(whole, nominal=float(np.clip(_first_guess(log), 0.0, 0.2))))
    found = identify(spec, log, chosen, FitConfig(fit_share=1.0, starts=3), seed)
    estimate, moving = found.estimates[-1], np.ptp(log.position_NJ, axis=0) > _LEAST_MOTION
    spread = float(np.sqrt((log.position_NJ[:, moving].std(axis=0) ** 2).mean())) if moving.any() else 0.0
    explained = max(0.0, 1 - (found.rmse["after"] / max(spread, 1e-9)) ** 2)
    return Delay(estimate.value, estimate.interval, explained)


def _first_guess(log: Log) -> float:
    """Half the lag between commands and positions: the other half is the body's."""
    if log.command_NU.shape != log.position_NJ.shape:
        return 0.0
    stretch = max(log.stretches(), key=lambda s: s.stop - s.start)
    one = log.rows(stretch)
    try:
        return 0.5 * delay_between(one.time_s, one.command_NU, one.time_s, one.position_NJ, 0.0, 0.4).seconds
    except UserError:
        return 0.0
