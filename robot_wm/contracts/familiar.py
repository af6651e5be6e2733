"""What a body's calibration log looked like, in numbers small enough for controller.json."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.errors import UserError

_MOST_VALUES = 1 << 20


@dataclass(frozen=True)
class Spread:
    """How a log's latents are spread, and how far others are from them: for export and for a running robot alike.

    Attributes:
        mean, directions, rest: as in Familiar, as arrays.
    """

    mean: NDArray[np.float64]
    directions: NDArray[np.float64]
    rest: float

    def distances(self, z_ND: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far latents are, (N,), not yet in units of `Familiar.farthest`."""
        away_ND = z_ND - self.mean
        along_NR = away_ND @ self.directions.T
        left_N = np.maximum(np.square(away_ND).sum(1) - np.square(along_NR) @ self._along_2_R, 0.0)
        num_left = max(z_ND.shape[1] - len(self.directions), 1)
        near_N = np.square(along_NR).sum(1) + left_N / (num_left * self.rest**2)
        return np.asarray(np.sqrt(near_N / (len(self.directions) + 1)))

    @cached_property
    def _along_2_R(self) -> NDArray[np.float64]:
        return np.asarray(1 / np.square(self.directions).sum(1))


@dataclass(frozen=True)
class Familiar:
    """Statistics of a calibration log, against which a running robot is compared.

    An image is as far from the log as its latent is: along `directions` in units of the log's own spread, and off them
    in units of `rest`. A model step ends as far from expectation as proprio is from what a linear fit of the log makes
    of the commands of this model step and the one before.

    Attributes:
        mean: of the log's latents, (D,).
        directions: (R, D); each scaled so that the log's spread along it is 1.
        rest: spread of what the directions leave, per entry.
        farthest: distance that only a stated share of images like the log's exceed, each judged by statistics of other
            episodes (deploy.export.familiarity). In bundles of earlier versions: the largest in a quarter of the log.
        step: (P, 2 · K · U + P + 1): change of proprio over a model step from the commands of two steps, oldest first,
            proprio at its start, and 1.
        worst: largest error of each entry of that, (P,), in a part of the log that the fit knows nothing of.
    """

    mean: tuple[float, ...]
    directions: tuple[tuple[float, ...], ...]
    rest: float
    farthest: float
    step: tuple[tuple[float, ...], ...]
    worst: tuple[float, ...]

    def check(self, latent_dim: int, num_proprio: int, chunk_size: int) -> None:
        """Raise UserError unless everything has the shape that belongs to such a controller, and spreads are positive.

        Args:
            latent_dim: D.
            num_proprio: P.
            chunk_size: K · U.
        """
        rows = {
            "mean": ((self.mean,), latent_dim),
            "directions": (self.directions, latent_dim),
            "step": (self.step, 2 * chunk_size + num_proprio + 1),
            "worst": ((self.worst,), num_proprio),
        }
        for name, (found, length) in rows.items():
            lengths = sorted({len(row) for row in found})
            if lengths != [length] or len(found) * length > _MOST_VALUES:
                raise UserError(f"bundle: familiar.{name} has rows of {lengths} values", f"It takes {length}")
        if len(self.step) != num_proprio:
            raise UserError(f"bundle: familiar.step has {len(self.step)} rows", f"It takes {num_proprio}")
        for name, values in (("rest", (self.rest,)), ("farthest", (self.farthest,)), ("worst", self.worst)):
            if not all(np.isfinite(value) and value > 0 for value in values):
                raise UserError(f"bundle: familiar.{name} is {values}", "It must be positive; export again")
        if any(not np.any(row) for row in self.directions):
            raise UserError("bundle: a row of familiar.directions is zero", "Export again")
