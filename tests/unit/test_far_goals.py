"""Far goals: they are as far as they say, and a body that is slowed down is imagined as slow as it is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from deploy.bench.far_goals import HORIZONS, slow_down, slowed
from robot_wm.contracts.errors import UserError
from robot_wm.planning.controllable import Controllable
from robot_wm.planning.planner import OneShot, Planner, PlannerConfig
from robot_wm.planning.samplers import CEM
from sims import tasks
from sims.distant import distant_pairs, step_reach
from sims.robots import load
from tests.point_body import SPACE, STEP, point_body
from tests.small_bodies import planar_arm

UPPER_M, LOWER_M = 0.3, 0.25


def elbows(place_m: np.ndarray) -> list[np.ndarray]:
    """Both poses of the planar arm that bring its tip to a place."""
    x, y, _ = place_m
    bend = np.arccos(np.clip((x**2 + y**2 - UPPER_M**2 - LOWER_M**2) / (2 * UPPER_M * LOWER_M), -1, 1))
    return [
        np.array([np.arctan2(y, x) - np.arctan2(LOWER_M * np.sin(e), UPPER_M + LOWER_M * np.cos(e)), e])
        for e in (bend, -bend)
    ]


@pytest.mark.parametrize("interface", ["joint_position", "joint_velocity"])
def test_goals_need_as_many_steps_as_they_say(tmp_path: Path, interface: str) -> None:
    with load(planar_arm(tmp_path, interface)) as simulation:
        task, step = tasks.make(simulation), step_reach(simulation)
        for steps in (0.5, 1.0):
            for pair in distant_pairs(task, 5, 0, steps * step):
                task.start(pair)
                start = simulation.proprio()[:2]
                needed = [np.abs((pose - start) / step).max() for pose in elbows(pair.goal_position_m)]
                assert min(abs(found - steps) for found in needed) < 0.07
                assert pair.start_distance_m >= task.threshold_m
        with pytest.raises(UserError, match="has only 0 of 1 pairs"):
            distant_pairs(task, 1, 0, 20 * step)


def test_the_farthest_goals_just_fit_into_the_workspace(tmp_path: Path) -> None:
    with load(planar_arm(tmp_path)) as simulation:
        horizon = 2 * step_reach(simulation)
        speed = slowed(simulation, horizon)
        assert 0 < speed < 1
        assert len(distant_pairs(tasks.make(simulation), 2, 0, HORIZONS[-1] * speed * horizon)) == 2


def test_torques_have_no_reach(tmp_path: Path) -> None:
    with load(planar_arm(tmp_path, "joint_torque")) as simulation, pytest.raises(UserError, match="takes torques"):
        step_reach(simulation)


class Ahead(torch.nn.Module):
    """A head that wants to go at a quarter of full speed."""

    def forward(self, problem: object) -> Tensor:
        return torch.tensor([[[0.25, -0.05]]])


@torch.no_grad()
def test_a_slowed_body_is_imagined_as_slow_as_it_is() -> None:
    body, sampler = point_body(), CEM(elites=4)
    planner = Planner(PlannerConfig(1, 64, 3, sampler, propose=0.0), body)
    one_shot = OneShot(planner, Ahead())  # type: ignore[arg-type]
    slow_down(Controllable(torch.nn.Identity(), planner, one_shot, None, SPACE, ("a", "b"), {}), 0.1)  # type: ignore[arg-type]
    history, goal, still = torch.zeros(1, 2, 2), torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2)
    noise = torch.randn(1, 3, 64, 1, 2, generator=torch.Generator().manual_seed(0))
    chunk, _, _, _, imagined = planner(history, goal, still, still, torch.zeros(1, 1, 2), noise)
    assert chunk[0, :, 0].tolist() == pytest.approx([0.1, 0.1], abs=0.02), "as fast as it may"
    assert torch.allclose(imagined[0, 0], STEP * chunk.mean(1)), "and no faster in the mind"
    assert one_shot(history, goal, still, still)[0][0, 0].tolist() == pytest.approx([0.1, -0.05])
