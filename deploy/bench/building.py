"""How fast the decoded cache is built, beside decoding alone."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from deploy.bench.windows import CELLS, CORES, FPS, film_of
from robot_wm.contracts.dataset import Feature, image_key
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.lerobot_writer import LeRobotWriter
from robot_wm.data.pack import PackSpec, build_pack

_THREADS = 4  # of the decoder, as many as reading large video takes
_DECODING = {
    f"{name}, {threads} threads": (threads, to_rgb)
    for name, to_rgb in (("decode", False), ("decode to RGB", True))
    for threads in (1, _THREADS)
}


def building(
    height: int, width: int, fps: float, episodes: int, length: int, rounds: int, path: Path
) -> dict[str, list[float]]:
    """Frames per second of the video: decoded and dropped, the same as RGB, and into a cache of 64 px at 5 Hz.

    A decoder gives YUV, from which every cache of RGB must still be converted: at 64 px two fifths more work.
    """
    with LeRobotWriter(path, fps, {image_key("front"): Feature("video", (height, width, 3))}) as writer:
        for episode in range(episodes):
            (frames_TYXC,) = film_of(1, length, height, width, episode)
            writer.add_episode({}, {image_key("front"): frames_TYXC})
    dataset = LeRobotDataset(path)
    rates: dict[str, list[float]] = {name: [] for name in ("cache", "cache with flow", *_DECODING)}
    for _ in range(rounds):
        for name, values in rates.items():
            started_s = time.perf_counter()
            if name in _DECODING:
                _decode(dataset, *_DECODING[name])
            else:
                spec, cache = PackSpec(64, 1 / FPS, CELLS if "flow" in name else 0), path / "cache"
                build_pack(path, spec, cache, workers=CORES)
                shutil.rmtree(cache)
            values.append(dataset.info.total_frames / (time.perf_counter() - started_s))
    for name in ("decode", "decode to RGB"):  # with one thread per file or several, whichever is faster here
        found = [rates.pop(f"{name}, {threads} threads") for threads in (1, _THREADS)]
        rates[name] = max(found, key=lambda values: float(np.median(values)))
    return rates


def _decode(dataset: LeRobotDataset, threads: int, to_rgb: bool) -> None:
    """Every frame of every episode decoded, as many files at a time as the cache is built from, and dropped."""

    def episode(number: int) -> None:
        place = dataset.video_place(number, image_key("front"))
        assert place is not None
        converter = VideoReformatter()
        with av.open(str(dataset.path / place.file)) as container:
            stream, left = container.streams.video[0], dataset.episode_length(number)
            stream.thread_type, stream.codec_context.thread_count = "AUTO", threads
            container.seek(round(place.start_s / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if to_rgb:
                    converter.reformat(frame, format="rgb24", threads=1)
                left -= 1
                if not left:
                    break

    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(episode, range(dataset.num_episodes)))
