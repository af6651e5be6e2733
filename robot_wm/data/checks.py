"""What can be wrong with a recorded dataset, told from its numbers; each finding is a sentence with advice."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.dataset import ACTION, STATE
from robot_wm.data.lerobot_stats import Stats
from robot_wm.data.video import TOLERANCE_S

_GAP = 1.5  # periods between two rows
_RATE = 0.01  # share by which the rate may differ from the promised one
_SATURATED = 0.05  # share of the rows
_FEW_VALUES = 10  # fewer distinct values are a switch, which may well rest at its ends
_RADIANS = 7.0  # just over a full turn; what goes beyond is hardly an angle in rad, or a place in m
_STATISTICS = 0.02  # of the range


@dataclass(frozen=True)
class Problem:
    """A finding; `severe` if training on the data as it is would go wrong."""

    kind: str
    severe: bool
    text: str
    advice: str


@dataclass(frozen=True)
class Joint:
    """The values that one entry of a feature takes over the whole dataset, those that are finite.

    Attributes:
        low, high, mean, std: over all rows, in the feature's own unit.
        at_low, at_high: share of the rows that stand exactly at the lowest and the highest value.
        distinct: number of different values, counted up to a few.
        bad_rows: rows that are not finite.
    """

    feature: str
    name: str
    low: float
    high: float
    mean: float
    std: float
    at_low: float
    at_high: float
    distinct: int
    bad_rows: int

    @classmethod
    def of(cls, feature: str, name: str, values_F: NDArray[Any]) -> "Joint":
        """Measure one column."""
        finite = values_F[np.isfinite(values_F)].astype(np.float64)
        bad = len(values_F) - len(finite)
        if not len(finite):
            return cls(feature, name, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, bad)
        low, high = float(finite.min()), float(finite.max())
        shares = float((finite == low).mean()), float((finite == high).mean())
        distinct = len(np.unique(finite[:: max(1, len(finite) // 5000)]))
        return cls(feature, name, low, high, float(finite.mean()), float(finite.std()), *shares, distinct, bad)


@dataclass
class Places:
    """Findings of one kind, gathered over episodes: how many rows, in which episodes, and the worst."""

    rows: int = 0
    episodes: list[int] = field(default_factory=list)
    worst: float = 0.0

    def add(self, episode: int, rows: int, worst: float = 0.0) -> None:
        """Count rows of an episode."""
        self.rows += rows
        self.episodes.append(episode)
        self.worst = max(self.worst, worst)

    def where(self) -> str:
        """In words."""
        first = f"episode {self.episodes[0]}"
        return f"in {first}" if len(self.episodes) == 1 else f"in {len(self.episodes)} episodes, the first {first}"


def many(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


class Clock:
    """Time stamps, episode by episode."""

    def __init__(self, fps: float):
        self._fps = fps
        self._repeats, self._gaps, self._rate = Places(), Places(), Places()
        self.periods_s: list[float] = []

    def add(self, episode: int, times_s: NDArray[np.floating[Any]]) -> None:
        """Look at the time stamps of one episode [s]."""
        steps_s = np.diff(times_s.astype(np.float64))
        if not len(steps_s):
            return
        period_s = float(np.median(steps_s))
        self.periods_s.append(period_s)
        if (count := int((steps_s <= 0).sum())) > 0:
            self._repeats.add(episode, count)
        if (count := int((steps_s > _GAP / self._fps).sum())) > 0:
            self._gaps.add(episode, count, float(steps_s.max()))
        if abs(period_s * self._fps - 1) > _RATE:
            self._rate.add(episode, 1, period_s)

    def problems(self) -> list[Problem]:
        """What is wrong with them."""
        found = []
        if self._repeats.rows:
            text = f"Time stamps repeat or go back at {many(self._repeats.rows, 'row')}, {self._repeats.where()}"
            found.append(Problem("time repeats", True, text, "Record again, or drop those episodes"))
        if self._gaps.rows:
            text = f"{many(self._gaps.rows, 'gap')} between rows, up to {self._gaps.worst:.3f} s, {self._gaps.where()}"
            advice = f"The period is {1 / self._fps:.4f} s: frames were lost; split the episodes there"
            found.append(Problem("gaps", True, text, advice))
        if self._rate.rows:
            text = f"Rows are {self._rate.worst:.4f} s apart where info.json says {1 / self._fps:.4f} s, "
            found.append(Problem("rate", True, text + self._rate.where(), "Correct fps in meta/info.json"))
        return found


def of_joints(joints: Sequence[Joint]) -> list[Problem]:
    """Values that never change, commands that stand at a limit, numbers that are no rad or m."""
    found = []
    for feature, entries in _by_feature(joints).items():
        if feature not in (STATE, ACTION):
            continue
        constant = [j for j in entries if j.distinct and j.low == j.high]
        if constant:
            text = f"{feature} never changes in {len(constant)} of {len(entries)} entries ({_names(constant)})"
            found.append(
                Problem("constant", False, text, "A joint that was locked, or a sensor that was not connected")
            )
        large = [j for j in entries if max(-j.low, j.high) > _RADIANS]
        if large:
            reach = max(max(-j.low, j.high) for j in large)
            text = f"{feature} reaches {reach:.4g} in {len(large)} of {len(entries)} entries ({_names(large)})"
            found.append(Problem("units", False, text, "Degrees, per cent or encoder ticks? rad and m are expected"))
        stuck = [j for j in entries if j.distinct > _FEW_VALUES and max(j.at_low, j.at_high) >= _SATURATED]
        if feature == ACTION and stuck:
            share = max(max(j.at_low, j.at_high) for j in stuck)
            text = f"Commands stand exactly at their lowest or highest value in up to {share:.0%} of the rows"
            advice = "They were cut off at a limit: what the robot did there was not what was asked"
            found.append(Problem("saturated", False, f"{text} ({_names(stuck)})", advice))
    return found


def of_not_finite(joints: Sequence[Joint], places: Mapping[str, Places]) -> list[Problem]:
    """Features with NaN or infinity, and where."""
    found = []
    for feature, where in places.items():
        names = _names([joint for joint in joints if joint.feature == feature and joint.bad_rows])
        text = f"{feature} is NaN or infinite in {many(where.rows, 'row')}, {where.where()} ({names})"
        found.append(
            Problem(
                "not finite", True, text, "Repair or drop those episodes: a stage that needs the column refuses them"
            )
        )
    return found


def of_statistics(joints: Sequence[Joint], stored: Mapping[str, Stats]) -> list[Problem]:
    """Statistics that came with the dataset and are not those of its rows."""
    found = []
    for feature, entries in _by_feature(joints).items():
        if feature not in stored:
            continue
        wrong = []
        for name in ("min", "max", "mean", "std"):
            said = np.ravel(np.asarray(stored[feature].get(name, ()), dtype=np.float64))
            measured = np.array([{"min": j.low, "max": j.high, "mean": j.mean, "std": j.std}[name] for j in entries])
            spread = np.array([j.high - j.low for j in entries])
            if len(said) != len(measured) or (np.abs(said - measured) > _STATISTICS * spread + 1e-4).any():
                wrong.append(name)
        if wrong:
            text = f"The stored {', '.join(wrong)} of {feature} {'is not that' if len(wrong) == 1 else 'are not those'}"
            text += " of its rows"
            found.append(Problem("statistics", True, text, "Policies normalise by it: compute meta/stats.json again"))
    return found


def of_drift(file: str, shown_s: NDArray[np.float64], wanted_s: Sequence[NDArray[np.float64]]) -> list[Problem]:
    """Rows whose time no frame of their video has; `wanted_s` are the rows' times of each episode in the file."""
    if not len(shown_s):
        return [Problem("video", True, f"{file} has no frame", "Record or download it again")]
    rows_s = np.concatenate(wanted_s)
    after = np.clip(np.searchsorted(shown_s, rows_s), 1, max(len(shown_s) - 1, 1))
    off_s = np.abs(rows_s - shown_s[np.minimum(after, len(shown_s) - 1)])
    off_s = np.minimum(off_s, np.abs(rows_s - shown_s[after - 1]))
    late = off_s > TOLERANCE_S
    if len(shown_s) < len(rows_s):
        text = f"{file} has {len(shown_s)} frames for {len(rows_s)} rows"
        return [Problem("video", True, text, "The video is cut short: record or download it again")]
    if late.any():
        text = f"{file} drifts: {int(late.sum())} of {len(rows_s)} rows have no frame within {1000 * TOLERANCE_S:g} ms"
        text += f", the worst is {1000 * float(off_s.max()):.2f} ms off"
        return [Problem("drift", True, text, "Frames would not be those of their rows: convert the dataset again")]
    shared = int((np.diff(np.sort(rows_s)) <= TOLERANCE_S).sum())
    if shared:
        text = f"{file}: {many(shared, 'frame')} shared by two rows of its {many(len(wanted_s), 'episode')}"
        return [Problem("drift", True, text, "from_timestamp of an episode is off by whole frames: convert again")]
    if len(wanted_s) > 1 and len(shown_s) > len(rows_s):
        text = f"{file} has {len(shown_s)} frames for {len(rows_s)} rows of {len(wanted_s)} episodes"
        return [Problem("video", False, text, "Frames that belong to no episode: check from_timestamp of each")]
    return []


def _by_feature(joints: Sequence[Joint]) -> dict[str, list[Joint]]:
    grouped = defaultdict(list)
    for joint in joints:
        grouped[joint.feature].append(joint)
    return grouped


def _names(joints: Sequence[Joint]) -> str:
    shown = ", ".join(joint.name for joint in joints[:4])
    return shown if len(joints) <= 4 else f"{shown} and {len(joints) - 4} more"
