"""A dataset written again with more columns, as v3.0: its own rows and videos stay what they were, byte for byte."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.dataset import Feature, is_depth
from robot_wm.contracts.errors import UserError
from robot_wm.data import journal, lerobot_files, lerobot_meta, lerobot_stats
from robot_wm.data.lerobot import BOOKKEEPING, LeRobotDataset, is_numeric
from robot_wm.data.lerobot_files import CHUNK, DATA, INFO, VIDEO, Format, Row
from robot_wm.data.lerobot_meta import confined

_JOURNAL = "meta/journal.jsonl"
_SAMPLED = 32  # images per episode for statistics that did not come with it


def extend(
    source: LeRobotDataset,
    target: Path,
    features: Mapping[str, Feature],
    values: Callable[[int], Mapping[str, NDArray[Any]]],
) -> None:
    """Write `source` to the folder `target` with columns `features`, for which `values(episode)` gives (L, *shape).

    Videos are copied, not encoded again; rows keep their timestamps. An interrupted copy goes on after the last episode
    that was written.

    Raises:
        UserError: the dataset has such a column, or cannot be read.
    """
    if taken := sorted(set(features) & set(source.info.features)):
        raise UserError(f"{source.path} has a column {taken[0]} already", "Give the dataset that it was added to")
    (target / "meta").mkdir(parents=True, exist_ok=True)
    places = _copy_videos(source, target)
    known = {key: f for key, f in source.info.features.items() if is_numeric(f) or f.is_video}
    numbers = [key for key, feature in {**known, **BOOKKEEPING}.items() if not feature.is_video]
    form = Format(source.info.fps, {k: f for k, f in known.items() if k not in BOOKKEEPING} | dict(features))
    stored = lerobot_meta.read_episode_stats(source.path)
    rows: list[Row] = journal.read(target / _JOURNAL)
    for episode in console.track(range(len(rows), source.num_episodes), "episodes"):
        columns = {**source.columns(episode, numbers), **values(episode)}
        first = rows[-1]["dataset_to_index"] if rows else 0
        columns["index"] = first + np.arange(source.episode_length(episode))
        _write_rows(source, target, episode, columns, {**form.features, **BOOKKEEPING})
        row = _row(source, episode, first)
        row |= {f"videos/{k}/{name}": v for k in places for name, v in _span(source, episode, k, places[k]).items()}
        for key, feature in {**form.features, **BOOKKEEPING}.items():
            said = stored[episode].get(key) if episode < len(stored) and key != "index" else None
            found = said or (_of_images(source, episode, key) if feature.is_video else None)
            of_numbers = lerobot_stats.of_depth if is_depth(key) else lerobot_stats.of_rows
            found = found or of_numbers(columns[key].reshape(len(columns[key]), -1))
            row |= {f"stats/{key}/{name}": found[name] for name in lerobot_stats.NAMES}
        journal.append(target / _JOURNAL, row)
        rows.append(row)
    _write_metadata(source, target, form, rows, features)


def _copy_videos(source: LeRobotDataset, target: Path) -> dict[str, dict[str, int]]:
    """Copy every video file that an episode lies in; returns feature → file of the source → its new number."""
    numbers: dict[str, dict[str, int]] = {}
    for episode in range(source.num_episodes):
        for key in source.info.features:
            if place := source.video_place(episode, key):
                of_camera = numbers.setdefault(key, {})
                of_camera.setdefault(place.file, len(of_camera))
    wanted = [(key, file, number) for key, found in numbers.items() for file, number in found.items()]
    for key, file, number in console.track(wanted, "videos"):
        origin = confined(source.path, file)
        copy = target / VIDEO.format(video_key=key, **_numbered(number))
        if not origin.is_file():
            raise UserError(f"{origin} does not exist", lerobot_meta.MEND)
        if not copy.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            partial = copy.with_suffix(".partial")
            shutil.copyfile(origin, partial)
            os.replace(partial, copy)
    return numbers


def _numbered(number: int) -> dict[str, int]:
    return {"chunk_index": number // CHUNK, "file_index": number % CHUNK}


def _write_rows(
    source: LeRobotDataset,
    target: Path,
    episode: int,
    columns: Mapping[str, NDArray[Any]],
    features: Mapping[str, Feature],
) -> None:
    """One parquet file per episode: numbers from `columns`; texts and images as the source stores them."""
    table = source.table(episode).replace_schema_metadata(None)
    for key, values in columns.items():
        if key not in features:
            continue
        column = lerobot_files.arrow(values, features[key])
        place = table.schema.get_field_index(key)
        table = table.append_column(key, column) if place < 0 else table.set_column(place, key, column)
    lerobot_files.write_table(target / DATA.format(**_numbered(episode)), table)


def _row(source: LeRobotDataset, episode: int, first: int) -> Row:
    length = source.episode_length(episode)
    row: Row = {"episode_index": episode, "tasks": source.tasks(episode), "length": length}
    row |= {"dataset_from_index": first, "dataset_to_index": first + length}
    row |= {f"data/{name}": value for name, value in _numbered(episode).items()}
    return row | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}


def _span(source: LeRobotDataset, episode: int, key: str, numbers: Mapping[str, int]) -> dict[str, Any]:
    """Where an episode lies in the copied videos of a camera."""
    place = source.video_place(episode, key)
    assert place is not None
    stop_s = place.start_s + float(source.times_s(episode)[-1]) + 1 / source.info.fps
    return {**_numbered(numbers[place.file]), "from_timestamp": place.start_s, "to_timestamp": stop_s}


def _of_images(source: LeRobotDataset, episode: int, key: str) -> lerobot_stats.Stats:
    length = source.episode_length(episode)
    rows = np.unique(np.linspace(0, length - 1, min(_SAMPLED, length)).astype(int))
    return lerobot_stats.of_images(source.frames_at(episode, rows, key))


def _write_metadata(
    source: LeRobotDataset, target: Path, form: Format, rows: list[Row], added: Mapping[str, Feature]
) -> None:
    """As of any v3.0 dataset, with the source's own description of its features."""
    tasks = lerobot_meta.read_tasks(source.path) or [""]
    lerobot_files.write_metadata(target, form, rows, tasks)
    info, own = files.read_json(target / INFO), files.read_json(confined(source.path, INFO))
    ours = {key: value for key, value in info["features"].items() if key in added}
    info |= {"features": {**own["features"], **ours}, "robot_type": source.robot_type}
    if not any(feature.dtype == "video" for feature in source.info.features.values()):
        info["video_path"] = None
    files.write_json(target / INFO, info)
    (target / _JOURNAL).unlink(missing_ok=True)
