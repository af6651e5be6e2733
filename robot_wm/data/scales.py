"""How large motion and positions are in the data: what the targets of training are divided by."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.dataset import ARM, ARM_POINTS, FOCAL, HAND, NEAREST, OBJECT
from robot_wm.data.pack import Pack

_FARTHEST_M = 2.0  # on the standard picture; further off is what a hand beside the camera makes of an episode
STANDARD_M = 0.4  # what half the height of a standard picture shows at the distance of the hand
_PIECE = 1 << 13  # frames read at a time: a large set does not fit into memory
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Motion:
    """Standard deviations of one embodiment's flow [packed pixels] and of its four moments."""

    flow_px: float
    moments: tuple[float, float, float, float]


@dataclass(frozen=True)
class Scales:
    """What the standardised targets are multiplied by to be physical again; motion is that of all data together."""

    flow_px: float
    moments: tuple[float, float, float, float]
    position_mean_m: Triple
    position_m: Triple
    displacement_gain: float


def measure(packs: Sequence[Pack], chosen: Sequence[NDArray[np.bool_]]) -> tuple[Scales, dict[str, Motion]]:
    """Scales of all data, and how each embodiment moves, over the chosen frames (F,) of each pack.

    Positions are metres whatever the body, and share one scale; how far a body moves in its pictures is its own.
    """
    sums_12: dict[str, NDArray[np.float64]] = {}
    for pack, kept in zip(packs, chosen, strict=True):
        sums_12[pack.embodiment] = sums_12.get(pack.embodiment, np.zeros(12)) + _sums(pack, kept)
    motion = _motion(sum(sums_12.values(), np.zeros(12)))
    hand = np.concatenate(
        [np.where(c[:, None], positions(p, HAND), np.nan) for p, c in zip(packs, chosen, strict=True)]
    )
    valid = np.concatenate([p.valid_F & c for p, c in zip(packs, chosen, strict=True)])
    known = np.isfinite(hand[:, 0])
    mean, deviation, gain = np.zeros(3), np.ones(3), 1.0
    if known.any():
        mean, deviation = hand[known].mean(0), hand[known].std(0) + 1e-6
        steps = np.diff(hand / deviation, axis=0)[valid[:-1] & known[:-1] & known[1:]]
        gain = 1 / (float(steps.std()) + 1e-6) if len(steps) else 1.0
    scales = Scales(motion.flow_px, motion.moments, _triple(mean), _triple(deviation), gain)
    return scales, {name: _motion(found) for name, found in sums_12.items()}


def standardised(pack: Pack, scales: Scales, motion: Motion) -> NDArray[np.float32]:
    """What belongs to each frame of a pack besides picture and flow, (F, 4 + 3 + 3 · points), NaN where not known.

    Four moments, how the hand moves to the next frame, and the positions of the hand, of the object and along the arm.
    """
    mean, deviation = np.asarray(scales.position_mean_m), np.asarray(scales.position_m)
    thing = NEAREST if NEAREST in pack.columns else OBJECT
    found = np.column_stack([positions(pack, key) for key in (HAND, thing, ARM)])
    places_FP3 = ((found.reshape(len(found), -1, 3) - mean) / deviation).astype(np.float32)
    step_F3 = np.full((len(found), 3), np.nan, np.float32)
    step_F3[:-1] = np.diff(places_FP3[:, 0], axis=0) * np.float32(scales.displacement_gain)
    if ARM in pack.columns:  # depth counts from a shoulder that the picture does not show
        places_FP3[np.isnan(places_FP3[:, 2, 0]), :, 2] = np.nan
    moments = pack.moments_F / np.asarray(motion.moments)
    return np.column_stack([moments, step_F3, places_FP3.reshape(found.shape)]).astype(np.float32)


def positions(pack: Pack, key: str) -> NDArray[np.float32]:
    """A position column of a pack (F, 3 · points) [m], NaN where the dataset has none or the picture does not show it.

    One camera cannot tell a small scene nearby from a large one far away. Where the focal length is known, every
    episode is therefore scaled to where the hand is on average at the standard distance. Depth then counts from the
    shoulder, which the picture shows, or, where that is not known, from the hand's mean.
    """
    num, width = len(pack.frames_FYXC), 3 * (ARM_POINTS if key == ARM else 1)
    if key not in pack.columns:
        return np.full((num, width), np.nan, np.float32)
    places_FP3 = np.array(pack.columns[key], np.float32).reshape(num, -1)[:, :width].reshape(num, -1, 3)
    if FOCAL not in pack.columns or HAND not in pack.columns:
        return places_FP3.reshape(num, -1)
    focal_F1 = np.asarray(pack.columns[FOCAL], np.float32).reshape(-1, 1)
    shown_FP = np.abs(places_FP3[..., :2]).max(axis=-1) * focal_F1 <= np.maximum(places_FP3[..., 2], 1e-3)
    depth_F = _mean_depth(pack, HAND)
    places_FP3[..., 2] -= (_mean_depth(pack, ARM) if ARM in pack.columns else depth_F)[:, None]
    places_FP3 *= (STANDARD_M * focal_F1 / depth_F[:, None])[..., None]
    shown_FP &= np.abs(places_FP3).max(axis=-1) <= _FARTHEST_M
    return np.where(shown_FP[..., None], places_FP3, np.float32(np.nan)).reshape(num, -1)


def _mean_depth(pack: Pack, key: str) -> NDArray[np.float32]:
    """How far from the camera a column's (first) point is on average over each frame's episode, (F,) [m]."""
    depth_F = np.asarray(pack.columns[key], np.float32).reshape(len(pack.frames_FYXC), -1)[:, 2]
    lengths = np.diff(pack.starts)
    return np.repeat(np.add.reduceat(depth_F, pack.starts[:-1]) / lengths, lengths).astype(np.float32)


def _sums(pack: Pack, kept_F: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Counts, sums and sums of squares of flow and of each moment, over the transitions that start on kept frames."""
    sums_12 = np.zeros(12)
    for first in range(0, len(kept_F), _PIECE):
        piece = slice(first, first + _PIECE)
        counted = pack.valid_F[piece] & kept_F[piece]
        flow = pack.flow_F[piece][counted].astype(np.float32)
        moments = pack.moments_F[piece][counted].astype(np.float64)
        sums_12[:4] += flow.size, len(moments), flow.sum(dtype=np.float64), float(np.vdot(flow, flow))
        sums_12[4:] += *moments.sum(axis=0), *np.square(moments).sum(axis=0)
    return sums_12


def _motion(sums_12: NDArray[np.float64]) -> Motion:
    entries, count = np.maximum(sums_12[:2], 1)
    totals, squares = sums_12[[2, 4, 5, 6, 7]], sums_12[[3, 8, 9, 10, 11]]
    counts = np.array([entries, *[count] * 4])
    flow, *moments = np.sqrt(np.maximum(squares / counts - (totals / counts) ** 2, 0)) + 1e-6
    return Motion(float(flow), (float(moments[0]), float(moments[1]), float(moments[2]), float(moments[3])))


def _triple(values: NDArray[np.floating]) -> Triple:
    x, y, z = (float(v) for v in values)
    return x, y, z
