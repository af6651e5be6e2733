"""A robot's log as arrays, and what is wrong with it: every fault is named with its joint, and mended or refused."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.spikes import find_spikes
from robot_wm.contracts.embodiment import Interface
from robot_wm.contracts.errors import UserError

Array = NDArray[np.float64]
LOST = 1.7  # nominal periods; a longer step has lost a sample
_STILL = 1e-4  # a joint that moves less than this [rad or m] tells nothing of itself
_LONG_GAP = 5.0  # nominal periods; a shorter gap is bridged by the simulation, a longer one starts a new segment


@dataclass(frozen=True)
class Log:
    """Commands and measured joint positions on one clock.

    Attributes:
        time_s: time stamps, (N,), increasing within an episode.
        command_NU: command sent at each stamp and held until the next, in the actuators' units.
        position_NJ: measured joint positions [rad or m].
        joints, actuators: names, in column order.
        velocity_NJ: measured joint velocities, where the robot reports them.
        episode_N: which recording each row belongs to; the robot was reset in between.
        valid_NJ: measurements to use.
        torque_NU: measured torque of each actuator's joint, where the robot reports it [N·m or N].
        object_N7: where an object was, where something measured it: x, y, z [m] and a quaternion w, x, y, z.
        compare_velocity: velocities are a signal of identification, not the start state's alone.
    """

    time_s: Array
    command_NU: Array
    position_NJ: Array
    joints: tuple[str, ...]
    actuators: tuple[str, ...]
    velocity_NJ: Array | None = None
    episode_N: NDArray[np.int64] | None = None
    valid_NJ: NDArray[np.bool_] | None = None
    torque_NU: Array | None = None
    object_N7: Array | None = None
    compare_velocity: bool = False

    def __post_init__(self) -> None:
        num = len(self.time_s)
        if self.command_NU.shape != (num, len(self.actuators)) or self.position_NJ.shape != (num, len(self.joints)):
            raise UserError(
                f"log: {num} time stamps, commands {self.command_NU.shape}, positions {self.position_NJ.shape}",
                f"Give ({num}, {len(self.actuators)}) commands and ({num}, {len(self.joints)}) positions",
            )
        if self.torque_NU is not None and self.torque_NU.shape != self.command_NU.shape:
            raise UserError(f"log: torques {self.torque_NU.shape}", f"Give {self.command_NU.shape}, as commands")
        if self.compare_velocity and self.velocity_NJ is None:
            raise UserError("log: velocities are to be compared, and it has none", "Compare positions alone")
        if num < 10:
            raise UserError(f"log: {num} samples", "Give at least ten")

    @property
    def episodes(self) -> NDArray[np.int64]:
        return np.zeros(len(self.time_s), np.int64) if self.episode_N is None else self.episode_N

    @property
    def valid(self) -> NDArray[np.bool_]:
        return np.ones(self.position_NJ.shape, bool) if self.valid_NJ is None else self.valid_NJ

    @property
    def signals_NS(self) -> Array:
        """What a simulation is compared with: positions, velocities where asked for, torques where there are such."""
        velocity = self.velocity_NJ if self.compare_velocity else None
        return np.hstack([x for x in (self.position_NJ, velocity, self.torque_NU) if x is not None])

    @property
    def period_s(self) -> float:
        """Median time between two samples."""
        step = np.diff(self.time_s)[np.diff(self.episodes) == 0]
        return float(np.median(step[step > 0]))

    def rows(self, keep: NDArray | slice) -> "Log":
        """Some rows of the log."""
        return replace(
            self,
            time_s=self.time_s[keep],
            command_NU=self.command_NU[keep],
            position_NJ=self.position_NJ[keep],
            velocity_NJ=None if self.velocity_NJ is None else self.velocity_NJ[keep],
            episode_N=self.episodes[keep],
            valid_NJ=self.valid[keep],
            torque_NU=None if self.torque_NU is None else self.torque_NU[keep],
            object_N7=None if self.object_N7 is None else self.object_N7[keep],
        )

    def stretches(self) -> list[slice]:
        """Stretches without a long gap and within one episode."""
        broken = (np.diff(self.episodes) != 0) | (np.diff(self.time_s) > _LONG_GAP * self.period_s)
        edges = [0, *(np.flatnonzero(broken) + 1), len(self.time_s)]
        return [slice(int(a), int(b)) for a, b in itertools.pairwise(edges) if b - a >= 10]


@dataclass(frozen=True)
class Fault:
    """Something wrong with a log: what, where, and what was done or is to be done about it."""

    name: str
    where: str
    detail: str
    remedy: str
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.name}{f' ({self.where})' if self.where else ''}: {self.detail}. {self.remedy}."


def examine(
    log: Log,
    low_J: Array | None = None,
    high_J: Array | None = None,
    limits_U2: Array | None = None,
    interface: Interface = "joint_position",
) -> tuple[Log, list[Fault]]:
    """Name every fault of a log, and return it with what can be mended mended.

    Args:
        low_J, high_J: joint limits of the MJCF.
        limits_U2: command limits of the MJCF.
        interface: what a command means.
    """
    log, faults = _mend_clock(log)
    log, more = _mend_values(log)
    faults += more + _still(log) + _units(log, low_J, high_J)
    if not any(f.fatal for f in faults):
        faults += _swapped(log, interface) + _saturated(log, limits_U2)
    return log, faults


def refuse(faults: Sequence[Fault], more: str = "") -> None:
    """Raise the first fault that makes a fit meaningless; `more` is said behind its remedy."""
    for fault in faults:
        if fault.fatal:
            raise UserError(f"log: {fault.name} ({fault.where}): {fault.detail}", fault.remedy + more)


def noise(log: Log) -> Array:
    """Standard deviation of each signal's noise (S,), joints first: from third differences, free of motion."""
    step, period = np.diff(log.time_s), log.period_s
    even = np.abs(step - period) < 0.2 * period
    even = even[:-2] & even[1:-1] & even[2:]
    third = np.diff(log.signals_NS, 3, axis=0)
    third = third[even] if even.sum() >= 20 else third
    return np.maximum(np.median(np.abs(third), axis=0) / 0.6745 / np.sqrt(20.0), 1e-5)


