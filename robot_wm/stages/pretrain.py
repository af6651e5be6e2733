"""Pretrain labeler and world model on action-free video."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from lightning_fabric import Fabric

from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import dataset_folder, open_run
from robot_wm.data.loader import ClipSet, Memory, Source, split_clips
from robot_wm.data.pack import POSITIONS, PackSpec, build_pack, build_views
from robot_wm.models.world_model import WorldModel, WorldModelConfig
from robot_wm.training.checkpoint import save_world_model
from robot_wm.training.launch import launch, start
from robot_wm.training.loop import PROGRESS, TrainingConfig, check_health, settle_normalization, train
from robot_wm.training.losses import LossConfig

_DATA = "data.json"  # what each dataset contributed, and how its bodies move
_JUDGED = 256  # held-out clips that the final health is measured on
_SETTLING = 20  # batches that the final normalisation averages over


@dataclass(frozen=True)
class PretrainConfig:
    """Configuration of `robot-wm pretrain`.

    Attributes:
        data: datasets, or runs that wrote one, labelled or not; actions in them are never read.
        weights: share of each dataset in a batch, in any unit; empty: by how many clips it has.
        cameras: of each dataset, its first camera or all of them.
        memory: where frames are kept: on the accelerator (device), mapped from the cache (host), or wherever they fit.
        step_s: duration of one model step [s]; video is resampled to it.
        validation: share of the episodes kept out of training.
        cache: folder of the decoded-frame cache.
    """

    data: tuple[str, ...]
    weights: tuple[float, ...] = ()
    cameras: Literal["first", "all"] = "first"
    memory: Memory = "auto"
    model: WorldModelConfig = field(default_factory=WorldModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    step_s: float = 0.2
    validation: float = 0.1
    cache: str = ".cache"
    name: str = "pretrain"
    out: str = "runs"
    seed: int = 0


def pretrain(config: PretrainConfig) -> Path:
    """Train a world model; returns the run folder with `model.safetensors` and `model.json`.

    With `training.devices` above 1, or under torchrun, several processes do so together: all come here, the first of
    them opens the run and writes.

    Raises:
        UserError: no data, data without clips of the wanted length, a batch that the processes cannot share evenly, or
            a loss that is not finite.
    """
    if not config.data:
        raise UserError("data is empty", "Give data=[PATH, ...]: datasets, or runs of record or ingest")
    if not 0 < config.validation < 1:
        raise UserError(f"validation is {config.validation}", "Give a share above 0 and below 1")
    training = config.training
    fabric = start(training.accelerator, training.precision, training.devices, training.batch)
    return launch(fabric, _pretrain, config, console.is_quiet())


def _pretrain(fabric: Fabric, config: PretrainConfig, quiet: bool) -> Path:
    """What each process does; the others begin when the first has opened the run and decoded the data."""
    with console.shown(quiet or fabric.global_rank > 0):
        if fabric.global_rank == 0:
            return _lead(fabric, config)
        folder, complete = fabric.broadcast((Path(), False))
        if not complete:
            _fit(fabric, config, _packs(config), folder, lambda **_: None)
        return folder


def _lead(fabric: Fabric, config: PretrainConfig) -> Path:
    sources = {f"data{i}": Path(path) for i, path in enumerate(config.data)}
    with open_run(Path(config.out), "pretrain", config.name, config, sources) as run:
        packs = [] if run.complete else _packs(config)
        fabric.broadcast((run.path, run.complete))
        if run.complete:
            console.say(f"pretrain: already done with the same inputs: {run.path}")
            return run.path
        model, clips, validation, waited = _fit(fabric, config, packs, run.path, run.log)
        generator = torch.Generator().manual_seed(config.seed)
        settle_normalization(
            model.encoder, (clips.batch(32, generator).frames_BTYXC.flatten(0, 1) for _ in range(_SETTLING))
        )
        vitals = check_health(model, validation, config.seed, _JUDGED)
        outputs = [*save_world_model(run.path, model, clips.scales, config.step_s), _DATA]
        contributions = zip(config.data, clips.describe(), strict=True)
        files.write_json(run.path / _DATA, [{"data": path} | found for path, found in contributions])
        (run.path / PROGRESS).unlink(missing_ok=True)
        run.finish(outputs, metrics=vitals | {"clips": len(clips.starts), "data_wait_share": round(waited, 4)})
        console.table("health on held-out clips", ("sign", "value"), list(vitals.items()))
        return run.path


def _packs(config: PretrainConfig) -> list[Source]:
    spec = PackSpec(config.model.encoder.size, config.step_s, config.model.flow_cells, POSITIONS)
    build = build_views if config.cameras == "all" else build_pack
    return [build(dataset_folder(Path(path)), spec, Path(config.cache)) for path in config.data]


def _fit(
    fabric: Fabric, config: PretrainConfig, packs: list[Source], folder: Path, log: Callable[..., None]
) -> tuple[WorldModel, ClipSet, ClipSet, float]:
    """A model trained on the packs, the training and validation clips, and the share of time spent waiting for them."""
    torch.manual_seed(config.seed)
    model = WorldModel(config.model)
    clips, validation = split_clips(
        packs,
        config.training.clip_frames,
        fabric.device,
        config.validation,
        config.seed,
        config.weights or None,
        config.memory,
    )
    started_s = time.monotonic()
    train(model, clips, validation, config.training, config.loss, folder, config.seed, log, fabric)
    return model, clips, validation, clips.waited_s / (time.monotonic() - started_s)
