"""The arena in which planners are compared: everyone starts from the same, and what is done is what is judged."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deploy.bench.arena import Arena, holding
from deploy.bench.control import planner_named
from robot_wm.planning.samplers import ICEM, MPPI, Gradient
from sims import tasks
from sims.robots import load
from tests.small_bodies import planar_arm


class Blind(nn.Module):
    """An encoder that sees nothing; what is decided by it needs no eyes."""

    def forward(self, frames_BYXC: Tensor) -> Tensor:
        assert frames_BYXC.dtype == torch.uint8
        return torch.zeros(len(frames_BYXC), 4)


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with load(planar_arm(tmp_path_factory.mktemp("arm"), "joint_velocity")) as simulation:
        task = tasks.make(simulation)
        task.max_steps = 4 * simulation.command.frame_skip
        yield Arena(task, task.pairs(3, 0))


def test_who_holds_still_stays_where_it_started(arena: Arena) -> None:
    space = arena.task.simulation.command
    found = arena.fly(holding(space), Blind(), history=2)
    assert (found.last, found.any) == (0, 0)
    assert found.left_m == pytest.approx([pair.start_distance_m for pair in arena.pairs], abs=1e-3)
    assert found.decision_s > 0


def test_attempts_side_by_side_are_attempts_one_by_one(arena: Arena) -> None:
    """Each pair has its own state and its own command in force."""
    space = arena.task.simulation.command
    ramp = torch.linspace(0.2, 1.0, space.frame_skip)[:, None].expand(-1, space.dim)

    def decide(history_BTD: Tensor, goal_BD: Tensor, proprio_BP: Tensor, reference_BU: Tensor) -> Tensor:
        assert history_BTD.shape[1:] == (2, 4)
        return 0.5 * reference_BU[:, None] + proprio_BP[:, None, : space.dim].cos() * ramp

    together = arena.fly(decide, Blind(), history=2).left_m
    alone = [float(Arena(arena.task, [pair]).fly(decide, Blind(), 2).left_m[0]) for pair in arena.pairs]
    assert np.array_equal(together, alone)


def test_every_planner_that_ships_can_be_had_by_name() -> None:
    kinds = {name: planner_named(name).sampler for name in ("icem", "mppi", "gradient")}
    assert [type(kind) for kind in kinds.values()] == [ICEM, MPPI, Gradient]
