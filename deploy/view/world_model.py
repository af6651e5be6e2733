"""A world model: its rollouts beside the truth, what its latents tell, and what its latent actions do."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deploy.report import sections
from deploy.report.media import Picture, picture
from deploy.view import page
from robot_wm import api, console
from robot_wm.contracts.dataset import HAND, OBJECT, STATE
from robot_wm.contracts.errors import UserError
from robot_wm.data.grid import Grid
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.evaluation.probes import fit_probe, judge
from robot_wm.page.plot import Quantity, prediction_error

_EPISODES, _STEPS, _TILE = 48, 20, 96  # at most, of a dataset; model steps of each; pixels of a picture
_AHEAD, _STRIPS, _BODIES = 6, 4, 3
_PUSH, _PUSHED_STEPS = 0.8, 3
_ERROR = (
    "How far the predicted latent is from that of the frame that came (entries have about unit variance), by how far "
    "ahead the model looks; beside it the error of assuming that nothing changes."
)
_CAUTION = "If it was trained on these episodes, what follows says what it holds, not how well it transfers."
_PROBED = {HAND: "place of the hand [m]", OBJECT: "place of the first object [m]", STATE: "proprio"}


@dataclass(frozen=True)
class Strip:
    """What came and what was predicted, step by step."""

    episode: int
    truth: tuple[Picture, ...]
    predicted: tuple[Picture, ...]


@dataclass(frozen=True)
class Clip:
    """One episode at the model's rate: pictures, latents, latent actions, and columns that a probe may read."""

    episode: int
    frames_TYXC: NDArray[np.uint8]
    z_TD: NDArray[np.float32]
    a_TA: NDArray[np.float32]
    columns: dict[str, NDArray[np.float64]]


def write(path: Path, run: Path, model: api.PretrainedModel, data: Path) -> Path:
    """Write the page about a world model, shown on a dataset; returns `path`.

    Args:
        path: the page.
        run: the run folder of the model, for its training curves.
        model: the model.
        data: dataset whose frames it is shown on.

    Raises:
        UserError: no episode of the dataset is long enough to predict anything.
    """
    clips = _clips(model, LeRobotDataset(data))
    error_H, copy_H = _errors(model, clips)
    drawn = prediction_error(error_H, copy_H, model.step_s, Quantity("latent", "RMS", 1.0))
    return page.write(
        path, "world_model.html",
        kind="A world model", title="shipped with the package" if run.name == "pretrained" else run.name,
        beside=[f"Shown on {len(clips)} episodes of {data}, one frame every {model.step_s:g} s.",
                _CAUTION],
        strips=[_strip(model, clip, clips) for clip in _spread(clips, _STRIPS)],
        ahead_s=[model.step_s * (h + 1) for h in range(_AHEAD)],
        prediction=replace(drawn, caption=_ERROR),
        probes=_probes(clips), fitted=len(clips[::2]), scatter=_scatter(clips),
        pushes=[_pushes(model, clip) for clip in _spread(clips, _BODIES)], action_dim=model.action_dim, push=_PUSH,
        pushed_s=_PUSHED_STEPS * model.step_s, curves=sections.curves(run),
    )  # fmt: skip


def _clips(model: api.PretrainedModel, dataset: LeRobotDataset) -> list[Clip]:
    grid, least = Grid.of(dataset.info.fps, model.step_s, dataset.path.name), model.history + _AHEAD
    long_enough = [e for e in range(dataset.num_episodes) if len(grid.rows(dataset.episode_length(e))) >= least]
    if not long_enough:
        raise UserError(
            f"no episode of {dataset.path} lasts {least} steps of {model.step_s:g} s",
            "Give a dataset of longer episodes",
        )
    found = []
    for episode in console.track(_spread(long_enough, _EPISODES), "view"):
        rows = grid.rows(dataset.episode_length(episode))[:_STEPS]
        frames = dataset.frames_at(episode, rows, size=(_TILE, _TILE))
        z_TD = model.encode(frames)
        keys = [key for key in _PROBED if key in dataset.info.features]
        columns = {key: values[rows].astype(float) for key, values in dataset.columns(episode, keys).items()}
        found.append(Clip(episode, frames, z_TD, model.infer(z_TD), columns))
    return found


