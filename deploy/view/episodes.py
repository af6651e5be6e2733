"""A dataset: its episodes as they were recorded, cameras and columns under one slider."""

from pathlib import Path

import numpy as np

from deploy.view import timeline
from deploy.view.timeline import Episode, Film, Track
from robot_wm import console
from robot_wm.contracts.dataset import ACTION, FOCAL, HAND, OBJECT, STATE
from robot_wm.contracts.errors import UserError
from robot_wm.data.lerobot import LeRobotDataset

_FRAMES = 120  # per camera and episode at most
_HEIGHT = 160  # of a frame [pixels]
_HIDDEN = {"timestamp", "frame_index", "episode_index", "index", "task_index"}
_TRACKS = 8
_MEANING = {
    STATE: "What the robot measures of itself (proprio): rad and rad/s, or m and m/s.",
    ACTION: "The commands that were sent.",
    HAND: "Where the hand is, in the camera's frame (right, down, along the view); known to a simulator only.",
    OBJECT: "Where the first object is, in the camera's frame; known to a simulator only.",
    FOCAL: "The camera's focal length, in half heights of its picture.",
}


def write(path: Path, folder: Path, most: int) -> Path:
    """Write the page about up to `most` evenly chosen episodes of a dataset; returns `path`.

    Raises:
        UserError: no dataset there, or one that cannot be read.
    """
    dataset = LeRobotDataset(folder)
    if not dataset.num_episodes:
        raise UserError(f"{folder} has no episode", "Record one, or give another dataset")
    chosen = np.unique(np.linspace(0, dataset.num_episodes - 1, min(most, dataset.num_episodes)).astype(int))
    info = dataset.info
    beside = [
        f"{dataset.num_episodes:,} episodes, {info.total_frames:,} rows at {info.fps:g} Hz, of {dataset.robot_type}; "
        f"{len(chosen)} of them shown.",
        "What is wrong with a dataset, if anything, is told by robot-wm inspect.",
    ]
    name = folder.name if folder.name != "dataset" else folder.resolve().parent.name
    return timeline.write(
        path, "A dataset", name, beside, [_episode(dataset, int(e)) for e in console.track(chosen, "view")]
    )


def _episode(dataset: LeRobotDataset, number: int) -> Episode:
    length = dataset.episode_length(number)
    rows = np.unique(np.linspace(0, length - 1, min(length, _FRAMES)).astype(np.int64))
    films = []
    for key, feature in dataset.info.features.items():
        if feature.is_video:
            height, width = dataset.camera_size(key)
            size = (min(height, _HEIGHT), max(1, round(width * min(height, _HEIGHT) / height)))
            caption = key.removeprefix("observation.images.")
            films.append(Film(caption, dataset.frames_at(number, rows, key, size), f"{caption} of episode {number}"))
    tracks: list[Track] = []
    for key, values in dataset.columns(number).items():
        if key in _HIDDEN or not np.issubdtype(values.dtype, np.number):
            continue
        values_LK = values.reshape(length, -1).astype(float)
        names = dataset.info.features[key].names
        labels = (
            list(names) if names and len(names) == values_LK.shape[1] else [str(i) for i in range(values_LK.shape[1])]
        )
        tracks.extend(timeline.split(key, "", labels, values_LK, _MEANING.get(key, "")))
    told = "; ".join(t for t in dataset.tasks(number) if t)
    times_s = dataset.times_s(number)
    note = f"{told}. {length} rows, {times_s[-1] - times_s[0]:.1f} s." if told else f"{length} rows."
    more = f" {len(tracks) - _TRACKS} more plots are left out." if len(tracks) > _TRACKS else ""
    return Episode(f"Episode {number}", note + more, times_s, rows, tuple(films), tuple(tracks[:_TRACKS]))
