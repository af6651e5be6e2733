"""Tasks as Gymnasium environments."""

import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from robot_wm.contracts.errors import UserError
from sims import catalog
from sims.env import TaskEnv, environment_id
from sims.render import make_current
from sims.tasks import TASKS

ARM = "procedural/3"  # one with a gripper
SHIPPED = [(task, None) for task in TASKS]
ANY_BODY = [("reach", ARM), ("push", ARM), ("pick_and_place", ARM)]


def _check(task, robot, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*Box observation space m.* value is.*infinity.*")  # as Fetch's own
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        env = gymnasium.make(environment_id(task), **({"robot": robot} if robot else {}), **kwargs)
        try:
            check_env(env.unwrapped, skip_render_check=not kwargs)
        finally:
            env.close()


@pytest.mark.parametrize(("task", "robot"), SHIPPED)
def test_gymnasium_finds_no_fault(task, robot):
    _check(task, robot)


@pytest.mark.parametrize(("task", "robot"), ANY_BODY)
def test_gymnasium_finds_no_fault_with_any_body_nor_in_pictures(task, robot):
    _check(task, robot, pixels=True, render_mode="rgb_array")


@pytest.mark.slow
@pytest.mark.parametrize(("task", "robot"), [("push", None), ("whole_body_reach", None), ("reach", "panda")])
def test_gymnasium_finds_no_fault_in_pictures_of_the_shipped_bodies(task, robot):
    _check(task, robot, pixels=True, render_mode="rgb_array")


@pytest.mark.parametrize(("interface", "max_step"), [("joint_velocity", 1.0), ("joint_torque", 5.0)])
def test_any_interface_takes_actions_in_plan_units(interface, max_step):
    body = catalog.find(ARM)
    body = replace(body, interface=interface, safety=replace(body.safety, max_step=max_step))
    env = TaskEnv(body, "reach")
    env.reset(seed=0)
    start = env.task.simulation.proprio()
    for _ in range(5):
        env.step(np.full(env.action_space.shape, 0.5))
    assert np.abs(env.task.simulation.proprio() - start).max() > 0.01
    env.close()


def _play(env, seed):
    observation, info = env.reset(seed=seed)
    rng = np.random.default_rng(0)
    seen = [observation["observation"], observation["desired_goal"], info["state"]]
    for _ in range(4):
        observation, reward, *_, info = env.step(rng.uniform(-1, 1, env.action_space.shape))
        seen += [observation["observation"], np.array([reward]), info["state"]]
    return np.concatenate(seen).tobytes()


def test_same_seed_same_bytes_also_in_another_instance():
    one, other = (gymnasium.make(environment_id("push"), robot=ARM) for _ in range(2))
    first = _play(one, 3)
    assert _play(other, 3) == first
    assert _play(one, 4) != first
    assert _play(one, 3) == first
    one.close()
    other.close()


def test_info_carries_the_truth_and_the_reward_is_the_tasks_criterion():
    env = TaskEnv(ARM, "push")
    observation, info = env.reset(seed=1)
    assert not info["is_success"]
    env.task.simulation.place_object(observation["desired_goal"] + [0.0, 0.0, 0.001])
    hold = np.zeros(env.action_space.shape)
    observation, reward, terminated, truncated, info = env.step(hold)
    assert (reward, terminated, truncated, info["is_success"]) == (0.0, False, False, True)
    assert info["distance_m"] == pytest.approx(
        np.linalg.norm(observation["achieved_goal"] - observation["desired_goal"])
    )
    many = np.stack([observation["achieved_goal"], observation["desired_goal"] + 1.0])
    goals = np.stack([observation["desired_goal"]] * 2)
    np.testing.assert_array_equal(env.compute_reward(many, goals, {}), [0.0, -1.0])
    env.task.simulation.restore(info["state"])
    np.testing.assert_array_equal(env.task.achieved(), observation["achieved_goal"])
    env.close()


def test_whole_body_reach_needs_both_hands():
    env = TaskEnv("humanoid", "whole_body_reach")
    observation, _ = env.reset(seed=0)
    goal = observation["desired_goal"]
    assert goal.shape == (6,)
    one_hand = goal + np.array([0, 0, 0, 0.2, 0, 0])
    assert env.compute_reward(goal, goal, {}) == 0.0
    assert env.compute_reward(one_hand, goal, {}) == -1.0
    env.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vector_environments_agree_with_single_ones(mode):
    many = gymnasium.make_vec(environment_id("reach"), num_envs=2, vectorization_mode=mode, robot=ARM)
    single = gymnasium.make(environment_id("reach"), robot=ARM)
    actions = np.random.default_rng(0).uniform(-1, 1, (3, *many.action_space.shape))
    seen, _ = many.reset(seed=[5, 6])
    for action in actions:
        seen, rewards, *_, info = many.step(action)
    alone, _ = single.reset(seed=6)
    for action in actions:
        alone, reward, *_ = single.step(action[1])
    np.testing.assert_array_equal(seen["observation"][1], alone["observation"])
    assert rewards[1] == reward
    assert info["state"].shape[0] == 2
    many.close()
    single.close()


@pytest.mark.parametrize(
    ("robot", "task", "names"),
    [
        ("panda", "push", "no object"),
        ("fetch_push", "pick_and_place", "no gripper"),
        ("fetch", "whole_body_reach", "no second hand"),
        ("fetch", "juggle", "juggle"),
    ],
)
def test_a_task_that_is_impossible_for_the_body_is_refused_in_a_sentence(robot, task, names):
    with pytest.raises(UserError, match=names):
        TaskEnv(robot, task)


def _draw() -> str:
    try:
        make_current()
    except UserError as error:
        return str(error)
    return ""


def test_a_fork_after_drawing_is_refused_instead_of_waiting_for_ever():
    make_current()
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        assert "spawn" in pool.submit(_draw).result()
