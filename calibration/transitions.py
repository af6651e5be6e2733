"""One body's log as labelled transitions: frames, proprio and commands at the control rate, cut into windows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.signals import LOST, Fault
from robot_wm.contracts.dataset import ACTION, STATE, image_key
from robot_wm.contracts.embodiment import CommandSpace, Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.pack import PackSpec, build_pack

_MOVED = 0.1  # of its span in the log: a joint that went further within an episode was moving
_SAME = 6  # of 255: compression makes a still picture flicker so much


@dataclass(frozen=True)
class Transitions:
    """A log at the control rate (F rows); a model step spans `skip` rows.

    Attributes:
        frames_FYXC: uint8, at the encoder's size.
        proprio_FP: in its own units.
        chunks_FKU: the commands of the `skip` rows from each row on, in plan units; NaN where the episode ends.
        episode_F: episode of each row.
        skip: rows per model step.
        reference_FU: the command in force at each row [its own unit].
    """

    frames_FYXC: NDArray[np.uint8]
    proprio_FP: NDArray[np.float32]
    chunks_FKU: NDArray[np.float32]
    episode_F: NDArray[np.int32]
    skip: int
    reference_FU: NDArray[np.float32]

    @property
    def count(self) -> int:
        """Labelled transitions: model steps that do not overlap."""
        return sum(max(0, n - 1) // self.skip for n in np.bincount(self.episode_F))

    def episodes(self, length: int) -> NDArray[np.int64]:
        """Those that hold a window of `length` model steps."""
        return np.flatnonzero(np.bincount(self.episode_F) > (length - 1) * self.skip)

    def windows(self, length: int, episodes: NDArray[np.integer]) -> NDArray[np.int64]:
        """Rows (W, length), one model step apart, that stay inside one of the given episodes."""
        span = (length - 1) * self.skip
        first = np.arange(max(0, len(self.episode_F) - span))
        inside = (self.episode_F[first] == self.episode_F[first + span]) & np.isin(self.episode_F[first], episodes)
        return first[inside][:, None] + self.skip * np.arange(length)


def load_transitions(
    dataset: Path,
    embodiment: Embodiment,
    command: CommandSpace,
    proprio_names: tuple[str, ...],
    size: int,
    limit: int,
    cache: Path,
) -> Transitions:
    """Read the first `limit` labelled transitions of a LeRobot dataset.

    Raises:
        UserError: a feature is missing or has another size or order than the body's, another rate, NaN, or too
            little data.
    """
    log = LeRobotDataset(dataset)
    _check(log, embodiment, command, proprio_names, dataset)
    pack = build_pack(dataset, PackSpec(size, 1 / log.info.fps, columns=(ACTION, STATE)), cache, embodiment.camera.name)
    whole, fresh = clocked([log.columns(e, ["timestamp"])["timestamp"] for e in range(log.num_episodes)])
    episode = whole.astype(np.int32)
    actions = np.asarray(pack.columns[ACTION], np.float64).reshape(len(episode), -1)
    shown = as_shown(actions, episode, embodiment.delay_s * command.control_rate_hz)
    known = np.isfinite(shown).all(axis=1)
    keep = limit * command.frame_skip + np.arange(episode[-1] + 1) + 1  # one closing row per episode started
    known &= fresh
    rows = known & (np.cumsum(known) <= keep[episode])
    rows &= np.bincount(episode[rows], minlength=len(keep))[episode] > command.frame_skip  # else no transition
    transitions = Transitions(
        np.asarray(pack.frames_FYXC)[rows],
        np.asarray(pack.columns[STATE], np.float32)[rows],
        _chunks(shown[rows], episode[rows], command),
        episode[rows],
        command.frame_skip,
        _in_force(shown[rows], episode[rows]),
    )
    if transitions.count < 20:
        raise UserError(f"{dataset} holds {transitions.count} transitions", "Record at least 20 (a few seconds)")
    return transitions


def clocked(stamps: Sequence[NDArray[np.floating]]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Episodes by the time stamps of each, a new one behind every gap; and the rows whose stamp is newer than before.

    Across a gap nobody knows which commands moved the robot; a row that came twice is no step.
    """
    fresh, begun = [], []
    for of_one in stamps:
        newest = np.maximum.accumulate(np.asarray(of_one, np.float64))
        step_s = np.diff(newest, prepend=-np.inf)
        usual_s = np.median(step_s[1:][step_s[1:] > 0]) if (step_s[1:] > 0).any() else np.inf
        fresh.append(step_s > 0)
        begun.append(step_s > LOST * usual_s)
        begun[-1][0] = True
    return np.cumsum(np.concatenate(begun)) - 1, np.concatenate(fresh)


