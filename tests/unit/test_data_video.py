"""Video: the frame that belongs to a time, whatever the codec, size or rate."""

import errno
from pathlib import Path

import av
import numpy as np
import pytest

from robot_wm.contracts.errors import UserError
from robot_wm.data import video
from robot_wm.data.encoder import MemoryNamed


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 86), (33, 47)])
@pytest.mark.parametrize("fps", [5.0, 29.97, 1 / 0.15])
def test_encoded_frames_come_back_in_place(tmp_path: Path, film, height: int, width: int, fps: float) -> None:
    frames = film(9, height, width)
    video.encode(tmp_path / "a.mp4", frames, fps)

    info = video.probe(tmp_path / "a.mp4")
    decoded = video.decode(tmp_path / "a.mp4")

    assert (info.frames, info.height, info.width) == (9, height, width)
    assert info.fps == pytest.approx(fps, rel=1e-3)
    error_FF = np.abs(decoded[:, None].astype(int) - frames[None].astype(int)).mean(axis=(2, 3, 4))
    assert (error_FF.argmin(axis=1) == np.arange(9)).all()
    assert np.diag(error_FF).max() < 8


def test_frame_is_chosen_by_time_not_by_count(tmp_path: Path, film) -> None:
    path = tmp_path / "a.mp4"
    video.encode(path, film(40), 30.0)
    everything = video.decode(path)

    rows = np.array([1, 7, 8, 31, 39])

    assert np.array_equal(video.decode_at(path, rows / 30.0), everything[rows])
    with pytest.raises(UserError, match=r"no frame at 0\.2510 s \(the nearest is at 0\.2667 s\)"):
        video.decode_at(path, np.array([0.1, 0.251]))
    with pytest.raises(UserError, match=r"no frame at 1\.3333 s \(the nearest is at 1\.3000 s\)"):
        video.decode_at(path, np.array([40 / 30]))


def test_variable_frame_rate_keeps_its_times(tmp_path: Path, film) -> None:
    path, times_ms = tmp_path / "a.mkv", [0, 40, 200, 210, 500]
    with av.open(str(path), "w") as container:
        target = container.add_stream("libx264", rate=1000)
        target.height = target.width = 64
        target.pix_fmt = "yuv420p"
        for time_ms, image in zip(times_ms, film(5), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = time_ms
            container.mux(target.encode(frame))
        container.mux(target.encode())

    assert [frame.time_s for frame in video.stream(path)] == pytest.approx([t / 1000 for t in times_ms])
    assert np.array_equal(video.decode_at(path, np.array([0.2, 0.5])), video.decode(path)[[2, 4]])


def test_recording_turned_on_its_side_comes_upright(tmp_path: Path, film) -> None:
    frames, path = film(3, 32, 64), tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        target = container.add_stream("libx264", rate=5)
        target.height, target.width, target.pix_fmt = 32, 64, "yuv420p"
        target.set_display_rotation(-90)
        for image in frames:
            container.mux(target.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(target.encode())

    decoded = video.decode(path)

    assert (video.probe(path).height, video.probe(path).width) == decoded.shape[1:3] == (64, 32)
    clockwise = np.abs(decoded[0].astype(int) - np.rot90(frames[0], -1)).mean()
    counterclockwise = np.abs(decoded[0].astype(int) - np.rot90(frames[0])).mean()
    assert clockwise < 10 < counterclockwise


def test_scaling_averages_areas() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::2] = 200
    assert (video.resize(image, (32, 32)) == 100).all()
    assert video.resize(image, (32, 16)).shape == (32, 16, 3)


def test_real_av1_video_is_read_whole(real_data: Path) -> None:
    path = real_data / "av1_clip" / "episode_000040.mp4"
    frames = video.decode(path, (48, 64))
    assert frames.shape == (425, 48, 64, 3)
    assert np.array_equal(video.decode_at(path, np.array([3, 200, 424]) / 30, (48, 64)), frames[[3, 200, 424]])


def test_videos_are_listed_below_a_folder(tmp_path: Path) -> None:
    for name in ("b/2.MP4", "a.mov", "b/.hidden.mp4", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [p.relative_to(tmp_path).as_posix() for p in video.list_videos(tmp_path)] == ["a.mov", "b/2.MP4"]


def test_av1_of_odd_size_is_refused(tmp_path: Path, film) -> None:
    video.encode(tmp_path / "a.mp4", film(3), 5.0, "libsvtav1")
    assert video.decode(tmp_path / "a.mp4").shape == (3, 64, 64, 3)
    with pytest.raises(UserError, match="odd size 65 x 64"):
        video.encode(tmp_path / "b.mp4", film(3, 64, 65), 5.0, "libsvtav1")
    assert not (tmp_path / "b.mp4").exists()


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.EAGAIN])
def test_memory_that_ran_out_is_called_so(code: int) -> None:
    with pytest.raises(MemoryError), MemoryNamed():
        raise av.error.FFmpegError(code, "Try again")
    with pytest.raises(av.error.FFmpegError), MemoryNamed():
        raise av.error.FFmpegError(errno.EIO, "Input/output error")
