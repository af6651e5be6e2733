"""Depth that came with a dataset, looked over."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robot_wm import console
from robot_wm.contracts.dataset import image_key, is_depth
from robot_wm.contracts.errors import UserError
from robot_wm.data.checks import Places, Problem
from robot_wm.data.lerobot import LeRobotDataset

_MOST_MISSING = 0.5  # of the pixels of an episode


@dataclass(frozen=True)
class Depth:
    """The depth of one camera in the episodes looked at.

    Attributes:
        key: the feature's name.
        height, width: of its images [px].
        near_m, far_m: between which 98 % of what it measured lies.
        missing: share of the pixels without a measurement (0).
    """

    key: str
    height: int
    width: int
    near_m: float
    far_m: float
    missing: float


def look(dataset: LeRobotDataset, watched: Sequence[int]) -> tuple[list[Depth], list[Problem]]:
    """Measure the depth of every camera in some episodes."""
    depths, problems = [], []
    features = dataset.info.features
    for key in filter(is_depth, features):
        height, width = (*features[key].shape, 0, 0)[:2]
        seen, unseen, empty, reason = [], Places(), Places(), ""
        for episode in console.track(watched, key):
            try:
                depth_FYX = dataset.columns(episode, [key])[key]
            except UserError as error:
                unseen.add(episode, 1)
                reason = reason or error.problem
                continue
            seen.append(depth_FYX[:: max(1, len(depth_FYX) // 4)].ravel())
            if (missing := float((depth_FYX == 0).mean())) > _MOST_MISSING:
                empty.add(episode, len(depth_FYX), missing)
        pixels = np.concatenate([np.zeros(1, np.uint16), *seen])
        near, far = np.percentile(pixels[pixels > 0], (1, 99)) / 1000 if pixels.any() else (0.0, 0.0)
        depths.append(
            Depth(key, height, width, float(near), float(far), float((pixels[1:] == 0).mean()) if seen else 1.0)
        )
        if unseen.rows:
            text = f"{key} cannot be read in {unseen.rows} of {len(watched)} episodes: {reason}"
            problems.append(Problem("depth", True, text, "Record or convert those episodes again"))
        if empty.rows:
            text = f"{key} measures nothing in up to {empty.worst:.0%} of its pixels {empty.where()}"
            problems.append(Problem("depth", False, text, "Too near, too far, or covered; 0 is no distance"))
        camera = features.get(image_key(key.rpartition(".")[2]))
        if camera is not None and camera.shape[:2] != (height, width):
            text = f"{key} is {width} x {height}, the pictures of its camera are {camera.shape[1]} x {camera.shape[0]}"
            problems.append(Problem("depth", False, text, "Scale it before a pixel of one is looked up in the other"))
    return depths, problems
