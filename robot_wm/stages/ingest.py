"""ingest: a user's own video, or LeRobot dataset, as a dataset to pretrain on."""

import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from robot_wm import console
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import dataset_folder, open_run
from robot_wm.data import contact_sheet, hub, journal
from robot_wm.data.clips import Clip, Refusal
from robot_wm.data.contact_sheet import Tile
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.lerobot_writer import LeRobotWriter
from robot_wm.data.shots import Screening, stretches
from robot_wm.data.sources import Intake, from_dataset, from_videos

_REPORTS = "sources.jsonl"
_SHEET = "contact_sheet.png"
T = TypeVar("T")
_TILES = 30  # of each kind on the contact sheet


@dataclass(frozen=True)
class IngestConfig:
    """Configuration of `robot-wm ingest`.

    Attributes:
        data: a video file, a folder of videos and of numbered images, a LeRobot dataset, the run that wrote one, or
            `hub:owner/name[@revision]`, a dataset of the Hugging Face Hub.
        size: short side of the written video [pixels]; smaller video is not enlarged.
        step_s: time from one written frame to the next [s].
        images_fps: rate of runs of numbered images, which say nothing of it [Hz].
        keep_labels: keep states, actions and other columns of a dataset, at the rows of the kept frames.
        cache: folder for what is downloaded from the Hub.
        screening: what is a cut, and what is refused.
    """

    data: str
    size: int = 128
    step_s: float = 0.2
    images_fps: float = 30.0
    keep_labels: bool = False
    cache: str = ".cache"
    screening: Screening = field(default_factory=Screening)
    name: str = "ingest"
    out: str = "runs"
    seed: int = 0


def ingest(config: IngestConfig) -> Path:
    """Write what is worth learning from as a LeRobot v3 dataset; returns the run folder, which holds `dataset/`.

    Video is written small and at the model's rate, which is all that pretraining reads: a copy at full size would
    cost many times the space and decoding time. Every shot becomes an episode of its own. Stretches that are black,
    frozen, damaged or too short, and recordings that cannot be read, are left out and counted, listed in
    `sources.jsonl` beside what was kept, and shown in `contact_sheet.png`. An interrupted run goes on after the last
    episode it wrote.

    Raises:
        UserError: no such path, or nothing in it that can be used.
    """
    if config.size < 16 or not config.step_s > 0:
        raise UserError(f"size is {config.size}, step_s {config.step_s}", "Give at least 16 pixels and a positive time")
    if not config.images_fps > 0:
        raise UserError(f"images_fps is {config.images_fps}", "Give a positive rate in images per second")
    data = hub.local(config.data, Path(config.cache))
    intake = _find(config, data)
    with open_run(Path(config.out), "ingest", config.name, config, {"data": data}) as run:
        if run.complete:
            console.say(f"ingest: already done with the same inputs: {run.path}")
            return run.path
        started_s = time.monotonic()
        for problem in intake.unreadable.values():
            console.say(f"left out: {problem}")
        try:
            writer = LeRobotWriter(run.path / "dataset", intake.fps, intake.features, intake.robot_type)
            reports = _take_in(intake, writer, config.screening, run.path / _REPORTS)
            metrics = _count(intake, reports)
            _refuse_nothing(config, metrics, reports)
        except UserError:
            shutil.rmtree(run.path / "dataset")
            (run.path / _REPORTS).unlink(missing_ok=True)
            raise
        writer.close()
        _draw(intake, LeRobotDataset(writer.path), reports, run.path / _SHEET)
        console.table("taken in", ("what", "count"), list(metrics.items()))
        seconds = round(time.monotonic() - started_s, 3)
        run.finish(["dataset", _REPORTS, _SHEET], metrics=metrics | {"seconds": seconds})
        console.say(f"dataset: {writer.path}")
        return run.path


def _find(config: IngestConfig, root: Path) -> Intake:
    if not root.exists():
        raise UserError(f"{root} does not exist", "Give a video file, a folder of videos, or a LeRobot dataset")
    folder = dataset_folder(root)
    if (folder / "meta" / "info.json").is_file():
        return from_dataset(folder, config.size, config.step_s, config.keep_labels)
    return from_videos(root, config.size, config.step_s, config.images_fps)


def _take_in(intake: Intake, writer: LeRobotWriter, screening: Screening, path: Path) -> list[dict[str, Any]]:
    """Write the usable stretches of all sources; returns one report per source, those of an earlier attempt first."""
    reports = journal.read(path)
    sizes = [source.expected_frames() for source in intake.sources]
    with console.progress("ingest", sum(sizes), sum(sizes[: len(reports)])) as bar:
        for source in intake.sources[len(reports) :]:
            written = writer.num_episodes - sum(len(report["kept"]) for report in reports)  # before an interruption
            report: dict[str, Any] = {"source": source.name, "kept": [], "refused": [], "error": None}
            report |= {"remark": source.remark}
            try:
                for clip in source.clips():
                    if isinstance(clip, Refusal):
                        report["refused"].append(_span("corrupt", clip.start_s, clip.stop_s, clip.num_frames))
                    else:
                        _write(clip, intake, writer, screening, report, written)
                    bar.advance(clip.num_frames, note=source.name)
            except UserError as error:
                report["error"] = error.problem
                console.say(f"left out: {error.problem}")
            journal.append(path, report)
            reports.append(report)
    return reports


