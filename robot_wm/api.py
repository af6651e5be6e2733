"""The Python API: numpy in, numpy out, and the words of the command line.

The names below can be imported from `robot_wm` itself.

Examples:
    Ten lines from frames to a plan, with the world model that comes with the package:

    >>> import numpy as np, robot_wm
    >>> frames_TYXC = np.random.default_rng(0).integers(0, 255, (4, 96, 96, 3), dtype=np.uint8)  # a camera
    >>> model = robot_wm.load_pretrained("shipped")
    >>> z_TD = model.encode(frames_TYXC)                    # latents
    >>> a_TA = model.infer(z_TD)                            # the latent action from each to the next
    >>> future_HD = model.predict(z_TD, a_TA)               # what follows if the same is done again
    >>> goal_D = model.encode(frames_TYXC[:1])[0]           # a picture of how the world should look
    >>> plan_HA = model.plan(z_TD, goal_D, horizon=3)       # latent actions that lead there
    >>> model.score(model.predict(z_TD, plan_HA), goal_D) < model.score(model.predict(z_TD, 0 * plan_HA), goal_D)
    True
    >>> z_TD.shape[1] == model.latent_dim, a_TA.shape == (3, model.action_dim), future_HD.shape == (3, model.latent_dim)
    (True, True, True)

A robot acts on commands, not on latent actions: `load_calibrated` gives a model that plans them, and an exported
controller (`deploy.runtime.controller.Controller`) does so without PyTorch.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot_wm.contracts.embodiment import CommandSpace, Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import dataset_folder, read_run
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.models.encoder import Encoder
from robot_wm.models.world_model import WorldModel
from robot_wm.planning.controllable import Controllable, load_controllable
from robot_wm.planning.planner import Planner, PlannerConfig
from robot_wm.planning.samplers import CEM, Belief
from robot_wm.training.checkpoint import load_world_model, model_run

__all__ = ["CalibratedModel", "PretrainedModel", "UserError", "load_calibrated", "load_pretrained", "open_dataset"]

Frames = NDArray[np.uint8]
Floats = NDArray[np.float32]


def load_pretrained(run: str | Path = "shipped") -> "PretrainedModel":
    """The world model of a pretrain run.

    Args:
        run: the run folder; "shipped" is the world model that comes with the package.

    Raises:
        UserError: not a finished pretrain run, or a file of it is missing or damaged.

    Examples:
        >>> robot_wm.load_pretrained("nowhere")
        Traceback (most recent call last):
        robot_wm.contracts.errors.UserError: nowhere is not a finished run (no manifest.json). ...
    """
    folder = model_run(str(run))
    read_run(folder, "pretrain")
    model, described = load_world_model(folder)
    return PretrainedModel(model, described.step_s)


def load_calibrated(run: str | Path, planner: PlannerConfig | None = None) -> "CalibratedModel":
    """The world model of a calibrate run, fitted to one body, with a planner of commands.

    Args:
        run: the run folder.
        planner: size and objective of the search; None takes PlannerConfig's defaults.

    Raises:
        UserError: not a finished calibrate run, or a file of it is missing or damaged.
    """
    return CalibratedModel(load_controllable(Path(run), planner or PlannerConfig(), ahead=0))


def open_dataset(path: str | Path) -> LeRobotDataset:
    """A LeRobot dataset, or the one that a run wrote: `frames(episode)`, `columns(episode)`, `num_episodes`, `info`.

    Raises:
        UserError: no dataset there, or one that cannot be read.
    """
    return LeRobotDataset(dataset_folder(Path(path)))


class PretrainedModel:
    """A world model that knows no robot: latents and latent actions.

    Attributes:
        step_s: time from one latent to the next [s]; give `encode` frames that far apart.
        latent_dim: D.
        action_dim: A.
        history: latents that a prediction looks back on.
        torch_model: the module behind, for gradients and batches.
    """

    def __init__(self, model: WorldModel, step_s: float):
        self.torch_model, self.step_s = model.eval(), step_s
        self.latent_dim, self.action_dim = model.config.encoder.latent_dim, model.config.action_dim
        self.history = model.config.history

    def encode(self, frames_TYXC: Frames) -> Floats:
        """RGB frames of any size, uint8, to latents (T, D)."""
        return _encode(self.torch_model.encoder, frames_TYXC)

    @torch.no_grad()
    def infer(self, z_TD: Floats) -> Floats:
        """The latent actions (T - 1, A) in (-1, 1) between consecutive latents: what moved, whoever moved it.

        Raises:
            UserError: fewer than two latents.
        """
        if len(z_TD) < 2:
            raise UserError(f"infer was given {len(z_TD)} latent", "Give two or more, step_s apart")
        mean_BTA, _ = self.torch_model.infer(_tensor(z_TD)[None])
        return np.asarray(torch.tanh(mean_BTA)[0])

    @torch.no_grad()
    def predict(self, z_TD: Floats, actions_HA: Floats) -> Floats:
        """The latents (H, D) that follow the last of `z_TD` under the given latent actions."""
        return np.asarray(self.torch_model.rollout(self._history(z_TD), _tensor(actions_HA)[None])[0])

    @torch.no_grad()
    def score(self, z_HD: Floats, goal_D: Floats) -> float:
        """How far the last of `z_HD` is from a goal's latent: mean squared difference; lower is better."""
        return float(_distance(_tensor(z_HD)[None], _tensor(goal_D)))

    @torch.no_grad()
    def plan(
        self, z_TD: Floats, goal_D: Floats, horizon: int = 4, candidates: int = 256, iterations: int = 4, seed: int = 0
    ) -> Floats:
        """Latent actions (H, A) whose predicted future ends nearest to a goal, found by the cross-entropy method.

        Args:
            z_TD: latents so far, newest last.
            goal_D: latent of the goal image.
            horizon: steps of `step_s` ahead.
            candidates, iterations: size of the search.
            seed: of its random draws.
        """
        search, random = CEM(), torch.Generator().manual_seed(seed)
        history, goal = self._history(z_TD).expand(candidates, -1, -1), _tensor(goal_D)
        rest = torch.zeros(1, horizon, self.action_dim)
        belief = Belief(rest, torch.full_like(rest, search.initial_std), rest[:, None])
        for _ in range(iterations):
            plans_BNHA = search.sample(belief, torch.randn(1, candidates, *rest.shape[1:], generator=random))
            cost_N = _distance(self.torch_model.rollout(history, plans_BNHA[0]), goal)
            belief = search.update(belief, plans_BNHA, cost_N[None], None)
        return np.asarray(belief.mean_BHU[0])

    def _history(self, z_TD: Floats) -> Tensor:
        return _last(z_TD, self.history)


