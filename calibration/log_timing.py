"""What a log says of its clocks: rate and jitter, and the delay from a command to the frame that shows its effect."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.delay import MOST_S, command_delay
from calibration.signals import Array
from calibration.timing import Clock, Delay, clock, delay_between, picture_components
from calibration.transitions import clocked
from robot_wm import console
from robot_wm.contracts.dataset import ACTION, STATE
from robot_wm.contracts.embodiment import CommandSpace, Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.data.lerobot import LeRobotDataset

_ROWS, _PICTURES = 2000, 600
_GAP_S = 2.0  # put between episodes: no delay reaches across
_LEAST_S = 0.01  # a shorter delay is not worth a correction
_SURE_S, _LIKE = 0.02, 0.9  # widest interval, and least agreement, of a delay that is believed


@dataclass(frozen=True)
class LogTiming:
    """Clocks of a log; a delay is None where the log does not tell it, and `notes` say why.

    Attributes:
        stream: of the rows.
        command_to_motion: as the body's own sensors report the motion.
        motion_to_frame: from there to the picture; negative where pictures come first.
    """

    stream: Clock | None
    command_to_motion: Delay | None
    motion_to_frame: Delay | None
    notes: tuple[str, ...]

    @property
    def delay_s(self) -> float | None:
        """From a command to the frame that shows its effect, as far as it is told reliably; None: it is not told."""
        if self.command_to_motion is None or self.command_to_motion.interval_s > _SURE_S:
            return None
        total = _counted(self.command_to_motion)
        if self.motion_to_frame is not None and self.motion_to_frame.explained > _LIKE:
            total += _counted(self.motion_to_frame)
        return max(total, 0.0)

    @property
    def interval_s(self) -> float:
        """Half-width of its 95 % interval."""
        parts = [d.interval_s for d in (self.command_to_motion, self.motion_to_frame) if d is not None]
        return float(np.hypot.reduce(parts)) if parts else float("inf")


def measure(dataset: Path, command: CommandSpace, frames_FYXC: NDArray[np.uint8]) -> LogTiming:
    """Clocks of a LeRobot dataset whose first rows that are new are `frames_FYXC`, in order."""
    log, notes = LeRobotDataset(dataset), []
    columns, rows = [], 0
    for episode in range(log.num_episodes):
        if rows < _ROWS:
            columns.append(log.columns(episode))
            rows += len(columns[-1]["timestamp"])
    time_s, action, state = (
        np.concatenate([c[k] for c in columns]).astype(np.float64) for k in ("timestamp", ACTION, STATE)
    )
    stretch_N, fresh = clocked([c["timestamp"] for c in columns])
    time_s, action, state, episode_N = time_s[fresh], action[fresh], state[fresh], stretch_N[fresh]
    stream, motion, shown = None, None, None
    try:
        stream = clock(time_s[episode_N == np.bincount(episode_N).argmax()])
    except UserError as error:
        notes.append(f"rate: {error.problem}")
    num = command.dim
    if command.interface == "joint_torque" or state.shape[1] != 2 * num:
        return LogTiming(stream, None, None, (*notes, "commands do not say where the body goes: give delay_s yourself"))
    position, velocity = state[:, :num], state[:, num:]
    try:
        motion, _ = command_delay(time_s, episode_N, action, position, velocity, command.is_position)
    except UserError as error:
        notes.append(f"command to motion: {error.problem}")
    try:
        shown = _motion_to_frame(time_s, episode_N, position, frames_FYXC)
    except UserError as error:
        notes.append(f"motion to frame: {error.problem}")
    return LogTiming(stream, motion, shown, tuple(notes))


def apply(found: LogTiming, embodiment: Embodiment) -> Embodiment:
    """The body with the delay that its log tells; as it is where the log tells none, or the same within its interval.

    Says what was found, and the line for the embodiment's yaml.
    """
    for note in found.notes:
        console.say(f"timing: {note}")
    if found.delay_s is None:
        return embodiment
    delay_s = round(found.delay_s, 4)
    if abs(delay_s - embodiment.delay_s) <= max(found.interval_s, _LEAST_S):
        return embodiment
    ms, within = 1e3 * delay_s, 1e3 * found.interval_s
    console.say(
        f"timing: pictures show a command after {ms:.0f} ms (± {within:.0f}), which is taken out of the log; "
        f"the line for embodiment/{embodiment.name}.yaml is delay_s: {delay_s:g}"
    )
    return replace(embodiment, delay_s=delay_s)


def _motion_to_frame(
    time_s: Array, episode_N: NDArray[np.int64], position_NJ: Array, frames_FYXC: NDArray[np.uint8]
) -> Delay:
    """Over several episodes, laid out one after the other with gaps that no delay crosses."""
    num = min(len(time_s), len(frames_FYXC), _PICTURES)
    time_s, episode_N, position_NJ = time_s[:num], episode_N[:num], position_NJ[:num]
    began = np.flatnonzero(np.diff(episode_N, prepend=-1))
    first_s, last_s = time_s[began], time_s[np.append(began[1:] - 1, num - 1)]
    laid_s = np.concatenate([[0.0], np.cumsum(last_s - first_s + _GAP_S)[:-1]])
    at_s = time_s - first_s[episode_N] + laid_s[episode_N]
    period_s = float(np.median(np.diff(time_s)))
    margin_s = 3 * period_s  # a spline rings near a gap
    inside = (time_s - first_s[episode_N] > MOST_S + margin_s) & (last_s[episode_N] - time_s > 0.05 + margin_s)
    found = delay_between(at_s, position_NJ, at_s, picture_components(frames_FYXC[:num]), use_M=inside)
    if not np.isfinite(found.interval_s):
        raise UserError("pictures fit the motion equally well at every delay", "Record faster motions")
    return found


def _counted(delay: Delay) -> float:
    """A delay, or nothing where it may as well be none."""
    return delay.seconds if abs(delay.seconds) > max(_LEAST_S, 2 * delay.interval_s) else 0.0
