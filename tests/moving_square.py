"""A packed set of clips whose every motion is known: a bright square that wanders over a noisy background."""

import numpy as np

from robot_wm.contracts.dataset import HAND
from robot_wm.data.flow import flow, moments, pool
from robot_wm.data.pack import Pack

SIZE, CELLS = 32, 16


def make_pack(episodes: int, frames: int, seed: int = 0, with_state: bool = False) -> Pack:
    """Clips of a 6 px square moving by up to 3 px per frame; its centre [px] as the hand, if wanted."""
    rng = np.random.default_rng(seed)
    images, places = [], []
    for _ in range(episodes):
        background = rng.integers(0, 120, (SIZE, SIZE, 3))
        place, velocity = rng.uniform(8, SIZE - 8, 2), rng.uniform(-2, 2, 2)
        for _ in range(frames):
            image = background.copy()
            x, y = np.round(place).astype(int)
            image[y - 3 : y + 3, x - 3 : x + 3] = 230
            images.append(image.astype(np.uint8))
            places.append([x, y, 0.0])
            velocity = np.clip(velocity + rng.normal(size=2), -3, 3)
            place = np.clip(place + velocity, 4, SIZE - 4)
    stacked, count = np.stack(images), episodes * frames
    pooled = np.zeros((count, CELLS, CELLS, 2), np.float32)
    for start in range(0, count, frames):
        pooled[start : start + frames - 1] = pool(flow(stacked[start : start + frames]), CELLS)
    valid = np.arange(count) % frames != frames - 1
    columns = {HAND: np.array(places, np.float32)} if with_state else {}
    return Pack(
        frames_FYXC=stacked,
        flow_F=pooled.astype(np.float16),
        moments_F=moments(pooled),
        columns=columns,
        episode_F=np.repeat(np.arange(episodes), frames).astype(np.int32),
        valid_F=valid,
        starts=np.arange(0, count + 1, frames),
        step_s=0.2,
        every=1,
    )