def _errors(model: api.PretrainedModel, clips: Sequence[Clip]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Root mean squared error of the latent by steps ahead, (H,): predicted, and if nothing changed."""
    start = model.history
    error, copied = [], []
    for clip in clips:
        truth_HD = clip.z_TD[start : start + _AHEAD]
        error.append(np.square(_rollout(model, clip) - truth_HD).mean(1))
        copied.append(np.square(clip.z_TD[start - 1] - truth_HD).mean(1))
    return np.sqrt(np.mean(error, axis=0)).astype(float), np.sqrt(np.mean(copied, axis=0)).astype(float)


def _rollout(model: api.PretrainedModel, clip: Clip) -> NDArray[np.float32]:
    """Predicted on its own for H steps, given the latent actions that the labeler saw, (H, D)."""
    start = model.history
    return model.predict(clip.z_TD[:start], clip.a_TA[start - 1 : start - 1 + _AHEAD])


def _strip(model: api.PretrainedModel, clip: Clip, clips: Sequence[Clip]) -> Strip:
    latents = np.concatenate([c.z_TD for c in clips])
    frames = np.concatenate([c.frames_TYXC for c in clips])
    nearest = [int(np.square(latents - z_D).mean(1).argmin()) for z_D in _rollout(model, clip)]
    start = model.history
    return Strip(
        clip.episode,
        tuple(picture(f, f"Frame {h + 1} that came") for h, f in enumerate(clip.frames_TYXC[start : start + _AHEAD])),
        tuple(picture(frames[i], f"Frame nearest to prediction {h + 1}") for h, i in enumerate(nearest)),
    )


def _probes(clips: Sequence[Clip]) -> list[tuple[str, float, float]]:
    """What a linear map reads from a latent: in words, R² and median error, fitted on every other episode."""
    found = []
    fitted, judged = clips[::2], clips[1::2]
    for key, what in _PROBED.items():
        if not judged or key not in clips[0].columns:
            continue
        z = [torch.from_numpy(np.concatenate([c.z_TD for c in part])) for part in (fitted, judged)]
        y = [torch.tensor(np.concatenate([c.columns[key] for c in part]).reshape(len(x), -1)).float() for part, x in
             zip((fitted, judged), z, strict=True)]  # fmt: skip
        if y[0].isnan().all():
            continue
        result = judge(fit_probe(z[0], y[0])(z[1]), y[1])
        found.append((what, result.r2, result.median))
    return found


def _scatter(clips: Sequence[Clip]) -> dict[str, Any]:
    """Latent actions on their two widest directions, and in which quarter the change of the latent was (0 to 3)."""
    actions = np.concatenate([c.a_TA for c in clips])
    change = np.concatenate([np.linalg.norm(np.diff(c.z_TD, axis=0), axis=1) for c in clips])
    centred = actions - actions.mean(0)
    _, spread, directions = np.linalg.svd(centred, full_matrices=False)
    share = np.square(spread) / max(float(np.square(spread).sum()), 1e-12)
    flat = centred @ directions[:2].T
    reach = max(float(np.abs(flat).max()), 1e-6)
    bins = np.searchsorted(np.quantile(change, (0.25, 0.5, 0.75)), change)
    shown = np.unique(np.linspace(0, len(flat) - 1, min(len(flat), 600)).astype(int))
    x, y = 200 + 180 * flat[:, 0] / reach, 200 - 180 * flat[:, 1] / reach
    return {
        "points": [(f"{x[i]:.1f}", f"{y[i]:.1f}", int(bins[i])) for i in shown],
        "share": [round(100 * float(s)) for s in share[:2]],
        "count": len(actions),
    }


def _pushes(model: api.PretrainedModel, clip: Clip) -> dict[str, Any]:
    """From the start of an episode, one entry of the latent action held at either side: the nearest of its frames."""
    rows = []
    for entry in range(model.action_dim):
        shown = []
        for sign in (-1, 1):
            actions = np.zeros((_PUSHED_STEPS, model.action_dim), np.float32)
            actions[:, entry] = sign * _PUSH
            end_D = model.predict(clip.z_TD[:1], actions)[-1]
            nearest = int(np.square(clip.z_TD - end_D).mean(1).argmin())
            moved = float(np.sqrt(np.square(end_D - clip.z_TD[0]).mean()))
            alt = f"Frame nearest to where entry {entry} at {sign * _PUSH:+g} leads"
            shown.append((picture(clip.frames_TYXC[nearest], alt, quality=75), moved))
        rows.append((entry, shown))
    start = picture(clip.frames_TYXC[0], f"First frame of episode {clip.episode}")
    return {"episode": clip.episode, "start": start, "rows": rows}


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """Up to `most` of the items, evenly chosen."""
    return [items[int(i)] for i in np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).astype(int))]
