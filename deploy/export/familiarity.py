"""What a calibration log looked like: the statistics by which a running robot knows what it has never seen."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from robot_wm import console
from robot_wm.contracts.dataset import ACTION, STATE
from robot_wm.contracts.familiar import Familiar
from robot_wm.contracts.run import dataset_folder
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.planning.controllable import Controllable

_MOST_IMAGES = 400
_MOST_DIRECTIONS = 16
_HELD_OUT = 0.25  # share of the log that statistics do not rest on, and extremes are taken from
_FEWEST = 16  # model steps, and images, that say anything
_BATCH = 32
_RIDGE = 1e-3  # against directions in which the log's commands hardly differ, in units of their spread
_LEAST = 1e-6  # of any spread: a sensor that never changed

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Images:
    """The part of Familiar that is about latents."""

    mean: Array
    directions: Array
    rest: float
    farthest: float


def measure(controllable: Controllable, log: Path, seed: int = 0) -> Familiar | None:
    """Statistics of the log that calibrated a body; None if it is too short to say anything.

    Args:
        controllable: the body.
        log: a dataset, or the run that recorded it.
        seed: of what is held out.
    """
    dataset = LeRobotDataset(dataset_folder(log))
    skip, episodes = controllable.command.frame_skip, range(dataset.num_episodes)
    num = sum(max(0, dataset.episode_length(episode) // skip - 1) for episode in episodes)
    if num < _FEWEST:
        return None
    rng = np.random.default_rng(seed)
    pieces = [_piece(dataset, episode, skip) for episode in episodes]
    inputs, changes = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    step, worst = fit_steps(inputs, changes, np.arange(len(inputs)) < (1 - _HELD_OUT) * len(inputs))
    latents = _latents(controllable, dataset, skip * max(1, num // _MOST_IMAGES))
    images = fit_images(latents, rng.random(len(latents)) >= _HELD_OUT)
    return Familiar(
        tuple(images.mean.tolist()),
        tuple(tuple(row) for row in images.directions.tolist()),
        images.rest,
        images.farthest,
        tuple(tuple(row) for row in step.tolist()),
        tuple(worst.tolist()),
    )


def fit_steps(inputs_NF: Array, changes_NP: Array, seen_N: NDArray[np.bool_]) -> tuple[Array, Array]:
    """The linear fit (P, F) of what was seen, and its largest error of each entry on the others, (P,)."""
    scale_F = np.maximum(inputs_NF[seen_N].std(0), _LEAST)
    scale_F[-1] = 1.0  # of the constant
    scaled_NF = inputs_NF[seen_N] / scale_F
    ridge_FF = _RIDGE * len(scaled_NF) * np.diag([*np.ones(len(scale_F) - 1), 0.0])
    weights_FP = np.linalg.solve(scaled_NF.T @ scaled_NF + ridge_FF, scaled_NF.T @ changes_NP[seen_N])
    weights_FP = weights_FP / scale_F[:, None]
    errors_NP = np.abs(inputs_NF[~seen_N] @ weights_FP - changes_NP[~seen_N])
    return weights_FP.T, np.maximum(errors_NP.max(0), _LEAST)


def fit_images(z_ND: Array, seen_N: NDArray[np.bool_]) -> Images:
    """Mean, scaled directions and what they leave of the latents seen, and the farthest of the others."""
    mean_D, size = z_ND[seen_N].mean(0), z_ND.shape[1]
    _, spread_R, rows_RD = np.linalg.svd(z_ND[seen_N] - mean_D, full_matrices=False)
    spread_R = spread_R / np.sqrt(seen_N.sum())
    num = max(1, min(_MOST_DIRECTIONS, int((spread_R > 1e-3 * spread_R[0]).sum()), size - 1))
    rows_RD = rows_RD[:num]
    directions_RD = rows_RD / np.maximum(spread_R[:num, None], _LEAST)
    away_ND = z_ND - mean_D
    left_N = np.square(away_ND - away_ND @ rows_RD.T @ rows_RD).sum(1) / (size - num)
    rest = max(float(np.sqrt(left_N[seen_N].mean())), _LEAST)
    distance_N = np.sqrt((np.square(away_ND @ directions_RD.T).sum(1) + left_N / rest**2) / (num + 1))
    return Images(mean_D, directions_RD, rest, float(distance_N[~seen_N].max()))


def _piece(dataset: LeRobotDataset, episode: int, skip: int) -> tuple[Array, Array]:
    """Inputs (N, 2 · K · U + P + 1) and changes of proprio (N, P) of every model step within an episode."""
    columns = dataset.columns(episode)
    action, state = (columns[key].reshape(len(columns[key]), -1).astype(np.float64) for key in (ACTION, STATE))
    starts = np.arange(skip, max(skip, len(state) - skip))
    commands = action[starts[:, None] + np.arange(-skip, skip)].reshape(len(starts), 2 * skip * action.shape[1])
    before = state[starts]
    return np.hstack([commands, before, np.ones((len(starts), 1))]), state[starts + skip] - before


@torch.no_grad()
def _latents(controllable: Controllable, dataset: LeRobotDataset, stride: int) -> Array:
    """Latents of images from all over the log, (N, D)."""
    camera = controllable.embodiment.camera
    found = []
    for episode in console.track(range(dataset.num_episodes), "export (look at the log)"):
        rows = np.arange(0, dataset.episode_length(episode), stride)
        frames = dataset.frames_at(episode, rows, camera.name, (camera.height, camera.width))
        for start in range(0, len(frames), _BATCH):
            found.append(controllable.encoder(torch.from_numpy(frames[start : start + _BATCH])).numpy())
    return np.concatenate(found).astype(np.float64)