class CalibratedModel:
    """A world model that knows one body: commands in its own units.

    Attributes:
        embodiment: the body.
        command: the command space, with names, unit and limits.
        proprio_names: what the entries of proprio are, in order.
        planner: the module behind, for gradients and batches.
    """

    def __init__(self, parts: Controllable):
        self.embodiment: Embodiment = parts.embodiment
        self.command: CommandSpace = parts.command
        self.proprio_names = parts.proprio_names
        self.planner: Planner = parts.planner
        self._encoder = parts.encoder

    def encode(self, frames_TYXC: Frames) -> Floats:
        """RGB frames of the body's camera, uint8, to latents (T, D)."""
        return _encode(self._encoder, frames_TYXC)

    @torch.no_grad()
    def predict(
        self,
        z_TD: Floats,
        commands_HKU: NDArray[np.floating[Any]],
        proprio_P: NDArray[np.floating[Any]],
        reference_U: NDArray[np.floating[Any]] | None = None,
    ) -> Floats:
        """The latents (H, D) that follow if H command chunks are sent; arguments as for `plan`."""
        proprio, reference = self._checked(proprio_P, reference_U)
        body, found = self.planner.body, []
        now = body.observe(_last(z_TD, body.history), body.standardize(proprio))
        for chunk_KU in _tensor(commands_HKU):
            now, reference = body.follow(now, chunk_KU[None, None], reference)
            found.append(now.history_BTD[0, -1])
        return np.asarray(torch.stack(found))

    @torch.no_grad()
    def plan(
        self,
        z_TD: Floats,
        goal_D: Floats,
        proprio_P: NDArray[np.floating[Any]],
        reference_U: NDArray[np.floating[Any]] | None = None,
        seed: int = 0,
    ) -> NDArray[np.float64]:
        """The next command chunk (K, U) [the command's unit], within every limit.

        Args:
            z_TD: latents so far, newest last.
            goal_D: latent of the goal image.
            proprio_P: what the robot measures of itself now, in the order of `proprio_names`.
            reference_U: the command in force; None is rest (zero, within the limits).
            seed: of the search's random draws.

        Raises:
            UserError: proprio or reference of another length.
        """
        proprio, reference = self._checked(proprio_P, reference_U)
        size, random = self.planner.config, torch.Generator().manual_seed(seed)
        warm = torch.zeros(1, size.horizon, self.command.dim)
        noise = torch.randn(1, size.iterations, size.candidates, *warm.shape[1:], generator=random)
        history, goal = _last(z_TD, self.planner.body.history), _tensor(goal_D)[None]
        command_BKU, *_ = self.planner(history, goal, proprio, reference, warm, noise)
        return np.asarray(command_BKU[0], dtype=np.float64)

    def _checked(
        self, proprio_P: NDArray[np.floating[Any]], reference_U: NDArray[np.floating[Any]] | None
    ) -> tuple[Tensor, Tensor]:
        """Both as a batch of one."""
        if reference_U is None:
            reference_U = self.command.hold(np.zeros(self.command.dim))
        for name, given, names in (
            ("proprio", proprio_P, self.proprio_names),
            ("reference", reference_U, self.command.names),
        ):
            if np.shape(given) != (len(names),):
                raise UserError(f"{name} has shape {np.shape(given)}", f"Give {len(names)} entries: {', '.join(names)}")
        return _tensor(proprio_P)[None], _tensor(reference_U)[None]


def _encode(encoder: Any, frames_TYXC: Frames) -> Floats:
    frames = np.asarray(frames_TYXC)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise UserError(f"frames are {frames.dtype} of shape {frames.shape}", "Give uint8 of shape (T, Y, X, 3), RGB")
    if isinstance(encoder, Encoder):
        encoder.resize_from(*frames.shape[1:3])
    with torch.no_grad():
        return np.asarray(encoder(torch.from_numpy(np.ascontiguousarray(frames))))


def _tensor(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))


def _distance(z_BHD: Tensor, goal_D: Tensor) -> Tensor:
    """Mean squared latent distance (B,) of the last predicted latent to the goal."""
    return (z_BHD[:, -1] - goal_D).square().mean(dim=-1)


def _last(z_TD: Floats, history: int) -> Tensor:
    """The last `history` latents as a batch of one; the first stands in for those before it."""
    z = np.asarray(z_TD, dtype=np.float32)[-history:]
    return _tensor(np.concatenate([np.repeat(z[:1], history - len(z), axis=0), z]))[None]