def _mend_clock(log: Log) -> tuple[Log, list[Fault]]:
    faults = []
    if not np.isfinite(log.time_s).all():
        bad = int((~np.isfinite(log.time_s)).sum())
        faults.append(Fault("time stamps that are no numbers", "", f"{bad} of {len(log.time_s)}", "Rows left out"))
        log = log.rows(np.isfinite(log.time_s))
    inside = np.diff(log.episodes) == 0
    newest = log.time_s.copy()
    for episode in np.unique(log.episodes):
        of = log.episodes == episode
        newest[of] = np.maximum.accumulate(log.time_s[of])
    repeated = np.append(False, (np.diff(newest) <= 0) & inside)
    if repeated.any():
        back = int(np.append(False, (np.diff(log.time_s) < 0) & inside).sum())
        what = f"{int(repeated.sum())} of {len(repeated)} rows" + (f", {back} of them backwards" if back else "")
        faults.append(Fault("repeated time stamps", "", what, "Later rows with an old stamp left out"))
        log = log.rows(np.flatnonzero(~repeated))
    step = np.diff(log.time_s)[np.diff(log.episodes) == 0]
    period = log.period_s
    gaps = step > LOST * period
    if gaps.any():
        lost = int(np.round(step[gaps] / period - 1).sum())
        detail = f"about {lost} samples in {int(gaps.sum())} gaps, the longest {1e3 * step.max():.0f} ms"
        faults.append(Fault("dropped samples", "", detail, "The simulation bridges them; nothing is interpolated"))
    jitter = float(np.median(np.abs(step[~gaps] - period)) / 0.6745) if (~gaps).any() else 0.0
    if jitter > 0.05 * period:
        faults.append(
            Fault(
                "jitter",
                "",
                f"{1e3 * jitter:.2f} ms around {1e3 * period:.2f} ms",
                "Each sample counts at its own time",
            )
        )
    return log, faults


def _mend_values(log: Log) -> tuple[Log, list[Fault]]:
    faults = []
    finite = np.isfinite(log.position_NJ)
    if not np.isfinite(log.command_NU).all():
        bad = ~np.isfinite(log.command_NU).all(axis=1)
        faults.append(Fault("commands that are no numbers", "", f"{int(bad.sum())} rows", "Rows left out"))
        log, finite = log.rows(np.flatnonzero(~bad)), finite[~bad]
    position = np.where(finite, log.position_NJ, 0.0)
    spike = find_spikes(position, log.episodes)
    for name, mask, why in (
        ("spikes", spike & finite, "measurements, far from those beside them"),
        ("positions that are no numbers", ~finite, "measurements"),
    ):
        for joint in np.flatnonzero(mask.any(axis=0)):
            detail = f"{int(mask[:, joint].sum()):,} of {len(mask):,} {why}"
            faults.append(Fault(name, log.joints[joint], detail, "Left out of the fit"))
    keep = finite & ~spike
    filled = np.column_stack([_bridge(position[:, j], keep[:, j]) for j in range(len(log.joints))])
    return replace(log, position_NJ=filled, valid_NJ=log.valid & keep), faults


