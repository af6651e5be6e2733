"""What optical flow says of the motion that matters: the hand's, known to the simulator, from flow alone."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from deploy.bench.bench import BenchConfig
from deploy.bench.result import Row
from deploy.cli import run_stage
from robot_wm.contracts.dataset import HAND
from robot_wm.contracts.run import dataset_folder
from robot_wm.data.flow import flow, moments, pool
from robot_wm.data.lerobot import LeRobotDataset

_EPISODES, _FRAMES = {"quick": 60, "full": 600}, 16
_CELLS, _MAX_PX, _HELD_OUT = 16, 5.0, 0.3
_PRESETS = {
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
}
Method = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def flow_quality(config: BenchConfig) -> list[Row]:
    """R² from the four flow moments to the hand's motion in the picture, on scenes held out from the fit, and its cost.

    Procedural arms are recorded at 64 px and 5 Hz. Motion in the picture is that of (x / z, y / z) in the camera's
    frame: no camera need be known. What training uses stands beside OpenCV's presets and Farnebäck's method.
    """
    out = Path(config.out) / "bench" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    sizes = [f"episodes={_EPISODES[config.size]}", f"frames_per_episode={_FRAMES}", "size=64"]
    recorded = run_stage("record", [f"out={out}", f"seed={config.seed}", *sizes])
    assert recorded is not None
    dataset = LeRobotDataset(dataset_folder(recorded))
    episodes = range(dataset.num_episodes)
    clips = [dataset.frames(episode) for episode in episodes]
    hands = [dataset.columns(episode, [HAND])[HAND] for episode in episodes]
    motion = np.concatenate([np.diff(hand[:, :2] / hand[:, 2:], axis=0) for hand in hands])
    owner = np.repeat(episodes, [len(clip) - 1 for clip in clips])
    fitted = owner < (1 - _HELD_OUT) * dataset.num_episodes
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        rows = []
        for name, method in _methods().items():
            started_s = time.process_time()
            fields = [method(clip) for clip in clips]
            cost_ms = 1000 * (time.process_time() - started_s) / len(owner)
            found = np.concatenate([moments(pool(field, _CELLS)) for field in fields])
            rows.append(Row(f"{name}: R² of the hand's motion", _r2(found, motion, fitted), n=int((~fitted).sum())))
            rows.append(Row(f"{name}: processor time per pair of frames", cost_ms, "ms", n=len(owner)))
    finally:
        cv2.setNumThreads(threads)
    return rows


def _methods() -> dict[str, Method]:
    presets = {f"DIS, preset {name}": _pairwise(_dis(preset)) for name, preset in _PRESETS.items()}
    return {"as in training": flow, **presets, "Farnebäck": _pairwise(_farneback)}


def _dis(preset: int) -> Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]:
    search = cv2.DISOpticalFlow.create(preset)
    return lambda first, second: np.asarray(search.calc(first, second, None))


def _farneback(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0))


def _pairwise(calculate: Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]) -> Method:
    def method(frames_TYXC: NDArray[np.uint8]) -> NDArray[np.float32]:
        grey = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for frame in frames_TYXC]
        fields = [calculate(a, b) for a, b in pairwise(grey)]
        return np.clip(np.stack(fields), -_MAX_PX, _MAX_PX)

    return method


def _r2(inputs: NDArray[np.float32], targets: NDArray[np.floating], fitted: NDArray[np.bool_]) -> float:
    """Of least squares fitted on some rows, on the others."""
    design = np.column_stack([inputs, np.ones(len(inputs))])
    weights = np.linalg.lstsq(design[fitted], targets[fitted], rcond=None)[0]
    residual = targets[~fitted] - design[~fitted] @ weights
    spread = targets[~fitted] - targets[~fitted].mean(axis=0)
    return float(1 - np.square(residual).sum() / np.square(spread).sum())
