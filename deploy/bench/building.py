"""How fast the decoded cache is built, beside decoding alone."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av

from deploy.bench.windows import CELLS, CORES, FPS, film_of
from robot_wm.contracts.dataset import Feature, image_key
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.lerobot_writer import LeRobotWriter
from robot_wm.data.pack import PackSpec, build_pack


def building(
    height: int, width: int, fps: float, episodes: int, length: int, rounds: int, path: Path
) -> dict[str, list[float]]:
    """Frames per second of the video: decoded and dropped, and into a cache of 64 px at 5 Hz."""
    with LeRobotWriter(path, fps, {image_key("front"): Feature("video", (height, width, 3))}) as writer:
        for episode in range(episodes):
            (frames_TYXC,) = film_of(1, length, height, width, episode)
            writer.add_episode({}, {image_key("front"): frames_TYXC})
    dataset = LeRobotDataset(path)
    rates: dict[str, list[float]] = {"decode": [], "cache": [], "cache with flow": []}
    for _ in range(rounds):
        for name, values in rates.items():
            started_s = time.perf_counter()
            if name == "decode":
                _decode(dataset)
            else:
                spec, cache = PackSpec(64, 1 / FPS, CELLS if "flow" in name else 0), path / "cache"
                build_pack(path, spec, cache, workers=CORES)
                shutil.rmtree(cache)
            values.append(dataset.info.total_frames / (time.perf_counter() - started_s))
    return rates


def _decode(dataset: LeRobotDataset) -> None:
    """Every frame of every episode decoded, with the threads that building the cache has, and dropped as it is."""

    def episode(number: int) -> None:
        place = dataset.video_place(number, image_key("front"))
        assert place is not None
        with av.open(str(dataset.path / place.file)) as container:
            stream, left = container.streams.video[0], dataset.episode_length(number)
            stream.thread_type, stream.codec_context.thread_count = "AUTO", min(4, os.cpu_count() or 1)
            container.seek(round(place.start_s / stream.time_base), stream=stream)
            for _ in container.decode(stream):
                left -= 1
                if not left:
                    break

    with ThreadPoolExecutor(CORES) as threads:
        list(threads.map(episode, range(dataset.num_episodes)))
