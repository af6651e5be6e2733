"""Whatever is written comes back: random lengths, cameras, shapes and dtypes."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_wm.contracts.dataset import Feature, image_key
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.lerobot_writer import LeRobotWriter

DTYPES = st.sampled_from(["float32", "float64", "int64", "uint8", "bool"])
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
SIZES = st.tuples(st.integers(16, 40), st.integers(16, 40))


@st.composite
def recordings(draw: st.DrawFn) -> tuple[dict[str, Feature], list[int], float, list[str], int]:
    columns = draw(st.lists(st.tuples(DTYPES, SHAPES), max_size=4))
    cameras = draw(st.lists(SIZES, min_size=0 if columns else 1, max_size=2))
    features = {f"column.{i}": Feature(dtype, shape) for i, (dtype, shape) in enumerate(columns)}
    features |= {image_key(f"camera{i}"): Feature("video", (*size, 3)) for i, size in enumerate(cameras)}
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    fps = draw(st.sampled_from([5.0, 10.0, 29.97, 30.0, 50.0]))
    tasks = draw(st.lists(st.text(max_size=12), min_size=len(lengths), max_size=len(lengths)))
    return features, lengths, fps, tasks, draw(st.integers(0, 2**16))


def values(feature: Feature, length: int, random: np.random.Generator) -> np.ndarray:
    if feature.is_video:
        # One grey per frame: what compression leaves of it still tells which frame it is.
        greys = random.permutation(9)[:length].astype(np.uint8) * 25 + 20
        return np.broadcast_to(greys[:, None, None, None], (length, *feature.shape))
    scaled = random.normal(size=(length, *feature.shape)) * 100
    return scaled.astype(feature.dtype) if feature.dtype != "uint8" else np.abs(scaled).astype("uint8")


@settings(max_examples=25)
@given(recordings())
def test_round_trip(recording: tuple[dict[str, Feature], list[int], float, list[str], int]) -> None:
    features, lengths, fps, tasks, seed = recording
    random = np.random.default_rng(seed)
    episodes = [{key: values(f, length, random) for key, f in features.items()} for length in lengths]
    with tempfile.TemporaryDirectory() as folder:
        with LeRobotWriter(Path(folder) / "set", fps, features) as writer:
            for episode, task in zip(episodes, tasks, strict=True):
                videos = {key: v for key, v in episode.items() if features[key].is_video}
                writer.add_episode({k: v for k, v in episode.items() if k not in videos}, videos, task)
        dataset = LeRobotDataset(Path(folder) / "set")
        assert dataset.info.features.keys() >= features.keys()
        for number, (episode, task) in enumerate(zip(episodes, tasks, strict=True)):
            assert dataset.tasks(number) == [task]
            assert dataset.episode_length(number) == lengths[number]
            columns = dataset.columns(number)
            for key, expected in episode.items():
                if features[key].is_video:
                    frames = dataset.frames(number, key)
                    assert frames.shape == expected.shape
                    assert np.abs(frames.astype(int) - expected).max() < 10
                else:
                    assert columns[key].dtype == expected.dtype
                    assert np.array_equal(columns[key], expected)
