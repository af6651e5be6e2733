"""Trials on one's feet: the same for the same seed, pushes included, and judged by whether the body has sunk."""

import numpy as np
import pytest

from robot_wm.contracts.errors import UserError
from sims import robots
from sims.standing import Standing


def held(task: Standing, seed: int) -> tuple[int, np.ndarray]:
    """Control periods until it falls by holding still, and where its joints were then."""
    task.start(seed)
    rest, tick = task.simulation.reference(), 0
    while task.step(rest):
        tick += 1
        assert tick < task.ticks, "nobody stands on two balls without balancing"
    return tick, task.simulation.data.qpos.copy()


@pytest.fixture(scope="module")
def task():
    with robots.load("humanoid_free") as simulation:
        yield Standing(simulation, 0.3)


def test_a_trial_is_the_same_for_the_same_seed_and_ends_when_the_body_has_sunk(task: Standing) -> None:
    (tick, place), (again, same), (_, other) = held(task, 1), held(task, 1), held(task, 2)
    assert tick == again and tick > 15
    np.testing.assert_array_equal(place, same)
    assert not np.array_equal(place, other)
    assert task.fallen


def test_a_push_changes_the_velocity_of_the_base_alone(task: Standing) -> None:
    task.start(3)
    before = task.simulation.data.qvel.copy()
    pushed = task._pushes[1]
    assert np.linalg.norm(pushed) == pytest.approx(0.3) and pushed[2] == 0
    task.simulation.base.push(task.simulation.data, pushed)
    np.testing.assert_allclose(task.simulation.data.qvel[:3] - before[:3], pushed)
    np.testing.assert_array_equal(task.simulation.data.qvel[3:], before[3:])


def test_the_oracle_looks_ahead_without_moving_the_body_and_keeps_the_limits(task: Standing) -> None:
    task.start(4)
    command, state = task.simulation.command, task.simulation.state()
    chunk_KU, warm_HU = task.oracle(np.random.default_rng(0), None)
    np.testing.assert_array_equal(task.simulation.state(), state)
    steps = np.diff(np.vstack([task.simulation.reference(), chunk_KU]), axis=0)
    assert (np.abs(steps) <= np.asarray(command.max_step) + 1e-9).all()
    assert (chunk_KU >= command.low).all() and (chunk_KU <= command.high).all()
    assert np.abs(warm_HU).max() <= 1


def test_a_body_whose_base_is_fixed_cannot_fall() -> None:
    with robots.load("humanoid") as simulation, pytest.raises(UserError, match="cannot fall"):
        Standing(simulation, 0.3)
