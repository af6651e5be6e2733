"""Every frame that we read is, byte for byte, the one that ffmpeg finds at the same index, also by random access."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from robot_wm.data import video
from robot_wm.data.lerobot import LeRobotDataset


def hashes_of_ffmpeg(path: Path) -> list[str]:
    """MD5 of every frame as packed RGB, by ffmpeg's command line."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg to compare with (apt-get install -y ffmpeg)")
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-an", "-fps_mode", "passthrough", "-pix_fmt", "rgb24"]
    done = subprocess.run([*command, "-f", "framemd5", "-"], capture_output=True, text=True, check=True, timeout=250)
    return [line.split(",")[-1].strip() for line in done.stdout.splitlines() if not line.startswith("#")]


def hashes(frames: np.ndarray) -> list[str]:
    return [hashlib.md5(np.ascontiguousarray(image)).hexdigest() for image in frames]


def check_at_random(path: Path, expected: list[str], every: int = 1) -> None:
    """Read frames by their own time alone, in a shuffled order."""
    for index in np.random.default_rng(0).permutation(len(expected))[::every]:
        assert hashes(video.decode_at(path, np.array([index / 30]))) == [expected[index]]


@pytest.mark.slow
def test_av1_clip(real_data: Path) -> None:
    path = real_data / "av1_clip" / "episode_000040.mp4"
    expected = hashes_of_ffmpeg(path)
    assert len(expected) == 425
    assert hashes(video.decode(path)) == expected
    check_at_random(path, expected, every=4)


def check_episode(dataset: LeRobotDataset, episode: int, every: int = 1) -> None:
    place = dataset.video_place(episode, "observation.images.cam_high")
    assert place is not None
    expected = hashes_of_ffmpeg(dataset.path / place.file)
    assert hashes(dataset.frames(episode)) == expected
    assert len(expected) == dataset.episode_length(episode)
    for row in np.random.default_rng(episode).permutation(len(expected))[::every]:
        assert hashes(dataset.frames_at(episode, np.array([row]))) == [expected[row]]


def test_one_episode_of_real_h264(real_data: Path) -> None:
    check_episode(LeRobotDataset(real_data / "g1_bottle"), 17)


@pytest.mark.slow
def test_every_episode_of_real_h264(real_data: Path) -> None:
    dataset = LeRobotDataset(real_data / "g1_bottle")
    for episode in range(dataset.num_episodes):
        check_episode(dataset, episode, every=60)


@pytest.mark.parametrize(
    ("codec", "size", "options"),
    [
        ("libx264", (64, 96), {"bf": "3", "g": "40"}),
        ("libx264", (63, 95), {"bf": "3", "g": "40", "x264-params": "open-gop=1"}),
        ("libx265", (64, 96), {"g": "30", "x265-params": "open-gop=1:log-level=error"}),
        ("libsvtav1", (64, 96), {"g": "40", "preset": "12"}),
    ],
)
def test_long_groups_of_pictures(tmp_path: Path, film, codec: str, size: tuple[int, int], options: dict) -> None:
    path, frames = tmp_path / "a.mp4", film(90, *size)
    with av.open(str(path), "w") as container:
        target = container.add_stream(codec, rate=30, options=options)
        target.height, target.width = size
        target.pix_fmt = video.pixel_format(*size)
        for image in frames:
            container.mux(target.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(target.encode())
    expected = hashes_of_ffmpeg(path)
    assert hashes(video.decode(path)) == expected
    check_at_random(path, expected)
