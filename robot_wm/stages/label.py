"""Write a dataset again with the latent action between every two of its frames."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from robot_wm import console
from robot_wm.contracts.dataset import LATENT_ACTION, LATENT_ACTION_STD, Feature, image_key
from robot_wm.contracts.run import artifact, dataset_folder, open_run
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.lerobot_writer import LeRobotWriter
from robot_wm.data.pack import POSITIONS, Pack, PackSpec, build_pack
from robot_wm.models.world_model import WorldModel
from robot_wm.training.checkpoint import load_world_model


@dataclass(frozen=True)
class LabelConfig:
    """Configuration of `robot-wm label`.

    Attributes:
        data: the dataset, or a run that wrote one.
        model: pretrain run.
    """

    data: str
    model: str
    cache: str = ".cache"
    name: str = "label"
    out: str = "runs"
    seed: int = 0


def label(config: LabelConfig) -> Path:
    """Write `dataset/` at the world model's rate and size, with latent actions; returns the run folder.

    `latent_action` (A,) leads from a row's frame to the next row's, `latent_action_std` (A,) is its standard deviation
    before the bound; both are zero in an episode's last row.
    """
    sources = {"data": Path(config.data), "model": Path(config.model)}
    with open_run(Path(config.out), "label", config.name, config, sources) as run:
        if run.complete:
            console.say(f"label: already done with the same inputs: {run.path}")
            return run.path
        artifact(Path(config.model), "model.safetensors", "pretrain")
        model, described = load_world_model(Path(config.model))
        # As in pretraining, so that a dataset it was trained on is not packed again.
        spec = PackSpec(model.config.encoder.size, described.step_s, model.config.flow_cells, POSITIONS)
        folder = dataset_folder(Path(config.data))
        pack = build_pack(folder, spec, Path(config.cache))
        camera = LeRobotDataset(folder).info.cameras[0]
        written = _write(run.path / "dataset", pack, model, camera, 1 / described.step_s)
        run.finish(["dataset"], metrics=written)
        return run.path


def _write(path: Path, pack: Pack, model: WorldModel, camera: str, fps: float) -> dict[str, int]:
    size, action_dim = model.config.encoder.size, model.config.action_dim
    names = tuple(f"a{i}" for i in range(action_dim))
    features = {
        image_key(camera): Feature("video", (size, size, 3), ("height", "width", "channels")),
        LATENT_ACTION: Feature("float32", (action_dim,), names),
        LATENT_ACTION_STD: Feature("float32", (action_dim,), names),
    }
    with LeRobotWriter(path, fps, features) as writer:
        for episode in console.track(range(writer.num_episodes, len(pack.starts) - 1), "label"):
            frames = np.asarray(pack.frames_FYXC[pack.starts[episode] : pack.starts[episode + 1]])
            action, deviation = infer(model, frames)
            writer.add_episode({LATENT_ACTION: action, LATENT_ACTION_STD: deviation}, {image_key(camera): frames})
    return {"episodes": len(pack.starts) - 1, "frames": len(pack.frames_FYXC)}


@torch.no_grad()
def infer(model: WorldModel, frames_TYXC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latent actions of one episode and their standard deviations, (T, A) each; the last row is zero."""
    z_1TD = model.encode(torch.tensor(frames_TYXC)[None])
    closing = np.zeros((1, model.config.action_dim), np.float32)
    if len(frames_TYXC) < 2:
        return closing, closing
    mean, log_std = model.infer(z_1TD)
    return (
        np.concatenate([torch.tanh(mean)[0].numpy(), closing]),
        np.concatenate([log_std.exp()[0].numpy(), closing]),
    )
