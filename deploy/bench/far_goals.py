"""Whether goals beyond the planner's horizon are still reached: near ones and far ones of the same body, side by side.

A body crosses its workspace in little more than one horizon, so that here it is slowed down until four fit into it.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from deploy.bench.arena import Arena
from robot_wm.planning.controllable import Controllable
from sims import tasks
from sims.behaviours import babble_space
from sims.distant import distant_pairs, step_reach
from sims.robots import load
from sims.simulation import Simulation

HORIZONS = (1, 2, 4)
_ROOM = 0.85  # of the workspace's longest way that the farthest goals take: not all of them at its edges
_MODEL_STEPS = 24  # of every attempt: three times what the farthest goals need at least


def far_arenas(parts: Controllable, num: int, seed: int) -> Iterator[tuple[int, Arena]]:
    """Every distance of HORIZONS with `num` goals that lie so far away; the body of `parts` is slowed down for good.

    Raises:
        UserError: a body that takes torques, or one without goals so far away.
    """
    with load(parts.embodiment) as simulation:
        task = tasks.make(simulation, "reach")
        task.max_steps = _MODEL_STEPS * simulation.command.frame_skip
        horizon = step_reach(simulation) * parts.planner.config.horizon
        speed = slowed(simulation, horizon)
        slow_down(parts, speed)
        for distance in HORIZONS:
            yield distance, Arena(task, distant_pairs(task, num, seed, distance * speed * horizon))


def slowed(simulation: Simulation, horizon: NDArray[np.float64]) -> float:
    """The share of its speed, at most 1, at which the farthest goals just fit into the space of the body's babble."""
    simulation.reset(0)
    return float(min(1.0, _ROOM * np.max(2 * babble_space(simulation).half / (max(HORIZONS) * horizon))))


def slow_down(parts: Controllable, speed: float) -> None:
    """From now on the largest command of a plan is a share of what it was; the model hears of what is really sent."""
    command_map = parts.planner.body.command_map
    command_map.register_forward_pre_hook(lambda _, inputs: (speed * inputs[0], *inputs[1:]))
    if parts.one_shot is not None:  # its plans are in units of the full speed
        parts.one_shot.head.register_forward_hook(lambda _, inputs, plan_BHU: (plan_BHU / speed).clamp(-1, 1))
