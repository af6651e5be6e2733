"""A page about one dataset: pictures, ranges, rates, and what is wrong with it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploy.report import figures
from deploy.report.media import Picture, picture
from robot_wm.contracts.errors import UserError
from robot_wm.data.checks import Joint
from robot_wm.data.inspection import Camera, Inspection
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.page.page import write_page

_HEIGHT = 160  # of a thumbnail [pixels]
_MOST_TASKS = 20


@dataclass(frozen=True)
class Row:
    """A joint and where its range lies in that of its feature, in [0, 1]."""

    joint: Joint
    low: float
    high: float
    mean: float
    spread: float


def write_dataset_page(path: Path, found: Inspection, thumbnails: int) -> Path:
    """Write the page about an inspected dataset atomically; returns `path`."""
    seconds = [length / found.fps for length in found.lengths]
    tasks = sorted(found.tasks.items(), key=lambda item: -item[1])
    return write_page(
        path,
        "deploy.report",
        "dataset.html",
        found=found,
        title=found.path.name if found.path.name != "dataset" else found.path.parent.name,
        total_s=sum(seconds),
        lengths=figures.durations(seconds) if seconds else None,
        shortest_s=min(seconds, default=0.0),
        longest_s=max(seconds, default=0.0),
        severe=sum(problem.severe for problem in found.problems),
        cameras=[(camera, list(_thumbnails(found, camera, thumbnails))) for camera in found.cameras],
        features=[(key, _ranges(rows)) for key, rows in _grouped(found.joints)],
        tasks=tasks[:_MOST_TASKS],
        more_tasks=len(tasks) - _MOST_TASKS,
    )


def _thumbnails(found: Inspection, camera: Camera, count: int) -> Iterator[tuple[str, Picture]]:
    """A caption and the middle picture of evenly chosen episodes; those that cannot be read are left out."""
    dataset = LeRobotDataset(found.path, strict=False)
    for episode in np.unique(np.linspace(0, dataset.num_episodes - 1, min(count, dataset.num_episodes)).astype(int)):
        row = dataset.episode_length(int(episode)) // 2
        size = (_HEIGHT, max(1, round(_HEIGHT * camera.width / max(camera.height, 1))))
        try:
            image_YXC = dataset.frames_at(int(episode), np.array([row]), camera.key, size)[0]
        except UserError:  # named among the problems
            continue
        place = f"episode {episode}, {row / found.fps:.1f} s"
        yield place, picture(image_YXC, f"{camera.key}: {place}", quality=75)


def _grouped(joints: Sequence[Joint]) -> list[tuple[str, list[Joint]]]:
    keys = dict.fromkeys(joint.feature for joint in joints)
    return [(key, [joint for joint in joints if joint.feature == key]) for key in keys]


def _ranges(joints: Sequence[Joint]) -> list[Row]:
    """Each joint's range as a share of the widest of its feature, so that they can be compared by eye."""
    low, high = min(joint.low for joint in joints), max(joint.high for joint in joints)
    scale = 1 / (high - low) if high > low else 0.0
    return [
        Row(j, scale * (j.low - low), scale * (j.high - low), scale * (j.mean - low), scale * j.std) for j in joints
    ]
