"""Push, pick and place, and reach with two hands: starts, goals, judges, oracles and what is recorded for them."""

import numpy as np
import pytest

from robot_wm.contracts.dataset import HAND, OBJECT
from sims import coverage, oracle, robots
from sims.behaviours import babble
from sims.recording import BodyLog
from sims.tasks import make
from tests.small_bodies import fetch

FETCH = ("fetch_push", "fetch_pick_and_place")


@pytest.fixture(scope="module", params=FETCH)
def simulation(request):
    with robots.load(fetch(request.param)) as found:
        yield found


@pytest.fixture(scope="module")
def arm():
    with robots.load("procedural/3") as found:
        yield found


def _assert_rollout_is_what_stepping_does(simulation, commands_NKU):
    state = simulation.state()
    foretold = simulation.rollout(commands_NKU)
    np.testing.assert_array_equal(simulation.state(), state)
    for commands_KU, foretold_KP3 in zip(commands_NKU, foretold, strict=True):
        simulation.restore(state)
        for command_U, points in zip(commands_KU, foretold_KP3, strict=True):
            simulation.step(command_U)
            np.testing.assert_allclose(simulation.end_effector(), points[0], atol=1e-7)
            np.testing.assert_allclose(simulation.object(), points[1], atol=1e-7)
    simulation.restore(state)


def test_rollouts_foretell_contact_and_restore_returns_the_same_future(simulation):
    simulation.reset(0)
    x, y, _ = simulation.end_effector()
    simulation.place_object(np.array([x + 0.06, y, 0.425]))
    rng = np.random.default_rng(0)
    commands = rng.uniform(-0.5, 1, (2, 8, simulation.command.dim))
    commands[..., 0] = 1.0
    _assert_rollout_is_what_stepping_does(simulation, commands)


def test_starts_goals_and_criterion_are_the_environments_own(simulation):
    task = make(simulation)
    env = simulation._env
    for pair in task.pairs(2, seed=500):
        task.start(pair)
        np.testing.assert_array_equal(pair.goal_position_m, env.goal)
        assert pair.start_distance_m == pytest.approx(task.distance_m(pair))
        assert pair.start_distance_m >= 0.05
        for away_m in (0.0499, 0.0501, 0.2):
            simulation.place_object(pair.goal_position_m + np.array([away_m, 0.0, 0.0]))
            judged = env._is_success(env._get_obs()["achieved_goal"], env.goal)
            assert task.success(pair) == bool(judged)


def test_goal_images_show_the_block_at_the_goal_and_the_hand_at_it(simulation):
    task = make(simulation)
    pair = task.pairs(1, seed=3)[0]
    task.start(pair)
    before = simulation.state()
    again = task.pairs(1, seed=3)[0]
    np.testing.assert_array_equal(pair.goal_frame, again.goal_frame)
    assert np.abs(simulation.frame().astype(int) - pair.goal_frame).max() > 60
    task.simulation.reset(pair.seed)
    task._show(pair.goal_position_m)
    np.testing.assert_allclose(simulation.object(), pair.goal_position_m, atol=1e-6)
    assert np.linalg.norm(simulation.end_effector() - simulation.object()) < 0.065
    task.start(pair)
    np.testing.assert_array_equal(simulation.state(), before)


def test_most_episodes_of_a_log_push_the_block_and_keep_it_near(simulation):
    moved, kept = [], []
    for index in range(8):
        simulation.reset(index)
        places = [simulation.object()]
        for command_U in babble(simulation, 80, np.random.default_rng(index)):
            simulation.step(command_U)
            places.append(simulation.object())
        moved.append(np.linalg.norm(np.ptp(places, axis=0)) > 0.02)
        kept.append(np.abs(places[-1][:2] - simulation.start_m[:2]).max() < 0.3)
    assert np.mean(moved) >= 0.6
    assert np.mean(kept) >= 0.85


def test_a_joint_arm_seeks_contact_too_and_can_be_recorded(arm):
    log = BodyLog(arm.embodiment, seed=0)
    episode = log.episode(0, 20)
    log.simulation.close()
    assert set(episode.columns) == set(log.features) - {f for f in log.features if log.features[f].is_video}
    assert episode.columns[OBJECT].shape == episode.columns[HAND].shape == (101, 3)
    assert np.linalg.norm(np.ptp(episode.columns[OBJECT], axis=0)) > 0.02


def test_a_joint_arm_foretells_its_object(arm):
    arm.reset(0)
    rng = np.random.default_rng(0)
    commands = arm.reference() + rng.uniform(-0.3, 0.3, (2, 6, arm.command.dim))
    _assert_rollout_is_what_stepping_does(arm, commands)


@pytest.mark.parametrize("name", ["push", "pick_and_place"])
def test_goals_of_any_body_are_unsolved_and_shown(arm, name):
    task = make(arm, name)
    pair = task.pairs(1, seed=2)[0]
    task.start(pair)
    assert not task.success(pair)
    assert np.abs(arm.frame().astype(int) - pair.goal_frame).max() > 40
    arm.place_object(pair.goal_position_m)
    assert task.success(pair)


def test_two_hands_are_judged_by_the_one_further_away():
    with robots.load("humanoid") as body:
        task = make(body, "whole_body_reach")
        pair = task.pairs(1, seed=0)[0]
        task.start(pair)
        ways = np.linalg.norm((body.hands() - pair.goal_position_m.reshape(2, 3)), axis=-1)
        assert task.distance_m(pair) == pytest.approx(ways.max())
        assert not task.success(pair)


def test_coverage_counts_motion_by_step_and_cells_by_visit():
    grid = np.stack(np.meshgrid(*[np.linspace(0, 0.6, 25)] * 3), -1).reshape(-1, 3)
    everywhere, nowhere = [grid], [np.zeros((10, 3))]
    thing = np.zeros((11, 3))
    thing[5:, 0] = np.arange(6) * 0.01
    assert coverage.measure(everywhere, [thing], grid).object_moves == pytest.approx(0.5)
    assert coverage.measure(everywhere, [thing], grid, every=5).object_moves == pytest.approx(0.5)
    assert coverage.measure(everywhere, [], grid).workspace > 0.95
    few = coverage.measure(nowhere, [], grid)
    assert few.workspace < 0.02
    assert few.object_moves is None


def _solve(task, pair):
    task.start(pair)
    rng, warm = np.random.default_rng(pair.seed), None
    for _ in range(task.max_steps // task.simulation.command.frame_skip):
        chunk_KU, warm = oracle.plan(task, pair, rng=rng, warm=warm)
        for command_U in chunk_KU:
            task.simulation.step(command_U)
    return task.success(pair)


@pytest.mark.slow
def test_the_oracle_solves_what_holding_still_does_not(simulation):
    task = make(simulation)
    pair = task.pairs(1, seed=900)[0]
    assert _solve(task, pair)
    task.start(pair)
    for _ in range(task.max_steps):
        simulation.step(simulation.command.hold(simulation.reference()))
    assert not task.success(pair)
