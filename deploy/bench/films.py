"""Films of attempts made side by side: the first that reached their goal, and all that missed it."""

from pathlib import Path
from typing import Any, cast

import numpy as np

from deploy.bench.arena import Arena, Flown
from deploy.evaluation.episodes import Attempt, Stage, film
from robot_wm.data import video
from robot_wm.evaluation.results import Episode

_REACHED = 10
_HEIGHT_PX, _CRF, _GROUP = 192, 30, 250  # small: there are thousands of them


def film_attempts(folder: Path, arena: Arena, flown: Flown) -> list[Path]:
    """Write `SEED-reached.mp4` and `SEED-missed.mp4` into `folder`; those that are there already stay."""
    simulation = arena.task.simulation
    camera, rate_hz = simulation.camera, simulation.embodiment.control_rate_hz
    size = (_HEIGHT_PX, round(_HEIGHT_PX * camera.width / camera.height))
    stage = Stage(simulation, cast(Any, None), arena.task)  # a film needs no live robot
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for index in (*np.flatnonzero(flown.reached_B)[:_REACHED], *np.flatnonzero(~flown.reached_B)):
        pair, reached = arena.pairs[index], bool(flown.reached_B[index])
        path = folder / f"{pair.seed}-{'reached' if reached else 'missed'}.mp4"
        distances_m = tuple(flown.distances_BT[index].tolist())
        episode = Episode(pair.seed, distances_m, reached, bool(flown.ever_B[index]))
        if not path.is_file():
            frames = film(stage, Attempt(episode, flown.states[index]), pair, 1 / rate_hz, size)
            video.encode(path, frames, rate_hz, crf=_CRF, group=_GROUP)
        written.append(path)
    return written
