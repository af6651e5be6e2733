"""A real humanoid: what its joints will measure, told from some of its log, on episodes that nothing was fitted to."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.adapter_fit import Calibrated, FitConfig, Windows, encode_all, make_windows
from calibration.candidate import Ground, fit_candidate
from calibration.response_fit import settle
from calibration.transitions import Transitions, load_transitions
from deploy.bench.bench import BenchConfig
from deploy.bench.result import Row
from robot_wm.contracts.dataset import ACTION, STATE
from robot_wm.contracts.embodiment import Camera, CommandSpace, Embodiment, Mjcf, Safety
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.models.adapter import AdapterConfig
from robot_wm.models.world_model import WorldModel
from robot_wm.planning.controllable import CalibrationFile
from robot_wm.training.checkpoint import load_world_model, model_run

_LOG, _CAMERA = "g1_bottle", "cam_high"
_TICKS = 6  # of 1/30 s per model step of 0.2 s
_HELD_OUT = 15  # the last episodes
_AHEAD = (1, 4, 8)  # model steps
_MOVES_RAD = 0.01  # deviation within an episode from which a joint counts as moving
_GAIN = 0.7  # to be reached: error as a share of the better reference's
_ALL = 10**9
_FROM_SCRATCH = FitConfig(encoder_steps=200, encoder_learning_rate=1e-3)

Errors = NDArray[np.float64]  # root of the mean square over the moving joints, one per entry of _AHEAD [rad]


@dataclass(frozen=True)
class Recording:
    """A log of a real robot without a model file: commands are targets of the joints that it measures."""

    dataset: LeRobotDataset
    embodiment: Embodiment
    command: CommandSpace
    names: tuple[str, ...]
    cache: Path

    def first(self, transitions: int, size: int) -> Transitions:
        """The first so many labelled transitions, frames at the encoder's size."""
        return load_transitions(
            self.dataset.path, self.embodiment, self.command, self.names, size, transitions, self.cache
        )


def humanoid(config: BenchConfig) -> list[Row]:
    """Joint angles of a real Unitree G1 ahead, beside what needs no model, from scratch, and all labels."""
    folder = Path(os.environ.get("ROBOT_WM_TEST_DATA", "../shared/data")) / _LOG
    if not folder.is_dir():
        return [Row("real G1: no recording found (ROBOT_WM_TEST_DATA)", None)]
    quick = config.size == "quick"
    recording = read_recording(folder, Path(config.out) / "cache")
    model, _ = load_world_model(model_run("shipped"))
    log = recording.first(_ALL, model.config.encoder.size)
    count = recording.dataset.num_episodes
    fitted, judged = np.arange(count - _HELD_OUT), np.arange(count - _HELD_OUT, count)
    windows = make_windows(log, model.config.history + _AHEAD[-1], judged)
    moving = np.mean([log.proprio_FP[log.episode_F == e].std(axis=0) for e in fitted], axis=0) > _MOVES_RAD
    judge = Judge(windows, torch.from_numpy(moving), model.config.history)
    rows = judge.rows("copying what is measured now", [judge.errors(judge.copied())])
    rows += judge.rows("constant velocity", [judge.errors(judge.drifted())])
    fit = replace(FitConfig(), steps=200) if quick else FitConfig()
    for transitions in (300,) if quick else (100, 300, 1000):
        part = recording.first(transitions, model.config.encoder.size)
        seeds = range(config.seed, config.seed + (1 if quick else 3))
        rows += _fits(f"{transitions} transitions", judge, [_ground(recording, model, part, fit, s) for s in seeds])
    if not quick:
        part = recording.first(1000, model.config.encoder.size)
        rows += _fits("1000, from scratch", judge, [_scratch(recording, part, config.seed)])
        rows += _fits("all labels, from scratch", judge, [_scratch(recording, _only(log, fitted), config.seed)])
    return rows


def read_recording(folder: Path, cache: Path) -> Recording:
    """The log as a body: limits and speeds are those that its commands show."""
    dataset = LeRobotDataset(folder)
    names = dataset.info.features[STATE].names or ()
    logged = [dataset.columns(e, (ACTION, STATE)) for e in range(dataset.num_episodes - _HELD_OUT)]
    actions = np.concatenate([columns[ACTION] for columns in logged])
    step = np.maximum(np.quantile(np.abs(np.diff(actions, axis=0)), 0.99, axis=0), 1e-3)
    low, high = actions.min(axis=0) - 0.01, actions.max(axis=0) + 0.01
    rate_hz = float(dataset.info.fps)
    command = CommandSpace("joint_position", names, "rad", tuple(low), tuple(high), tuple(step), _TICKS, rate_hz)
    embodiment = Embodiment(
        _LOG,
        Mjcf("none"),
        "joint_position",
        "none",
        Camera(_CAMERA),
        rate_hz,
        _TICKS,
        Safety(max_step=1.0),
        delay_s=_lag(logged) / rate_hz,
    )
    return Recording(dataset, embodiment, command, names, cache)


