"""The path from video to robot, one card per stage: what happened, a picture of it, a few figures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from deploy.report import words
from deploy.report.media import Picture, mosaic, picture
from deploy.report.sections import Stage, metrics
from robot_wm.contracts.bundle import TIPPED, read_bundle
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import dataset_folder
from robot_wm.data import flow
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.evaluation.results import read_evaluation
from robot_wm.training.checkpoint import SHIPPED, model_run

_TILE = 96  # pixels of one frame in a card's picture
_AHEAD_S = 0.4  # time between the two images whose difference is shown
_LOOKED_AT = 24  # images of a clip among which the liveliest pair is sought


@dataclass(frozen=True)
class Card:
    """One stage on the page. `picture` is None where there is nothing to see; the page then draws its own."""

    key: str
    title: str
    text: str
    facts: tuple[str, ...]
    wall_s: float
    picture: Picture | None


def card(stage: Stage, watched: Path | None) -> Card:
    """The card of a stage; `watched` is a dataset of pretraining, from which the picture of learning is taken."""
    key = stage.manifest.stage
    title, text = words.STAGES[key]
    facts, shown = _MAKERS[key](stage, watched)
    return Card(key, title, text, tuple(facts), stage.manifest.wall_s, shown)


def _watch(stage: Stage, _: Path | None) -> tuple[list[str], Picture | None]:
    dataset = LeRobotDataset(dataset_folder(stage.path))
    info = dataset.info
    facts = [f"{info.total_episodes:,} clips", f"{info.total_frames:,} images", "no commands"]
    chosen = np.linspace(0, dataset.num_episodes - 1, min(6, dataset.num_episodes)).astype(int)
    frames = [_middle(dataset, int(e)) for e in chosen]
    return facts, picture(mosaic(frames, 3), f"Images from {len(frames)} of the clips that the model watched.")


def _learn(stage: Stage, watched: Path | None) -> tuple[list[str], Picture | None]:
    lines = metrics(stage.path)
    steps = max((line["step"] for line in lines if isinstance(line.get("step"), int)), default=None)
    facts = [f"{steps:,} training steps"] if steps else []
    parameters = stage.manifest.metrics.get("parameters")
    if isinstance(parameters, int):
        facts.append(f"{parameters / 1e6:.1f} million parameters")
    if stage.path == model_run(SHIPPED):
        facts.append(f"came with the package, trained on {stage.manifest.machine}")
    if watched is None:
        return facts, None
    return facts, _what_moved(LeRobotDataset(dataset_folder(watched)))


def _meet(stage: Stage, _: Path | None) -> tuple[list[str], Picture | None]:
    transitions = stage.manifest.config.get("transitions")
    facts = [f"{transitions:,} labelled moments of this robot"] if isinstance(transitions, int) else []
    source = stage.manifest.inputs.get("data")
    if source is None or not Path(source.path).exists():
        return facts, None
    dataset = LeRobotDataset(dataset_folder(Path(source.path)))
    length = dataset.episode_length(0)
    rows = np.linspace(0, length - 1, min(6, length)).astype(int)
    frames = dataset.frames_at(0, rows, size=(_TILE, _TILE))
    return facts, picture(mosaic(list(frames), 3), "Images of the robot while it moves about for calibration.")


def _pack(stage: Stage, _: Path | None) -> tuple[list[str], Picture | None]:
    bundle = read_bundle(stage.path)
    graphs = bundle.spec.files
    megabytes = sum((bundle.path / name).stat().st_size for name in graphs) / 1e6
    facts = [f"{len(graphs)} files, {megabytes:.1f} MB"]
    if bundle.spec.parity:
        largest = np.format_float_positional(
            max(v for k, v in bundle.spec.parity.items() if k != TIPPED), precision=1, fractional=False
        )
        facts.append(f"differ by {largest} at most")
    return facts, None


def _act(stage: Stage, _: Path | None) -> tuple[list[str], Picture | None]:
    evaluation = read_evaluation(stage.path)
    model = evaluation.controller("model") or evaluation.controllers[0]
    facts = [
        words.TASKS.get(evaluation.task, (evaluation.task, ""))[0],
        f"{model.success_last.trials} goals, none seen before",
    ]
    if model.latency is not None:
        facts.append(f"{model.latency.p50_ms.value:.0f} ms for one decision")
    return facts, None


_MAKERS: dict[str, Callable[[Stage, Path | None], tuple[list[str], Picture | None]]] = {
    "record": _watch,
    "ingest": _watch,
    "pretrain": _learn,
    "calibrate": _meet,
    "export": _pack,
    "evaluate": _act,
}


def _middle(dataset: LeRobotDataset, episode: int) -> NDArray[np.uint8]:
    row = np.array([dataset.episode_length(episode) // 2])
    frame_YXC: NDArray[np.uint8] = dataset.frames_at(episode, row, size=(_TILE, _TILE))[0]
    return frame_YXC


def _what_moved(dataset: LeRobotDataset, shown: int = 2) -> Picture | None:
    """Image, where it moved, next image: from the clips that move most among a few."""
    found: list[tuple[float, list[NDArray[np.uint8]]]] = []
    for episode in range(min(12, dataset.num_episodes)):
        rows = np.arange(0, dataset.episode_length(episode), _ahead(dataset))[:_LOOKED_AT]
        frames = dataset.frames_at(episode, rows, size=(_TILE, _TILE))
        if len(frames) < 2:
            continue
        speed_TYX = np.linalg.norm(flow.flow(frames), axis=-1)
        moved_T = np.quantile(speed_TYX, 0.95, axis=(1, 2))
        t = int(moved_T.argmax())
        found.append((float(moved_T[t]), [frames[t], _heat(speed_TYX[t]), frames[t + 1]]))
    if not found:
        return None
    best = sorted(found, key=lambda pair: -pair[0])[:shown]
    tiles = [frame for _, frames in best for frame in frames]
    return picture(
        mosaic(tiles, 3), "In each row: an image, a map of where the picture moves (yellow: most), and a later image."
    )


def _ahead(dataset: LeRobotDataset) -> int:
    return max(1, round(_AHEAD_S * dataset.info.fps))


def _heat(speed_YX: NDArray[np.floating]) -> NDArray[np.uint8]:
    scaled = np.clip(255 * speed_YX / max(float(np.quantile(speed_YX, 0.99)), 1e-6), 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_CIVIDIS), cv2.COLOR_BGR2RGB), np.uint8)


def cards(stages: list[Stage], watched: Path | None) -> list[Card]:
    """One card per stage, in order; a stage whose files have since gone keeps its words and loses its picture."""
    found = []
    for stage in stages:
        try:
            found.append(card(stage, watched))
        except (UserError, OSError):
            title, text = words.STAGES[stage.manifest.stage]
            found.append(Card(stage.manifest.stage, title, text, (), stage.manifest.wall_s, None))
    return found