def blind_episodes(transitions: Transitions) -> list[int]:
    """Episodes in which the robot moves and the picture does not: the camera was unplugged, covered or stuck."""
    spans_P, found = np.ptp(transitions.proprio_FP, axis=0), []
    for episode in np.unique(transitions.episode_F):
        rows = transitions.episode_F == episode
        moved = (np.ptp(transitions.proprio_FP[rows], axis=0) > _MOVED * spans_P).any()
        if moved and np.ptp(transitions.frames_FYXC[rows], axis=0).max() <= _SAME:
            found.append(int(episode))
    return found


def blind_faults(transitions: Transitions, camera: str) -> list[Fault]:
    """Episodes whose pictures say nothing, as a fault of the log; fatal where all are such."""
    blind, count = blind_episodes(transitions), len(np.unique(transitions.episode_F))
    if not blind:
        return []
    first = ", ".join(map(str, blind[:4])) + (", …" if len(blind) > 4 else "")
    detail = (
        f"the pictures of {camera!r} never change while the robot moves, in {len(blind)} of {count} episodes ({first})"
    )
    remedy = "Check the camera and its cable; what these episodes show is not fitted"
    return [Fault("unplugged camera", camera, detail, remedy, fatal=len(blind) == count)]


def as_shown(actions_FU: NDArray[np.float64], episode_F: NDArray[np.int32], delay_ticks: float) -> NDArray[np.float64]:
    """The commands whose effect the frames from each row to the next show, (F, U): what was sent a delay earlier.

    A delay between two ticks takes its share of both commands, which is what integrates to the same motion. The first
    rows of an episode show commands from before it, which no one knows: NaN.
    """
    whole = math.floor(delay_ticks)
    shown = np.zeros_like(actions_FU)
    for earlier, share in ((whole, 1 - delay_ticks + whole), (whole + 1, delay_ticks - whole)):
        if share > 0:
            sent = np.full_like(actions_FU, np.nan)
            same = episode_F[earlier:] == episode_F[: len(episode_F) - earlier]
            sent[earlier:][same] = actions_FU[: len(actions_FU) - earlier][same]
            shown += share * sent
    return shown


def _chunks(
    actions_FU: NDArray[np.float64], episode_F: NDArray[np.int32], command: CommandSpace
) -> NDArray[np.float32]:
    skip = command.frame_skip
    chunks = np.full((len(actions_FU), skip, command.dim), np.nan, np.float32)
    for row in range(len(actions_FU) - skip):
        if episode_F[row] == episode_F[row + skip]:
            before = row - 1 if row and episode_F[row - 1] == episode_F[row] else row
            chunks[row] = command.normalize(actions_FU[row : row + skip], actions_FU[before])
    return chunks


def _in_force(actions_FU: NDArray[np.float64], episode_F: NDArray[np.int32]) -> NDArray[np.float32]:
    """The command of the row before, where the episode has one."""
    before = np.arange(len(actions_FU)) - 1
    first = np.append(True, np.diff(episode_F) != 0)
    return actions_FU[np.where(first, before + 1, before)].astype(np.float32)


def check_sizes(log: LeRobotDataset, columns: Mapping[str, tuple[str, ...]], embodiment: Embodiment) -> None:
    """Refuse a log that lacks one of the columns, or in which it has another size than the body's names of it."""
    for key, wanted in columns.items():
        size = math.prod(log.feature(key).shape)
        if size != len(wanted):
            raise UserError(
                f"{log.path}: {key} has {size} entries, {embodiment.name} has {len(wanted)}",
                f"Wanted, in order: {', '.join(wanted)}",
            )


def _check(
    log: LeRobotDataset, embodiment: Embodiment, command: CommandSpace, proprio_names: tuple[str, ...], dataset: Path
) -> None:
    columns = {ACTION: command.names, STATE: proprio_names}
    log.feature(image_key(embodiment.camera.name))
    check_sizes(log, columns, embodiment)
    for key, wanted in columns.items():
        names = log.feature(key).names
        if names and set(names) <= set(wanted) and names != wanted:
            raise UserError(f"{dataset}: {key} is ordered {', '.join(names)}", f"Wanted: {', '.join(wanted)}")
    log.check_rate(command.control_rate_hz, embodiment.name)
