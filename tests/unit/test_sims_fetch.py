"""FetchReach-v4 as it is, behind the command interface, with its task and the oracle."""

import gymnasium
import numpy as np
import pytest

from sims import oracle, robots
from sims.tasks import ReachTask
from tests.small_bodies import fetch, planar_arm


@pytest.fixture(scope="module")
def simulation():
    with robots.load(fetch()) as found:
        yield found


@pytest.fixture
def start(simulation):
    simulation.reset(0)
    return simulation


def test_commands_are_metres_per_second(start):
    before = start.end_effector()
    for _ in range(5):
        np.testing.assert_array_equal(start.step(np.array([0.25, 0.0, 0.0])), [0.25, 0, 0])
    moved = start.end_effector() - before
    assert 0.025 < moved[0] < 0.055  # 0.2 s at 0.25 m/s, and the environment's arm lags behind its target
    assert np.abs(moved[1:]).max() < 0.005
    assert start.proprio()[3] == pytest.approx(moved[0] / 0.2, rel=0.3)
    np.testing.assert_allclose(start.step(np.array([9.0, 0, 0])), [1.25, 0, 0])


def test_rollout_is_what_the_environment_does(start):
    rng = np.random.default_rng(0)
    for _ in range(3):
        start.step(rng.uniform(-1, 1, 3))
    state = start.state()
    commands_NKU = rng.uniform(-2, 2, (3, 6, 3))
    foretold = start.rollout(commands_NKU)[:, :, 0]
    np.testing.assert_array_equal(start.state(), state)
    for commands_KU, foretold_K3 in zip(commands_NKU, foretold, strict=True):
        start.restore(state)
        for command_U, position in zip(commands_KU, foretold_K3, strict=True):
            start.step(command_U)
            np.testing.assert_allclose(start.end_effector(), position, atol=1e-9)


@pytest.mark.parametrize("name", ["fetch", "fetch_push", "fetch_pick_and_place"])
def test_stepping_and_proprio_are_the_environments_own(name):
    rng = np.random.default_rng(1)
    with robots.load(name) as body:
        twin = gymnasium.make(body.embodiment.environment).unwrapped
        body.reset(5)
        twin.reset(seed=5)
        for _ in range(4):
            command_U = rng.uniform(body.command.low, body.command.high)
            body.step(command_U)
            if body.gripper is None:
                action = np.append(command_U / body._top_speed_m_s, 0.0)
                observed = twin.step(action)[0]["observation"]
                np.testing.assert_allclose(body.data.qpos, twin.data.qpos, atol=1e-12)
            else:  # what it observes itself is one physics step late
                observed = body._env._get_obs()["observation"]
            place, velocity = np.split(body.proprio(), 2)
            np.testing.assert_allclose(place[:3], observed[:3], atol=1e-6)
            np.testing.assert_allclose(velocity[:3], observed[-5:-2] / twin.dt, atol=1e-5)
            if body.gripper is not None:
                fingers = observed[9:11] if body.has_object else observed[3:5]
                assert place[3] == pytest.approx(fingers.sum(), abs=1e-6)
                assert velocity[3] == pytest.approx(observed[-2:].sum() / twin.dt, abs=1e-5)
        twin.close()


def test_the_picture_hides_the_target(simulation):
    frames, goals = [], []
    for seed in (3, 4):
        simulation.reset(seed)
        frames.append(simulation.frame())
        goals.append(simulation.goal_m)
    assert np.linalg.norm(goals[0] - goals[1]) > 0.02
    np.testing.assert_array_equal(frames[0], frames[1])


def test_a_centimetre_changes_the_picture(start):
    before = start.frame().astype(int)
    for _ in range(2):
        start.step(np.array([0.0, 0.125, 0.0]))
    for _ in range(4):
        start.step(np.zeros(3))
    changed = np.abs(start.frame() - before).max(-1) > 20
    assert changed.mean() > 0.003


def test_pairs_are_the_environments_own_goals_unsolved_and_shown(simulation):
    task = ReachTask(simulation)
    pairs = task.pairs(3, seed=500)
    assert [p.seed for p in pairs] == sorted({p.seed for p in pairs})
    assert task.threshold_m == 0.05
    for pair in pairs:
        task.start(pair)
        np.testing.assert_allclose(simulation.goal_m, pair.goal_position_m)
        assert task.distance_m(pair) == pytest.approx(pair.start_distance_m)
        assert not task.success(pair)
        assert np.abs(simulation.frame().astype(int) - pair.goal_frame).max() > 60
    again = task.pairs(3, seed=500)
    for pair, same in zip(pairs, again, strict=True):
        np.testing.assert_array_equal(pair.goal_frame, same.goal_frame)
        np.testing.assert_array_equal(pair.start_state, same.start_state)


def test_oracle_reaches_and_rests_where_holding_still_does_not(simulation):
    task = ReachTask(simulation)
    pair = task.pairs(1, seed=900)[0]
    rng = np.random.default_rng(0)
    task.start(pair)
    for _ in range(4):
        chunk_KU, _ = oracle.plan(task, pair, rng=rng)
        assert chunk_KU.shape == (5, 3)
        for command_U in chunk_KU:
            simulation.step(command_U)
    assert task.success(pair)
    task.start(pair)
    for _ in range(20):
        simulation.step(np.zeros(3))
    assert not task.success(pair)


def test_reach_works_for_a_body_of_ones_own(tmp_path):
    with robots.load(planar_arm(tmp_path)) as arm:
        task = ReachTask(arm, max_steps=32)
        pair = task.pairs(2, seed=0)[1]
        task.start(pair)
        rng = np.random.default_rng(0)
        for _ in range(8):
            for command_U in oracle.plan(task, pair, rng=rng)[0]:
                arm.step(command_U)
        assert task.success(pair)