def _bridge(values: Array, keep: NDArray[np.bool_]) -> Array:
    rows = np.arange(len(values))
    return np.interp(rows, rows[keep], values[keep]) if keep.any() else values


def _still(log: Log) -> list[Fault]:
    extent = np.ptp(log.position_NJ, axis=0)
    wanted = np.ptp(log.command_NU, axis=0)
    return [
        Fault(
            "a joint that never moves", joint, f"its range in the log is {extent[j]:.2g}"
            + (f" although its command spans {wanted[j]:.2g}" if _paired(log) and wanted[j] > 0.02 else ""),
            "Nothing of it can be identified; check its cable, its brake, and the excitation",
        )
        for j, joint in enumerate(log.joints)
        if extent[j] < max(_STILL, 4 * noise(log)[j])
    ]  # fmt: skip


def _units(log: Log, low_J: Array | None, high_J: Array | None) -> list[Fault]:
    if low_J is None or high_J is None:
        return []
    span = np.maximum(high_J - low_J, 1e-6)
    out = np.maximum(
        low_J - np.quantile(log.position_NJ, 0.01, axis=0), np.quantile(log.position_NJ, 0.99, axis=0) - high_J
    )
    far = np.flatnonzero(out > 3 * span)
    if len(far) == 0:
        return []
    names = ", ".join(log.joints[j] for j in far)
    largest = float(np.abs(log.position_NJ).max())
    inside = np.deg2rad(log.position_NJ)[:, far]
    fits = ((inside > low_J[far] - 0.5 * span[far]) & (inside < high_J[far] + 0.5 * span[far])).mean() > 0.9
    if fits:
        return [Fault("degrees instead of radians", names, f"positions reach {largest:.0f}", "Convert the log", True)]
    return [Fault("positions outside the joints' ranges", names, f"they reach {largest:.3g}", "Check the units", True)]


def _paired(log: Log) -> bool:
    """Whether command and position columns belong together one by one."""
    return log.command_NU.shape == log.position_NJ.shape


def _swapped(log: Log, interface: Interface) -> list[Fault]:
    """Joints whose positions (or rates, where commands are rates) follow another joint's command."""
    if not _paired(log) or len(log.joints) < 2 or interface == "joint_torque":
        return []
    if interface == "joint_position":
        wanted, found = _changes(log.command_NU), _changes(log.position_NJ)
    else:
        inside = np.diff(log.episodes) == 0
        wanted, found = (_changes(x[inside]) for x in (log.command_NU[:-1], np.diff(log.position_NJ, axis=0)))
    moved = (np.ptp(log.command_NU, axis=0) > 10 * _STILL) & (np.ptp(log.position_NJ, axis=0) > 10 * _STILL)
    agreement = np.abs(wanted.T @ found)  # rows: commands, columns: positions
    agreement[:, ~moved] = agreement[~moved] = 0
    faults = []
    for j in np.flatnonzero(moved):
        best = int(agreement[:, j].argmax())
        if best != j and agreement[best, j] > 0.6 and agreement[j, j] < 0.7 * agreement[best, j]:
            detail = f"it follows the command of {log.actuators[best]} (correlation {agreement[best, j]:.2f}"
            detail += f", with its own {agreement[j, j]:.2f})"
            faults.append(Fault("swapped joints", log.joints[j], detail, "Put the log's columns in order", True))
    return faults


def _changes(values: Array) -> Array:
    """Unit-norm, mean-free motion of each column, smoothed over a few samples."""
    width = max(1, len(values) // 200)
    smooth = np.stack([np.convolve(v, np.ones(width) / width, mode="valid") for v in values.T], axis=1)
    centred = smooth - smooth.mean(axis=0)
    return centred / np.maximum(np.linalg.norm(centred, axis=0), 1e-12)


def _saturated(log: Log, limits_U2: Array | None) -> list[Fault]:
    if limits_U2 is None:
        return []
    faults = []
    for u, name in enumerate(log.actuators):
        low, high = limits_U2[u]
        margin = 1e-3 * (high - low)
        share = float(((log.command_NU[:, u] < low - margin) | (log.command_NU[:, u] > high + margin)).mean())
        if high > low and share > 0.02:
            detail = f"{100 * share:.0f} % of its commands lie beyond its limits [{low:.3g}, {high:.3g}]"
            faults.append(Fault("saturated commands", name, detail, "Used as the robot clips them; let it move less"))
    return faults
