"""Whether a world model is surprised by what cannot be: the violation-of-expectation test."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from robot_wm.evaluation.statistics import Interval, wilson
from robot_wm.models.world_model import WorldModel


@torch.no_grad()
def surprise(model: WorldModel, frames_TYXC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Of every transition of a clip, (T - 1,): squared error of the predicted latent over the error expected.

    The latent action is what the labeler infers, since video has no commands: what is left is what no action of the
    body explains.
    """
    z_BTD = model.encode(torch.from_numpy(np.ascontiguousarray(frames_TYXC))[None])
    actions = torch.tanh(model.infer(z_BTD)[0]).flatten(0, 1)
    predicted, log_error = model.predict(model.histories(z_BTD)[:, :-1].flatten(0, 1), actions)
    error_N = (predicted - z_BTD[0, 1:]).square().mean(-1)
    return np.asarray((error_N / log_error.exp()).double())


def pixel_change(frames_TYXC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean absolute difference of consecutive frames, (T - 1,): what the test is to be read beside."""
    return np.abs(np.diff(frames_TYXC.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))


@dataclass(frozen=True)
class Accuracy:
    """Share of pairs in which the impossible clip scored higher, Wilson 95 %; chance is one half."""

    right: int
    pairs: int
    interval: Interval


def accuracy(possible: Sequence[float], impossible: Sequence[float]) -> Accuracy:
    """Compare clip by clip; a tie counts as wrong.

    Raises:
        ValueError: no pairs, or unequal numbers.
    """
    right = sum(b > a for a, b in zip(possible, impossible, strict=True))
    return Accuracy(right, len(possible), wilson(right, len(possible)))
