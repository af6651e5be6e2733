"""Whether a world model is surprised by what cannot be: the violation-of-expectation test."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from robot_wm.evaluation.statistics import Interval, wilson
from robot_wm.models.world_model import WorldModel


@dataclass(frozen=True)
class Seen:
    """What a clip was to a model and to the eye, every figure over all of its transitions.

    Frames that two clips share count alike in both, so that they cancel where the clips are compared. A maximum does
    not have that: where it falls into the shared part the clips tie, whatever happens afterwards.

    Attributes:
        surprise: mean absolute error of the predicted latents: what Garrido et al. (arXiv:2502.11831) compare the two
            clips of a pair by. An impossible clip may have more of it only because more happens in it.
        unexplained: squared error of the predicted latents over that of copying the latent before, summed over the
            clip (one minus the skill score of Murphy, 1988): the share of what changed that no latent action of the
            labeler explains. It does not grow with the amount of change. 1 where nothing changes at all.
        change: mean absolute change of the latent, what a model without any dynamics would be surprised by.
        pixels: mean absolute change of the pixels.
    """

    surprise: float
    unexplained: float
    change: float
    pixels: float


@torch.no_grad()
def watch(model: WorldModel, frames_TYXC: NDArray[np.uint8]) -> Seen:
    """Let a model watch a clip.

    The latent action is what the labeler infers, since video has no commands: what is left is what no action of the
    body explains. Errors are not divided by the error that the model expects: it is learned from the same clips, and
    follows the motion that it sees.

    Raises:
        ValueError: fewer than two frames.
    """
    if len(frames_TYXC) < 2:
        raise ValueError("a clip has two frames or more")
    z_BTD = model.encode(torch.from_numpy(np.ascontiguousarray(frames_TYXC))[None])
    actions = torch.tanh(model.infer(z_BTD)[0]).flatten(0, 1)
    predicted_ND, _ = model.predict(model.histories(z_BTD)[:, :-1].flatten(0, 1), actions)
    error_ND, change_ND = predicted_ND - z_BTD[0, 1:], z_BTD[0, 1:] - z_BTD[0, :-1]
    changed = float(change_ND.square().sum())
    return Seen(
        surprise=float(error_ND.abs().mean()),
        unexplained=float(error_ND.square().sum()) / changed if changed else 1.0,
        change=float(change_ND.abs().mean()),
        pixels=float(np.abs(np.diff(frames_TYXC.astype(np.int16), axis=0)).mean()),
    )


@dataclass(frozen=True)
class Accuracy:
    """Share of pairs in which the impossible clip scored higher, Wilson 95 %; chance is one half where none tie."""

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