def _write(
    clip: Clip, intake: Intake, writer: LeRobotWriter, screening: Screening, report: dict[str, Any], written: int
) -> None:
    """Add the usable stretches of a clip to the dataset, but for the first `written` of the source."""
    images_TYXC = next(iter(clip.videos.values()))
    for part in stretches(images_TYXC, 1 / intake.fps, screening):
        start_s, stop_s = (clip.start_s + edge / intake.fps for edge in (part.start, part.stop))
        span = _span(part.reason, start_s, stop_s, part.stop - part.start)
        if part.reason:
            report["refused"].append(span)
            continue
        if len(report["kept"]) >= written:
            cut = slice(part.start, part.stop)
            columns = {key: values[cut] for key, values in clip.columns.items()}
            writer.add_episode(columns, {key: frames[cut] for key, frames in clip.videos.items()}, clip.task)
        report["kept"].append(span)


def _span(reason: str, start_s: float, stop_s: float, num_frames: int) -> dict[str, Any]:
    """A stretch of a source, in `sources.jsonl`; kept ones have no reason."""
    return {"reason": reason, "start_s": round(start_s, 4), "stop_s": round(stop_s, 4), "frames": num_frames}


def _count(intake: Intake, reports: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The figures of the run: what was kept, and what was refused by reason."""
    refused = Counter[str]()
    for _, part in _parts(reports, "refused"):
        refused[part["reason"]] += part["frames"]
    kept = _parts(reports, "kept")
    return {
        "sources": len(intake.sources) + len(intake.unreadable),
        "left_out": len(intake.unreadable) + sum(report["error"] is not None for report in reports),
        "cropped": sum(bool(report["remark"]) for report in reports),
        "episodes": len(kept),
        "frames": sum(part["frames"] for _, part in kept),
        **{f"{reason}_frames": refused[reason] for reason in ("black", "frozen", "short", "corrupt")},
    }


def _parts(reports: Sequence[Mapping[str, Any]], what: str) -> list[tuple[int, dict[str, Any]]]:
    """Number of the source, and stretch, of all that was kept or refused."""
    return [(number, part) for number, report in enumerate(reports) for part in report[what]]


def _refuse_nothing(config: IngestConfig, counts: Mapping[str, int], reports: Sequence[Mapping[str, Any]]) -> None:
    """Raise UserError if no episode is left, and say what became of the data."""
    if counts["episodes"]:
        return
    reasons = [f"{name} {counts[name]}" for name in counts if name.endswith("_frames") and counts[name]]
    errors = [report["error"] for report in reports if report["error"]]
    told = "; ".join([*errors[:1], *reasons])
    raise UserError(f"nothing in {config.data} can be used ({told})", "Give other video, or loosen screening.*")


def _draw(intake: Intake, dataset: LeRobotDataset, reports: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The contact sheet: evenly chosen episodes that were kept, then what was refused."""
    kept, refused = _parts(reports, "kept"), _parts(reports, "refused")
    green = []
    for episode in _evenly(range(len(kept))):
        number, part = kept[episode]
        image_YXC = dataset.frames_at(episode, np.array([dataset.episode_length(episode) // 2]))[0]
        green.append(Tile(image_YXC, intake.sources[number].name, _times(part)))
    red = []
    for number, part in _evenly(refused):
        source = intake.sources[number]
        try:
            image_YXC = source.image_at((part["start_s"] + part["stop_s"]) / 2)
        except UserError:  # the end of a broken file
            image_YXC = None
        red.append(Tile(image_YXC, source.name, f"{part['reason']}, {_times(part)}"))
    broken = {**intake.unreadable, **{report["source"]: report["error"] for report in reports if report["error"]}}
    red += [Tile(None, name, broken[name].rpartition(name)[2].strip()) for name in _evenly(list(broken))]
    lost = sum(part["frames"] for _, part in refused)
    contact_sheet.write(
        path,
        (_heading("Kept", len(green), len(kept), f"{dataset.info.total_frames} frames"), green),
        (_heading("Refused", len(red), len(refused) + len(broken), f"{lost} frames"), red),
    )


def _heading(what: str, shown: int, found: int, frames: str) -> str:
    stretches_ = "1 stretch" if found == 1 else f"{found} stretches"
    return f"{what}: {stretches_}, {frames}" + (f" ({shown} of them shown)" if shown < found else "")


def _times(part: Mapping[str, Any]) -> str:
    return f"{part['start_s']:.1f} to {part['stop_s']:.1f} s"


def _evenly(items: Sequence[T]) -> list[T]:
    """At most `_TILES` of the items, evenly chosen."""
    chosen = np.unique(np.linspace(0, len(items) - 1, min(_TILES, len(items))).astype(int))
    return [items[int(index)] for index in chosen]
