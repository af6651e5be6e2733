"""How late a body answers its commands, from any log: each joint's own sluggishness is fitted beside the delay.

`timing.command_to_motion` does the same with the body's MuJoCo model, more exactly; this needs no model, takes a second
and serves bodies that no MJCF simulates.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm
from scipy.optimize import least_squares

from calibration.signals import Array
from calibration.timing import Delay
from robot_wm.contracts.errors import UserError

MOST_S = 0.25
_WINDOW_S = 0.6  # simulated from a measured state: longer ones drift, shorter ones hardly tell a delay
_STEP_S = 0.01  # of the simulation, about
_FEW = 40  # windows that a search starts with
_MOST_ROWS = 2000
_LEAST_MOTION = 1e-3  # [rad or m]
_STARTS_S, _STARTS_DRAG = (0.0, 0.05, 0.1, 0.17), (30.0, 150.0)
_ROBUST = 0.02  # of the motion: a window in which a joint meets its end of travel does not count as much
_APART = 2.0  # times the median window's error: what a joint does there (it rests on a table) is no answer to commands
_ROUNDS = 4  # of fits to the windows that remain


@dataclass(frozen=True)
class Answer:
    """One joint: how late it answers, with the deviation of that, and the share of its motion that is explained.

    Attributes:
        delay_s: negative where the rows hold what was measured after their command had been sent.
        deviation_s: its standard deviation.
        explained: 0 to 1, over the windows in which the joint obeys (half of them at least).
        told: whether the search ended between its bounds.
    """

    delay_s: float
    deviation_s: float
    explained: float
    told: bool = True


def command_delay(
    time_s: Array,
    episode_N: NDArray[np.int64],
    command_NU: Array,
    position_NU: Array,
    velocity_NU: Array,
    is_position: bool,
) -> tuple[Delay, list[Answer]]:
    """Delay from commands to the measured motion of the joints that they move, joint by joint and over all.

    A joint is taken for a servo of second order: its acceleration is linear in what is left to the command, in its
    velocity and in 1. Episodes are simulated in windows, each from the measured state, and compared in position;
    windows in which something else moves or stops the joint are told by their error, and left out.

    Args:
        time_s: of the rows, increasing within an episode.
        episode_N: of each row.
        command_NU, position_NU, velocity_NU: of U joints (or of a hand along U axes).
        is_position: commands are targets; else they are velocities.

    Raises:
        UserError: nothing moves, or no joint follows its command.
    """
    rows = slice(0, _MOST_ROWS)
    log = _Windows(time_s[rows], episode_N[rows])
    found = []
    for joint in range(command_NU.shape[1]):
        if min(np.ptp(command_NU[rows, joint]), np.ptp(position_NU[rows, joint])) < _LEAST_MOTION:
            continue
        columns = (command_NU[rows, joint], position_NU[rows, joint], velocity_NU[rows, joint])
        found.append(_answer(log, *columns, is_position))
    good = [answer for answer in found if answer.explained > 0.8 and answer.told]
    if not good:
        raise UserError(
            "no joint follows its command well enough to see a delay" if found else "nothing moves in the log",
            "Record while the robot moves by its commands alone",
        )
    delays, deviations = np.array([a.delay_s for a in good]), np.array([a.deviation_s for a in good])
    # Joints share a delay; how far they differ is what the simple model of each makes of it.
    spread = float(np.median(np.abs(delays - np.median(delays)))) / 0.6745 if len(good) > 1 else 0.0
    weight = 1 / (deviations**2 + spread**2 + 1e-8)
    mean = float((weight * delays).sum() / weight.sum())
    # Within a tenth of a period the model's simplicity and the delay cannot be told apart.
    interval = float(np.hypot(1.96 * np.sqrt(1 / weight.sum()), 0.1 * log.period_s))
    return Delay(mean, interval, float(np.mean([a.explained for a in good]))), found


class _Windows:
    """Stretches of rows that are simulated at the same time, on a grid of a fraction of the rows' period."""

    def __init__(self, time_s: Array, episode_N: NDArray[np.int64]):
        self.time_s, self.episode_N = time_s, episode_N
        same = np.diff(episode_N) == 0
        self.period_s = float(np.median(np.diff(time_s)[same]))
        length = max(4, round(_WINDOW_S / self.period_s))
        began = {e: time_s[episode_N == e][0] for e in np.unique(episode_N)}
        age = time_s - np.array([began[e] for e in episode_N])
        first = np.arange(0, len(time_s) - length, max(1, length // 2))
        inside = (episode_N[first] == episode_N[first + length]) & (age[first] >= MOST_S)
        self.rows = first[inside][:, None] + np.arange(length + 1)
        if len(self.rows) < 5:
            raise UserError(
                f"the log holds {len(self.rows)} stretches of {MOST_S + _WINDOW_S:g} s", "Record longer episodes"
            )
        self.few = np.unique(np.linspace(0, len(self.rows) - 1, _FEW).astype(int))
        substeps = max(1, round(self.period_s / _STEP_S))
        self.step_s = self.period_s / substeps
        self.start_s = time_s[self.rows[:, 0]]
        self.grid_s = np.arange(substeps * length + 2) * self.step_s
        self.into = (time_s[self.rows] - self.start_s[:, None]) / self.step_s  # where in the grid each row lies

    def held(self, command_N: Array, delay_s: float, rows: NDArray[np.int64]) -> Array:
        """Mean of the command in force during each step of the grid, (windows, steps): late by the delay, held."""
        ends = np.append(np.diff(self.time_s), self.period_s)
        ends[np.append(np.diff(self.episode_N) != 0, True)] = self.period_s
        total = np.concatenate([[0.0], np.cumsum(command_N * ends)])
        offset = np.concatenate([[0.0], np.cumsum(ends)])[:-1]  # time without the gaps between episodes
        at = offset[rows[:, 0], None] + self.grid_s - delay_s
        knots = np.append(offset, offset[-1] + self.period_s)
        return np.asarray(np.diff(np.interp(at, knots, total), axis=1) / self.step_s)


def _answer(log: _Windows, command_N: Array, position_N: Array, velocity_N: Array, is_position: bool) -> Answer:
    centre, scale = position_N.mean(), position_N.std()
    own = command_N - centre if is_position else command_N

    def error(theta: Array, chosen: NDArray[np.int64]) -> Array:
        """Of the positions in some windows, over how far they move on average."""
        rows, into = log.rows[chosen], log.into[chosen]
        pull, drag, gain, push = np.exp(theta[0]), np.exp(theta[1]), theta[2], theta[3]
        stiff = pull if is_position else 0.0
        drive = pull * gain if is_position else drag * gain
        system = np.array([[0, 1, 0, 0], [-stiff, -drag, drive, push * pull], [0] * 4, [0] * 4], dtype=float)
        step = expm(system * log.step_s)
        inputs = log.held(own, theta[4], rows)
        state = np.stack([position_N[rows[:, 0]] - centre, velocity_N[rows[:, 0]]])
        path = [state[0]]
        for k in range(inputs.shape[1]):
            state = step[:2, :2] @ state + step[:2, 2:3] * inputs[:, k] + step[:2, 3:4]
            path.append(state[0])
        whole = np.floor(into).astype(int)
        path_WG, window = np.stack(path, axis=1), np.arange(len(rows))[:, None]
        share = into - whole
        seen = (1 - share) * path_WG[window, whole] + share * path_WG[window, whole + 1]
        return np.asarray((seen + centre - position_N[rows])[:, 1:].ravel() / scale)

    early_s = max(0.02, log.period_s)
    low = np.array([np.log(0.5), np.log(0.1), 0.2, -scale, -early_s])
    high = np.array([np.log(4e4), np.log(400), 5.0, scale, MOST_S])
    size = [1, 1, 0.2, 0.1 * scale, 0.02]
    search = partial(least_squares, error, bounds=(low, high), x_scale=size, loss="soft_l1", f_scale=_ROBUST)
    starts = [
        np.array([np.log(400), np.log(drag), 1.0, 0.0, d])
        for d in _STARTS_S
        for drag in _STARTS_DRAG[: 2 - is_position]
    ]
    best = min((search(start, max_nfev=8, args=(log.few,)) for start in starts), key=lambda end: end.cost)
    kept = everywhere = np.arange(len(log.rows))
    best = search(best.x, max_nfev=40, args=(kept,))
    for _ in range(_ROUNDS):
        each = np.sqrt((error(best.x, everywhere).reshape(len(everywhere), -1) ** 2).mean(axis=1))
        obeys = np.flatnonzero(each <= _APART * np.median(each))
        if np.array_equal(obeys, kept):
            break
        kept = obeys
        best = search(best.x, max_nfev=40, args=(kept,))
    left = (np.median(np.abs(best.fun)) / 0.6745) ** 2
    covariance = left * np.linalg.pinv(best.jac.T @ best.jac)
    measured = position_N[log.rows[kept]]
    still = (measured[:, :1] - measured)[:, 1:].ravel() / scale
    explained = 1 - float((best.fun**2).sum()) / max(float((still**2).sum()), 1e-12)
    told = -early_s + 1e-3 < best.x[4] < MOST_S - 1e-3
    return Answer(float(best.x[4]), float(np.sqrt(covariance[4, 4])), float(explained), bool(told))
