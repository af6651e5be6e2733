"""Pairs of clips of which one cannot be: the same scene and motion, but from one frame on an object breaks a law."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sims.filming import play
from sims.scenes import Scene, sample
from sims.sheet import draw

_FIRST_SEED = 90_000  # of scenes that neither pretraining nor its evaluation uses
_TRIES = 20  # scenes drawn per pair: some are refused, in some the change is out of sight
_SEEN = 0.002  # share of pixels that must differ once the law is broken
_JUMP_M, _STEP_M, _GONE_M = 0.15, 0.03, -20.0
Path3 = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Pair:
    """Two clips (T, Y, X, 3) that are the same before frame `broken`."""

    kind: str
    possible_TYXC: NDArray[np.uint8]
    impossible_TYXC: NDArray[np.uint8]
    broken: int


def _moving(per_frame_m: NDArray[np.float64]) -> Path3:
    return lambda position_F3, aside_3: position_F3 + np.arange(1, len(position_F3) + 1)[:, None] * per_frame_m


def _untouched(position_F3: NDArray[np.float64], aside_3: NDArray[np.float64]) -> NDArray[np.float64]:
    return position_F3 + np.arange(1, len(position_F3) + 1)[:, None] * _STEP_M * aside_3


# From where the object is from the broken frame on, (F, 3), and a direction along the table, to where it is shown.
KINDS: dict[str, Path3] = {
    "vanishes": lambda position_F3, _: position_F3 + np.array([0.0, 0.0, _GONE_M]),
    "teleports": lambda position_F3, aside_3: position_F3 + _JUMP_M * aside_3,
    "moves untouched": _untouched,
    "floats": _moving(np.array([0.0, 0.0, _STEP_M])),
    "passes through the table": _moving(np.array([0.0, 0.0, -_STEP_M / 2])),
}


def pairs(kind: str, num: int, seed: int, size: int, step_s: float, frames: int = 12) -> Iterator[Pair]:
    """`num` pairs of one of KINDS, drawn from their first camera; the same for the same arguments.

    Every kind has scenes of its own, so that pairs of different kinds are independent.

    Raises:
        RuntimeError: too few scenes in which the change can be seen.
    """
    index, found, number = 0, 0, list(KINDS).index(kind)
    while found < num:
        if index >= _TRIES * num:
            raise RuntimeError(f"only {found} of {num} pairs of {kind!r} can be seen")
        made = _pair(kind, (_FIRST_SEED + seed, number, index), size, step_s, frames)
        index += 1
        if made is not None:
            found += 1
            yield made


def _pair(kind: str, seed: tuple[int, int, int], size: int, step_s: float, frames: int) -> Pair | None:
    scene = sample(seed, size, 1)
    rng = np.random.default_rng([*seed, 1])
    take = play(scene, rng, frames, step_s)
    if take is None:
        return None
    broken = int(rng.integers(frames // 3, 2 * frames // 3 + 1))
    angle = rng.uniform(-np.pi, np.pi)
    altered_FQ = take.qpos_FQ.copy()
    where = _object(scene)
    aside_3 = np.array([np.cos(angle), np.sin(angle), 0.0])
    altered_FQ[broken:, where] = KINDS[kind](altered_FQ[broken:, where], aside_3)
    possible, impossible = (draw(scene.model, scene.cameras, qpos, {})[0] for qpos in (take.qpos_FQ, altered_FQ))
    changed = (np.abs(possible[broken:].astype(int) - impossible[broken:]) > 24).any(axis=-1).mean(axis=(1, 2))
    return Pair(kind, possible, impossible, broken) if changed.max() > _SEEN else None


def _object(scene: Scene) -> slice:
    """Where the position of the first object stands among a model's joint positions."""
    start = int(scene.model.jnt_qposadr[scene.model.body(scene.objects[0]).jntadr[0]])
    return slice(start, start + 3)
