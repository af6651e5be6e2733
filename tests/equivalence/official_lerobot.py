"""Run by the Python that has the official `lerobot` package: reads a dataset into an npz, or records one.

python official_lerobot.py read DATASET OUT.npz
python official_lerobot.py write DATASET IN.npz
"""

import sys
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset


def read(path: Path, out: Path) -> None:
    """Every row, in a shuffled order, so that no frame is found by counting on from the one before."""
    dataset = LeRobotDataset("local/written", root=path, video_backend="pyav")
    rows = {int(i): dataset[int(i)] for i in np.random.default_rng(0).permutation(len(dataset))}
    arrays = {}
    for key in dataset.features:
        values = np.stack([np.asarray(rows[i][key]) for i in range(len(dataset))])
        if key in dataset.meta.camera_keys:
            values = np.rint(values.transpose(0, 2, 3, 1) * 255).astype(np.uint8)
        arrays[f"row/{key}"] = values
    arrays["tasks"] = np.array([rows[i]["task"] for i in range(len(dataset))])
    arrays["counts"] = np.array([dataset.num_episodes, dataset.num_frames, dataset.fps])
    for key, stats in dataset.meta.stats.items():
        arrays |= {f"stats/{key}/{name}": np.asarray(value) for name, value in stats.items()}
    np.savez(out, **arrays)


def write(path: Path, given: Path) -> None:
    """Episodes as the official recorder lays them out: one parquet file and one AV1 video for all of them."""
    arrays = np.load(given)
    frames, action, lengths = arrays["frames"], arrays["action"], arrays["lengths"]
    image = {"shape": frames.shape[1:], "names": ["height", "width", "channels"]}
    features = {
        "observation.images.front": {"dtype": "video", **image},
        "observation.images.still": {"dtype": "image", **image},
        "action": {"dtype": "float32", "shape": action.shape[1:], "names": None},
    }
    dataset = LeRobotDataset.create("local/recorded", 30, features, root=path, use_videos=True)
    row = 0
    for episode, length in enumerate(lengths):
        for _ in range(length):
            dataset.add_frame(
                {
                    "observation.images.front": frames[row],
                    "observation.images.still": frames[row],
                    "action": action[row],
                    "task": f"task {episode % 2}",
                }
            )
            row += 1
        dataset.save_episode()
    dataset.finalize()


if __name__ == "__main__":
    {"read": read, "write": write}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
