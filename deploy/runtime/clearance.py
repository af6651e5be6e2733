"""How far the parts of a body are from each other, from its joints alone."""

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.solids import Solids

Array = NDArray[np.float64]
_POINT = 1e-12  # a segment whose squared length is below is a point; likewise of an angle between two


class Clearance:
    """Distances between the capsules of `solids` that must stay apart."""

    def __init__(self, solids: Solids):
        self._joints = solids.joints
        self._rotations = [np.reshape(joint.rotation, (3, 3)) for joint in solids.joints]
        self._crosses = [_cross(np.asarray(joint.axis)) for joint in solids.joints]
        self._links = np.array([part.link + 1 for part in solids.capsules], dtype=int)
        ends = [(part.start_m, part.end_m) for part in solids.capsules]
        self._ends_C23 = np.asarray(ends, dtype=np.float64).reshape(-1, 2, 3)
        self._pairs_M2 = np.asarray(solids.pairs, dtype=int).reshape(-1, 2)
        radii = np.array([part.radius_m for part in solids.capsules], dtype=np.float64)
        self._radii_M = radii[self._pairs_M2].sum(1)
        self._moved = self._links > 0
        self._radii_C11 = radii[:, None, None]

    def between(self, proprio_SP: Array) -> Array:
        """Distance of each pair [m] in each of several poses, (S, M); negative where they overlap."""
        ends_SC23 = self._places(proprio_SP)
        one, other = (ends_SC23[:, self._pairs_M2[:, side]] for side in (0, 1))
        return _apart(one[:, :, 0], one[:, :, 1], other[:, :, 0], other[:, :, 1]) - self._radii_M

    def least(self, proprio_SP: Array) -> float:
        """The smallest distance of any pair in any of the poses [m]; infinite where there is nothing to watch."""
        return float(self.between(proprio_SP).min(initial=np.inf))

    def leaves(self, proprio_SP: Array, low_m: Array, high_m: Array) -> bool:
        """Whether a part that a joint moves is outside of a box, its corners (3,) in the base's frame, in any pose."""
        ends, radii = self._places(proprio_SP)[:, self._moved], self._radii_C11[self._moved]
        return bool((ends - radii < low_m).any() or (ends + radii > high_m).any())

    def _places(self, proprio_SP: Array) -> Array:
        """Both ends of every capsule, (S, C, 2, 3) [m]."""
        turns, origins = self._frames(proprio_SP)
        ends_SC23: Array = np.einsum("csij,ckj->scki", turns[self._links], self._ends_C23)
        return ends_SC23 + origins[self._links].transpose(1, 0, 2)[:, :, None]

    def _frames(self, proprio_SP: Array) -> tuple[Array, Array]:
        """Rotations (1 + L, S, 3, 3) and origins (1 + L, S, 3) in the base's frame, which comes first."""
        num = len(proprio_SP)
        turns, origins = [np.broadcast_to(np.eye(3), (num, 3, 3))], [np.zeros((num, 3))]
        for joint, R, cross in zip(self._joints, self._rotations, self._crosses, strict=True):
            moved_S = proprio_SP[:, joint.entry].astype(np.float64) - joint.zero
            if joint.joint == "hinge":  # Rodrigues' formula
                angle_S11 = moved_S[:, None, None]
                turn_S33 = np.eye(3) + np.sin(angle_S11) * cross + (1 - np.cos(angle_S11)) * (cross @ cross)
                anchor = np.asarray(joint.anchor_m)
                shift_S3 = anchor - turn_S33 @ anchor  # the anchor stays where it is
            else:
                turn_S33, shift_S3 = np.broadcast_to(np.eye(3), (num, 3, 3)), moved_S[:, None] * np.asarray(joint.axis)
            above, origin = turns[joint.parent + 1], origins[joint.parent + 1]
            place_S3 = np.asarray(joint.position_m) + shift_S3 @ R.T
            origins.append(origin + (above @ place_S3[:, :, None])[:, :, 0])
            turns.append(above @ (R @ turn_S33))
        return np.stack(turns), np.stack(origins)


def _apart(p: Array, p_end: Array, q: Array, q_end: Array) -> Array:
    """Distances between segments (…, 3) (Ericson, Real-Time Collision Detection, 2005, section 5.1.9)."""
    along, across, away = p_end - p, q_end - q, p - q
    a, e, b = ((u * v).sum(-1) for u, v in ((along, along), (across, across), (along, across)))
    c, f = (along * away).sum(-1), (across * away).sum(-1)
    a_or_1, e_or_1 = np.where(a > _POINT, a, 1.0), np.where(e > _POINT, e, 1.0)
    sine = a * e - b * b
    crossing = sine > _POINT * a * e
    s = np.where(crossing, np.clip((b * f - c * e) / np.where(crossing, sine, 1.0), 0, 1), 0.0)
    t = np.clip((b * s + f) / e_or_1, 0, 1) * (e > _POINT)
    s = np.clip((b * t - c) / a_or_1, 0, 1) * (a > _POINT)  # nearest to where the other segment was cut off
    return np.linalg.norm(away + s[..., None] * along - t[..., None] * across, axis=-1)


def _cross(axis: Array) -> Array:
    x, y, z = axis
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
