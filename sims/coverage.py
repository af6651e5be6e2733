"""How much of what matters a recording shows: the object in motion, the hand in all of its workspace."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.dataset import HAND, OBJECT, STATE
from robot_wm.data.lerobot import LeRobotDataset
from sims.behaviours import workspace
from sims.simulation import Simulation

_MOVED_M = 0.002  # an object that moves further within a model step is in motion
_CELLS = 6  # along the workspace's longest side
_STILL = {"rad": 0.03, "m": 0.003}  # a joint that is commanded and moves less is blocked
_SAMPLES, _LEAST = 6000, 6  # places that tell where the hand can go; as many make a cell part of the workspace


@dataclass(frozen=True)
class Coverage:
    """Of a recording.

    Attributes:
        object_moves: share of model steps in which the object is in motion; None without one.
        workspace: share of the workspace's cells that the hand has been in, a sixth of its longest side wide.
    """

    object_moves: float | None
    workspace: float

    def __str__(self) -> str:
        moves = "" if self.object_moves is None else f"object in motion in {100 * self.object_moves:.0f} % of steps, "
        return f"{moves}hand in {100 * self.workspace:.0f} % of its workspace"


def measure(
    hands: Sequence[NDArray[np.float64]],
    objects: Sequence[NDArray[np.float64]],
    places_M3: NDArray[np.float64],
    every: int = 1,
) -> Coverage:
    """Coverage of some episodes.

    Args:
        hands, objects: positions [m], (L, 3) for each episode; no objects where there is none.
        places_M3: where the hand can go, from `places`, in the same frame.
        every: rows per model step.
    """
    low, high = np.percentile(places_M3, (1, 99), axis=0)
    width = (high - low).max() / _CELLS
    low -= np.maximum(width - (high - low), 0.0) / 2  # the plane of a flat workspace runs through the middle of a cell
    cells, counts = np.unique(_cells(places_M3 - low, width), axis=0, return_counts=True)
    possible = {tuple(cell) for cell in cells[counts >= _LEAST]}
    visited = {tuple(cell) for hand in hands for cell in _cells(hand - low, width)}
    steps = [np.linalg.norm(np.diff(thing[::every], axis=0), axis=-1) > _MOVED_M for thing in objects]
    moves = float(np.concatenate(steps).mean()) if steps else None
    return Coverage(moves, len(possible & visited) / max(len(possible), 1))


def of_log(path: Path, simulation: Simulation) -> Coverage | None:
    """Coverage of a body's log; None where its camera moves along, in whose frame the positions are.

    Args:
        path: the dataset.
        simulation: the body, just reset.
    """
    model, camera = simulation.model, simulation.camera
    if camera.position_m is None and model.body_weldid[model.camera(camera.name).bodyid[0]] != 0:
        return None
    log, keys = LeRobotDataset(path), (HAND, OBJECT) if simulation.has_object else (HAND,)
    episodes = [log.columns(episode, keys) for episode in range(log.num_episodes)]
    hands, things = ([columns[key] for columns in episodes if key in columns] for key in (HAND, OBJECT))
    return measure(hands, things, places(simulation), simulation.command.frame_skip)


def still(path: Path, simulation: Simulation) -> dict[str, float]:
    """Joints that hardly move in any episode of a body's log, and how far they moved at most [rad or m]."""
    log, num = LeRobotDataset(path), simulation.command.dim
    if len(simulation.position_units) != num:
        return {}
    spans = [np.ptp(log.columns(episode, [STATE])[STATE][:, :num], axis=0) for episode in range(log.num_episodes)]
    most = np.max(spans, axis=0)
    least = np.array([_STILL[unit] for unit in simulation.position_units])
    names = simulation.proprio_names[:num]
    return {names[i].removesuffix("_position"): float(most[i]) for i in np.flatnonzero(most < least)}


def places(simulation: Simulation) -> NDArray[np.float64]:
    """Where a body's hand can go, in its camera's frame as in a log [m], (M, 3); call it on a body just reset."""
    found = workspace(simulation, _SAMPLES, np.random.default_rng(0))
    return np.stack([simulation.to_camera(place) for place in found])


def _cells(positions: NDArray[np.float64], width: float) -> NDArray[np.int64]:
    return np.floor(positions / width).astype(np.int64)
