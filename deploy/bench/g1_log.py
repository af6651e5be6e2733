"""A log of a real humanoid: its joints ahead, told from some of it, on episodes that nothing was fitted to."""

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
from deploy.bench.result import Row
from robot_wm.contracts.dataset import ACTION, STATE
from robot_wm.contracts.embodiment import Camera, CommandSpace, Embodiment, Mjcf, Safety
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.models.adapter import AdapterConfig
from robot_wm.models.world_model import WorldModel
from robot_wm.planning.controllable import CalibrationFile
from robot_wm.training.checkpoint import load_world_model, model_run

LOG, _CAMERA = "g1_bottle", "cam_high"
_TICKS = 6  # of 1/30 s per model step of 0.2 s
_HELD_OUT = 15  # the last episodes
AHEAD = (1, 4, 8)  # model steps
_MOVES_RAD = 0.01  # deviation within an episode from which a joint counts as moving
_GAIN = 0.7  # to be reached: error as a share of the better reference's
_ALL = 10**9
FROM_SCRATCH = FitConfig(encoder_steps=200, encoder_learning_rate=1e-3)

Errors = NDArray[np.float64]  # root of the mean square over the moving joints, one per entry of AHEAD [rad]


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
        LOG,
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
        return self.measured_BLP[:, self.history - 1, None].expand(-1, AHEAD[-1], -1)

    def drifted(self) -> Tensor:
        """The last change again and again, (B, H, P)."""
        now, before = self.measured_BLP[:, self.history - 1], self.measured_BLP[:, self.history - 2]
        return now[:, None] + torch.arange(1, AHEAD[-1] + 1)[:, None] * (now - before)[:, None]

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
        found: Errors = away.square().mean(dim=(0, 2)).sqrt().double().numpy()[[k - 1 for k in AHEAD]]
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
            for i, ahead in enumerate(AHEAD)
        ]


@dataclass(frozen=True)
class Bench:
    """The log in its parts, and the model to be calibrated.

    Attributes:
        recording, model: of the robot; as it comes with the package.
        log: all of it.
        judged: episodes that nothing is fitted to.
        moving_P: joints that move in the others.
        every: of how many windows one is judged.
    """

    recording: Recording
    model: WorldModel
    log: Transitions
    judged: NDArray[np.int64]
    moving_P: Tensor
    every: int

    @classmethod
    def open(cls, folder: Path, cache: Path, quick: bool) -> "Bench":
        """Read the log; quick looks at fewer windows."""
        recording = read_recording(folder, cache)
        model, _ = load_world_model(model_run("shipped"))
        log = recording.first(_ALL, model.config.encoder.size)
        count = recording.dataset.num_episodes
        fitted, judged = np.arange(count - _HELD_OUT), np.arange(count - _HELD_OUT, count)
        moving = np.mean([log.proprio_FP[log.episode_F == e].std(axis=0) for e in fitted], axis=0) > _MOVES_RAD
        return cls(recording, model, log, judged, torch.from_numpy(moving), 12 if quick else 1)

    def windows(self, ahead: int) -> Windows:
        """Those of the judged episodes, so many model steps from the last latent of the history on."""
        found = make_windows(self.log, self.model.config.history + ahead, self.judged)
        return replace(found, rows=found.rows[:: self.every])

    def judge(self) -> Judge:
        """Of predictions."""
        return Judge(self.windows(AHEAD[-1]), self.moving_P, self.model.config.history)

    def ground(self, part: Transitions, fit: FitConfig, seed: int, pretrained: bool = True) -> Ground:
        """What a fit to part of the log starts from; not pretrained: random weights."""
        model, described = load_world_model(model_run("shipped"))
        if not pretrained:
            torch.manual_seed(seed)
            model = WorldModel(model.config)
        body = CalibrationFile(self.recording.embodiment, self.recording.command, self.recording.names, AdapterConfig())
        return Ground(model, described, pretrained, part, body, 1.0, fit, seed)

    def first(self, transitions: int) -> Transitions:
        """The first so many labelled transitions."""
        return self.recording.first(transitions, self.model.config.encoder.size)

    def fitted(self) -> Transitions:
        """All that is not judged."""
        kept = ~np.isin(self.log.episode_F, self.judged)
        arrays = ("frames_FYXC", "proprio_FP", "chunks_FKU", "episode_F", "reference_FU")
        return replace(self.log, **{name: getattr(self.log, name)[kept] for name in arrays})


def follow_commands(
    ground: Ground, calibrated: Calibrated, latents: Tensor, seen: NDArray[np.int64], unseen: NDArray[np.int64]
) -> None:
    """Let commands tell the joints that they tell better than pictures, in episodes kept out."""
    fitted, judging = (make_windows(ground.transitions, ground.window, part) for part in (seen, unseen))
    settle(calibrated, ground.body.proprio_names, latents, fitted, judging)


def encode_rows(model: WorldModel, windows: Windows) -> Tensor:
    """Latents (F, D) of the frames that windows look at; NaN elsewhere."""
    rows = windows.rows.unique()
    latents = torch.full((len(windows.frames), model.config.encoder.latent_dim), torch.nan)
    latents[rows] = encode_all(model, windows.frames[rows])
    return latents


def predictions(bench: Bench, name: str, grounds: Sequence[Ground], needed: bool = False) -> list[Row]:
    """Rows of what predicted latents show, and of what commands tell where that was closer within the part fitted."""
    judge, by_latents, by_commands = bench.judge(), [], []
    for ground in grounds:
        episodes = np.unique(ground.transitions.episode_F).astype(np.int64)
        candidate = fit_candidate(ground, "learned", episodes, lambda **_: None)
        calibrated = candidate.calibrated
        latents = encode_rows(calibrated.model, judge.windows)
        by_latents.append(judge.errors(judge.predicted(calibrated, latents)))
        seen, unseen = (episodes[:-1], episodes[-1:]) if len(episodes) > 1 else (episodes, episodes)
        follow_commands(ground, calibrated, candidate.latents, seen, unseen)
        by_commands.append(judge.errors(judge.predicted(calibrated, latents)))
    return judge.rows(f"{name}, latents alone", by_latents) + judge.rows(f"{name}, with commands", by_commands, needed)
