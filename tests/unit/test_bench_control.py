"""The arena in which planners are compared: everyone starts from the same, and what is done is what is judged."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deploy.bench.arena import Arena, holding
from deploy.bench.calibrated import BODIES
from deploy.bench.films import film_attempts
from deploy.bench.flights import goals
from sims import tasks
from sims.distant import placed_pairs
from sims.robots import load
from tests.small_bodies import REPOSITORY, planar_arm


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
    assert not found.ever_B.any() and not found.reached_B.any()
    assert found.left_m == pytest.approx([pair.start_distance_m for pair in arena.pairs], abs=1e-3)
    assert found.distances_BT.shape == (3, 1 + arena.task.max_steps)
    arena.task.start(arena.pairs[0])
    assert found.hand_B3[0] == pytest.approx(arena.task.simulation.end_effector(), abs=1e-3)


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


def test_films_show_the_first_that_reached_and_all_that_missed(arena: Arena, tmp_path: Path) -> None:
    flown = arena.fly(holding(arena.task.simulation.command), Blind(), history=2)
    some = replace(flown, reached_B=np.array([False, True, False]))
    seeds = [pair.seed for pair in arena.pairs]
    names = [f"{seeds[1]}-reached.mp4", f"{seeds[0]}-missed.mp4", f"{seeds[2]}-missed.mp4"]
    assert [path.name for path in film_attempts(tmp_path / "films", arena, some)] == names
    with av.open(str(tmp_path / "films" / names[0])) as film:
        assert sum(1 for _ in film.decode(video=0)) >= 1 + arena.task.max_steps


def test_a_decision_is_timed_alone(arena: Arena) -> None:
    space, asked = arena.task.simulation.command, []

    def decide(*inputs: Tensor) -> Tensor:
        asked.append(len(inputs[0]))
        return holding(space)(*inputs)

    assert arena.decision_ms(decide, Blind(), history=2, repeats=3) > 0
    assert set(asked) == {1}


def test_goals_are_put_where_the_hand_is_asked_to_be(tmp_path: Path) -> None:
    with load(planar_arm(tmp_path)) as simulation:
        task = tasks.make(simulation)
        places_m = np.array([[0.4, 0.2, 0.1], [0.35, -0.25, 0.1]])
        for pair, place_m in zip(placed_pairs(task, places_m, (4, 9)), places_m, strict=True):
            assert pair.goal_hand_m == pytest.approx(place_m, abs=0.01)
            assert simulation.hand_at(pair.goal_proprio_P[:2]) == pytest.approx(pair.goal_hand_m, abs=1e-5)
            task.start(pair)
            assert task.distance_m(pair) == pytest.approx(pair.start_distance_m)


def test_the_heron_of_the_benchmark_is_that_of_the_tutorial() -> None:
    page = (REPOSITORY / "docs" / "tutorial.md").read_text(encoding="utf-8")
    for name in ("heron.xml", "heron.yaml"):
        assert (BODIES / "embodiment" / name).read_text(encoding="utf-8") in page


@pytest.mark.slow
def test_the_fetch_by_its_joints_has_the_goals_that_it_has_by_its_gripper() -> None:
    with load("fetch_joints", folders=[BODIES]) as simulation:
        task = tasks.make(simulation)
        pairs = goals(task, 3, 0)
        with load("fetch") as cartesian:
            moved_m = simulation.data.body("robot0:base_link").xpos - cartesian.data.body("robot0:base_link").xpos
            theirs = {pair.seed: pair for pair in tasks.make(cartesian).pairs(6, pairs[0].seed, pictures=False)}
        for pair in pairs:
            assert pair.goal_position_m == pytest.approx(theirs[pair.seed].goal_position_m + moved_m, abs=0.02)