def _lag(logged: Sequence[dict[str, NDArray]]) -> int:
    """By how many rows the measured joints come closest to the commands."""

    def error(lag: int) -> float:
        away = [c[STATE][lag:] - c[ACTION][: len(c[ACTION]) - lag] for c in logged]
        return float(np.square(np.concatenate(away)).mean())

    return min(range(_TICKS + 1), key=error)


@dataclass(frozen=True)
class Judge:
    """Windows of the episodes kept out, the joints that move in the others, and how predictions of them do."""

    windows: Windows
    moving_P: Tensor
    history: int

    @property
    def measured_BLP(self) -> Tensor:
        return self.windows.proprio[self.windows.rows]

    def copied(self) -> Tensor:
        """What is measured now, for every step ahead (B, H, P)."""
        return self.measured_BLP[:, self.history - 1, None].expand(-1, _AHEAD[-1], -1)

    def drifted(self) -> Tensor:
        """The last change again and again, (B, H, P)."""
        now, before = self.measured_BLP[:, self.history - 1], self.measured_BLP[:, self.history - 2]
        return now[:, None] + torch.arange(1, _AHEAD[-1] + 1)[:, None] * (now - before)[:, None]

    @torch.no_grad()
    def predicted(self, calibrated: Calibrated, latents_FD: Tensor) -> Tensor:
        """What a calibrated model says, (B, H, P)."""
        body, rows, start = calibrated.body, self.windows.rows, self.history - 1
        _, states, _ = calibrated.rollout(
            latents_FD[rows],
            body.standardize(self.measured_BLP[:, start]),
            self.windows.reference[rows[:, start]],
            self.windows.chunks[rows][:, start:-1],
        )
        return states * body.proprio_std_P + body.proprio_mean_P

    def errors(self, predicted_BHP: Tensor) -> Errors:
        away = (predicted_BHP - self.measured_BLP[:, self.history :])[..., self.moving_P]
        found: Errors = away.square().mean(dim=(0, 2)).sqrt().double().numpy()[[k - 1 for k in _AHEAD]]
        return found

    def rows(self, name: str, found: Sequence[Errors], needed: bool = False) -> list[Row]:
        """One row per step ahead: mean over seeds, their range, and the better reference beside it."""
        references = np.minimum(self.errors(self.copied()), self.errors(self.drifted()))
        return [
            Row(
                f"G1 joints {ahead} steps ahead, {name}",
                float(np.mean([f[i] for f in found])),
                "rad",
                n=len(found),
                low=float(min(f[i] for f in found)) if len(found) > 1 else None,
                high=float(max(f[i] for f in found)) if len(found) > 1 else None,
                reference=float(references[i]),
                target=_GAIN * float(references[i]) if needed and ahead == 4 else None,
                better="lower",
            )
            for i, ahead in enumerate(_AHEAD)
        ]


def _ground(recording: Recording, model: WorldModel, part: Transitions, fit: FitConfig, seed: int) -> Ground:
    _, described = load_world_model(model_run("shipped"))
    body = CalibrationFile(recording.embodiment, recording.command, recording.names, AdapterConfig())
    return Ground(model, described, fit.encoder_steps == 0, part, body, 1.0, fit, seed)


def _scratch(recording: Recording, part: Transitions, seed: int) -> Ground:
    torch.manual_seed(seed)
    shipped, _ = load_world_model(model_run("shipped"))
    return _ground(recording, WorldModel(shipped.config), part, _FROM_SCRATCH, seed)


def _only(log: Transitions, episodes: NDArray[np.int64]) -> Transitions:
    kept = np.isin(log.episode_F, episodes)
    return replace(
        log,
        frames_FYXC=log.frames_FYXC[kept],
        proprio_FP=log.proprio_FP[kept],
        chunks_FKU=log.chunks_FKU[kept],
        episode_F=log.episode_F[kept],
        reference_FU=log.reference_FU[kept],
    )


def _fits(name: str, judge: Judge, grounds: Sequence[Ground]) -> list[Row]:
    """Rows of what predicted latents show, and of what commands tell where that was closer within the part fitted."""
    by_latents, by_commands = [], []
    for ground in grounds:
        episodes = np.unique(ground.transitions.episode_F)
        candidate = fit_candidate(ground, "learned", episodes, lambda **_: None)
        calibrated = candidate.calibrated
        latents = encode_all(calibrated.model, judge.windows.frames)
        by_latents.append(judge.errors(judge.predicted(calibrated, latents)))
        parts = (episodes[:-1], episodes[-1:]) if len(episodes) > 1 else (episodes, episodes)
        fitted, unseen = (make_windows(ground.transitions, ground.window, part) for part in parts)
        settle(calibrated, ground.body.proprio_names, candidate.latents, fitted, unseen)
        by_commands.append(judge.errors(judge.predicted(calibrated, latents)))
    needed = "1000 transitions" in name
    return judge.rows(f"{name}, latents alone", by_latents) + judge.rows(f"{name}, with commands", by_commands, needed)
