"""Several environments at once: stepped in turn by one process, or by a process each."""

import time
from typing import Any

import gymnasium
import numpy as np

from deploy.bench.result import Row

_NUM, _ROBOT, _WAIT_S = 4, "procedural/3", 120.0
_ID = "sims.env:robot_wm/Reach-v0"


def vector_environments(seconds: float, rounds: int, pixels: bool) -> list[Row]:
    """Steps per second of all environments together, for both ways in turn."""
    what = f"{_NUM} environments{', 96 px pictures' if pixels else ''}"
    names = {"sync": f"{what}, one process (sync)", "async": f"{what}, a process each (async)"}
    made: dict[str, Any] = {}
    rates: dict[str, list[float]] = {mode: [] for mode in names}
    try:
        for mode in names:
            kwargs = {"context": "spawn"} if mode == "async" else {}  # OpenGL does not survive a fork
            made[mode] = gymnasium.make_vec(
                _ID, _NUM, vectorization_mode=mode, vector_kwargs=kwargs, robot=_ROBOT, pixels=pixels
            )
            _reset(made[mode], mode)
        for _ in range(rounds):
            for mode, environments in made.items():
                rates[mode].append(_rate(environments, mode, seconds))
    finally:
        for mode, environments in made.items():
            environments.close(**({"terminate": True} if mode == "async" else {}))
    sync, apart = (float(np.median(rates[mode])) for mode in names)
    return [
        Row(names["sync"], sync, "steps/s", n=rounds),
        Row(names["async"], apart, "steps/s", n=rounds, reference=sync),
    ]


def _reset(environments: Any, mode: str) -> None:
    if mode == "sync":
        environments.reset(seed=0)
        return
    environments.reset_async(seed=0)
    environments.reset_wait(timeout=_WAIT_S)


def _rate(environments: Any, mode: str, seconds: float) -> float:
    actions = np.zeros(environments.action_space.shape)
    steps, started_s = 0, time.perf_counter()
    while (passed_s := time.perf_counter() - started_s) < seconds:
        if mode == "sync":
            environments.step(actions)
        else:
            environments.step_async(actions)
            environments.step_wait(timeout=_WAIT_S)
        steps += _NUM
    return steps / passed_s
