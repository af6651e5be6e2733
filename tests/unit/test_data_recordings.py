"""Plain video in all its shapes: containers, black bars, odd pixels, numbered images, damage."""

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from robot_wm.contracts.run import read_run
from robot_wm.data import images, video
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.letterbox import Bars
from robot_wm.stages.ingest import IngestConfig, ingest


def encode(
    path: Path, frames: np.ndarray, fps: int = 10, codec: str = "libx264", pixel: int = 1, gop: int = 12
) -> None:
    with av.open(str(path), "w") as container:
        target = container.add_stream(codec, rate=fps, options={"g": str(gop), "x265-params": "log-level=error"})
        target.height, target.width, target.pix_fmt = *frames.shape[1:3], "yuv420p"
        target.codec_context.sample_aspect_ratio = pixel
        for image in frames:
            container.mux(target.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(target.encode())


def taken_in(data: Path, runs: Path, **options: object) -> tuple[LeRobotDataset, dict, dict[str, dict]]:
    """The dataset, the figures, and the report of every source."""
    run = ingest(IngestConfig(str(data), size=64, out=str(runs), **options))  # type: ignore[arg-type]
    reports = [json.loads(line) for line in (run / "sources.jsonl").read_text().splitlines()]
    return LeRobotDataset(run / "dataset"), read_run(run).metrics, {report["source"]: report for report in reports}


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx265"), ("a.mkv", "libx264"), ("a.mov", "libx264"), ("a.webm", "libvpx-vp9")]
)
def test_containers(tmp_path: Path, film, name: str, codec: str) -> None:
    frames = film(41, 64, 80)
    encode(tmp_path / name, frames, codec=codec)
    dataset, _, reports = taken_in(tmp_path / name, tmp_path / "runs")
    found = dataset.frames(0)
    assert found.shape == (21, 64, 80, 3)
    assert np.abs(found.astype(int) - frames[::2]).mean(axis=(1, 2, 3)).max() < 12
    assert reports[name]["kept"] == [{"reason": "", "start_s": 0.0, "stop_s": 4.2, "frames": 21}]


def test_black_bars_are_cut_off_and_dark_scenes_are_not(tmp_path: Path, film) -> None:
    wide = np.zeros((30, 96, 96, 3), np.uint8)
    wide[:, 16:80] = film(30, 64, 96)
    encode(tmp_path / "wide.mp4", wide)
    dataset, metrics, reports = taken_in(tmp_path / "wide.mp4", tmp_path / "runs")
    assert dataset.frames(0).shape[1:3] == (64, 96)
    assert dataset.frames(0)[:, :2].mean() > 30
    assert metrics["cropped"] == 1
    assert reports["wide.mp4"]["remark"].startswith("black bars cut off: top 1")
    pillars = wide.swapaxes(1, 2)
    assert Bars.of(list(pillars)) == Bars(left=16, right=16)
    assert not Bars.of([np.zeros((64, 64, 3), np.uint8)])  # a dark scene
    floor = film(5)
    floor[:, 40:] = 0  # dark below only
    assert not Bars.of(list(floor))
    assert not Bars.of([])


def test_pixels_that_are_not_square_and_portraits(tmp_path: Path, film) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    encode(folder / "a.mp4", film(20, 64, 64), pixel=2)  # shown 128 wide
    encode(folder / "b.mp4", film(20, 64, 128, seed=1))
    encode(folder / "phone.mp4", film(20, 128, 64, seed=2))
    dataset, metrics, reports = taken_in(folder, tmp_path / "runs")
    assert [dataset.frames(e).shape[1:3] for e in range(3)] == [(64, 128)] * 3
    assert (reports["a.mp4"]["remark"], reports["b.mp4"]["remark"]) == ("", "")
    assert reports["phone.mp4"]["remark"] == "25% of the picture left in the shape of the others"
    assert metrics["cropped"] == 1


def test_numbered_images_are_video(tmp_path: Path, film) -> None:
    folder = tmp_path / "run_7"
    folder.mkdir()
    frames = film(40)
    for index, image in enumerate(frames):
        cv2.imwrite(str(folder / f"img_{index + 5}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(tmp_path / "poster.png"), frames[0])
    (folder / "img_25.png").write_bytes(b"no image")
    (folder / "img_35.png").unlink()
    [sequence] = images.find_sequences(tmp_path, 10.0)
    assert (sequence.name, len(sequence.paths), sequence.times_s[-1]) == ("run_7/img_*.png", 39, pytest.approx(3.9))
    dataset, metrics, reports = taken_in(tmp_path, tmp_path / "runs", images_fps=10.0)
    report = reports["run_7/img_*.png"]
    assert [(part["reason"], part["start_s"]) for part in report["refused"]] == [("corrupt", 2.0)]
    assert dataset.num_episodes == 2
    assert np.abs(dataset.frames(0).astype(int) - frames[0:20:2]).mean(axis=(1, 2, 3)).max() < 6
    assert metrics["frames"] + metrics["corrupt_frames"] == pytest.approx(20, abs=1)


def test_damage_spoils_no_more_than_the_frames_that_build_on_it(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 1), dtype=np.uint8).repeat(3, axis=2)
    frames, path = np.stack([np.roll(noise, 2 * shift, axis=1) for shift in range(120)]), tmp_path / "a.mp4"
    encode(path, frames, gop=20)
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + int(0.45 * len(data))
    data[middle : middle + 600] = np.random.default_rng(1).bytes(600)
    path.write_bytes(data)
    dataset, metrics, reports = taken_in(path, tmp_path / "runs")
    assert 1 <= metrics["corrupt_frames"] <= 14
    assert dataset.info.total_frames + metrics["corrupt_frames"] == pytest.approx(60, abs=1)
    for episode, part in enumerate(reports["a.mp4"]["kept"]):
        rows = np.arange(part["frames"]) * 2 + round(part["start_s"] * 10)
        assert np.abs(dataset.frames(episode).astype(int) - frames[rows]).mean(axis=(1, 2, 3)).max() < 25


def test_what_is_cut_off_at_the_end_is_counted(tmp_path: Path, film) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        target = container.add_stream("libx264", rate=10, options={"g": "5"})
        target.height, target.width, target.pix_fmt = 64, 64, "yuv420p"
        for image in film(100):
            container.mux(target.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(target.encode())
    path.write_bytes(path.read_bytes()[: int(0.6 * path.stat().st_size)])
    dataset, metrics, _ = taken_in(path, tmp_path / "runs")
    assert 15 <= dataset.info.total_frames < 40
    assert dataset.info.total_frames + metrics["corrupt_frames"] == pytest.approx(50, abs=1)
    with pytest.raises(Exception, match=r"is cut short|cannot be read|is damaged"):
        video.decode(path)
