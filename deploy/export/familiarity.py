"""What a calibration log looked like: the statistics by which a running robot knows what it has never seen."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from robot_wm import console
from robot_wm.contracts.dataset import ACTION, STATE
from robot_wm.contracts.familiar import Familiar, Spread
from robot_wm.contracts.run import dataset_folder
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.planning.controllable import Controllable

_MOST_IMAGES = 500  # of long logs up to twice as many, since every k-th frame is taken
_FALSE_ALARMS = 0.002  # share of images like the log's that may count as unfamiliar: one in 500
_FOLDS = 5
_MOST_DIRECTIONS = 16
_HELD_OUT = 0.25  # share of the log's model steps that their fit does not rest on, and the worst is taken from
_FEWEST = 16  # model steps, and images, that say anything
_BATCH = 32
_RIDGE = 1e-3  # against directions in which the log's commands hardly differ, in units of their spread
_LEAST = 1e-6  # of any spread: a sensor that never changed

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Images(Spread):
    """The part of Familiar that is about latents."""

    farthest: float


def measure(controllable: Controllable, log: Path) -> Familiar | None:
    """Statistics of the log that calibrated a body; None if it is too short to say anything.

    Args:
        controllable: the body.
        log: a dataset, or the run that recorded it.
    """
    dataset = LeRobotDataset(dataset_folder(log))
    skip, episodes = controllable.command.frame_skip, range(dataset.num_episodes)
    num = sum(max(0, dataset.episode_length(episode) // skip - 1) for episode in episodes)
    if num < _FEWEST:
        return None
    pieces = [_piece(dataset, episode, skip) for episode in episodes]
    inputs, changes = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    step, worst = fit_steps(inputs, changes, np.arange(len(inputs)) < (1 - _HELD_OUT) * len(inputs))
    latents_ED = _latents(controllable, dataset, skip * max(1, num // _MOST_IMAGES))
    images = fit_images(np.concatenate(latents_ED), np.repeat(episodes, [len(z_ND) for z_ND in latents_ED]))
    rate = max(_FALSE_ALARMS, 1 / (sum(map(len, latents_ED)) + 1))
    console.say(
        f"export: of images like the log's one in {1 / rate:.0f} will count as unfamiliar (safety.max_surprise 1)"
    )
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


def fit_images(z_ND: Array, episode_N: NDArray[np.int64]) -> Images:
    """Statistics of a log's latents, and the distance that one in 1 / `_FALSE_ALARMS` images like them exceeds.

    Every image is judged by statistics of other episodes (of other stretches of time, where there are few), and
    `farthest` is the conformal quantile of these distances: of n images the one of rank ⌈(n + 1) (1 - rate)⌉
    (Vovk, Gammerman & Shafer, 2005; cross-conformal: Vovk, 2015). A log of fewer than 1 / rate - 1 images gives the
    farthest of them, which one in n + 1 exceeds. The promise is for episodes drawn as the log's were.

    Args:
        z_ND: latents in the order of the log.
        episode_N: which episode each belongs to, ascending.
    """
    num = len(z_ND)
    group_N = np.unique(episode_N, return_inverse=True)[1] if len(np.unique(episode_N)) >= _FOLDS else np.arange(num)
    fold_N = group_N * _FOLDS // (group_N.max() + 1)
    distance_N = np.empty(num)
    for fold in range(_FOLDS):
        held_out_N = fold_N == fold
        distance_N[held_out_N] = _spread(z_ND[~held_out_N]).distances(z_ND[held_out_N])
    rank = min(math.ceil((num + 1) * (1 - _FALSE_ALARMS)), num)
    return replace(_spread(z_ND), farthest=max(float(np.sort(distance_N)[rank - 1]), _LEAST))


def _spread(z_ND: Array) -> Images:
    """Mean, scaled directions and what they leave of latents."""
    mean_D, size = z_ND.mean(0), z_ND.shape[1]
    _, spread_R, rows_RD = np.linalg.svd(z_ND - mean_D, full_matrices=False)
    spread_R = spread_R / np.sqrt(len(z_ND))
    num = max(1, min(_MOST_DIRECTIONS, int((spread_R > 1e-3 * spread_R[0]).sum()), size - 1))
    directions_RD = rows_RD[:num] / np.maximum(spread_R[:num, None], _LEAST)
    away_ND = z_ND - mean_D
    left_ND = away_ND - away_ND @ rows_RD[:num].T @ rows_RD[:num]
    rest = max(float(np.sqrt(np.square(left_ND).sum(1).mean() / max(size - num, 1))), _LEAST)
    return Images(mean_D, directions_RD, rest, 1.0)


def _piece(dataset: LeRobotDataset, episode: int, skip: int) -> tuple[Array, Array]:
    """Inputs (N, 2 · K · U + P + 1) and changes of proprio (N, P) of every model step within an episode."""
    columns = dataset.columns(episode)
    action, state = (columns[key].reshape(len(columns[key]), -1).astype(np.float64) for key in (ACTION, STATE))
    starts = np.arange(skip, max(skip, len(state) - skip))
    commands = action[starts[:, None] + np.arange(-skip, skip)].reshape(len(starts), 2 * skip * action.shape[1])
    before = state[starts]
    return np.hstack([commands, before, np.ones((len(starts), 1))]), state[starts + skip] - before


@torch.no_grad()
def _latents(controllable: Controllable, dataset: LeRobotDataset, stride: int) -> list[Array]:
    """Latents of images from all over the log, (N, D) per episode."""
    camera = controllable.embodiment.camera
    found = []
    for episode in console.track(range(dataset.num_episodes), "export (look at the log)"):
        rows = np.arange(0, dataset.episode_length(episode), stride)
        frames = dataset.frames_at(episode, rows, camera.name, (camera.height, camera.width))
        parts = [frames[start : start + _BATCH] for start in range(0, len(frames), _BATCH)]
        found.append(np.concatenate([controllable.encoder(torch.from_numpy(part)).numpy() for part in parts]))
    return [z_ND.astype(np.float64) for z_ND in found]
