"""A log of a delayed robot, with the delay known, teaches the same as that of a prompt one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.transitions import Transitions, as_shown, load_transitions
from robot_wm.contracts.dataset import ACTION, STATE, Feature, image_key
from robot_wm.data.lerobot_writer import LeRobotWriter
from sims import robots
from sims.truth import Truth
from sims.twin import Twin
from tests.small_bodies import planar_arm

EPISODES, ROWS = 4, 81


@given(st.integers(0, 99), st.floats(0, 3.9))
def test_a_shift_keeps_what_commands_add_up_to(seed: int, ticks: float) -> None:
    """Commands held for a tick each, late by `ticks`: what lies between two rows is what the shifted row says."""
    rng = np.random.default_rng(seed)
    sent, episode = rng.normal(size=(20, 2)), np.repeat([0, 1], [12, 8]).astype(np.int32)
    shown = as_shown(sent, episode, ticks)
    for rows in (slice(0, 12), slice(12, 20)):
        total = np.vstack([np.zeros(2), np.cumsum(sent[rows], axis=0)])
        at = np.arange(len(total)) - ticks
        wanted = np.diff(np.stack([np.interp(at, np.arange(len(total)), column) for column in total.T], axis=1), axis=0)
        unknown = at[:-1] < 0
        assert np.isnan(shown[rows][unknown]).all()
        assert shown[rows][~unknown] == pytest.approx(wanted[~unknown], abs=1e-12)


@pytest.mark.parametrize("interface", ["joint_position", "joint_velocity"])
def test_a_known_delay_is_taken_out_of_a_log(tmp_path: Path, interface: str) -> None:
    body = planar_arm(tmp_path, interface)
    log = _record(tmp_path / "log", body, Truth(delay_s=0.13))
    errors = {d: _one_step_error(_load(tmp_path, log, replace(body, delay_s=d))) for d in (0.0, 0.13, 0.26)}
    prompt = _record(tmp_path / "prompt", body, Truth())
    best = _one_step_error(_load(tmp_path, prompt, body))
    assert errors[0.13] < 0.5 * min(errors[0.0], errors[0.26])
    assert errors[0.13] < 1.5 * best


def _record(path: Path, body, truth: Truth) -> Path:
    simulation = robots.load(body)
    twin = Twin(simulation, truth=truth)
    command, rng = simulation.command, np.random.default_rng(0)
    names = simulation.proprio_names
    features = {
        image_key("above"): Feature("video", (32, 48, 3), ("height", "width", "channels")),
        STATE: Feature("float32", (len(names),), names),
        ACTION: Feature("float32", (command.dim,), command.names),
    }
    with LeRobotWriter(path, body.control_rate_hz, features) as writer:
        for episode in range(EPISODES):
            simulation.reset(episode)
            twin.reset()
            reference, states, actions = simulation.reference(), [], []
            target = reference
            for row in range(ROWS):
                if row % 7 == 0:
                    target = rng.uniform(-1, 1, command.dim)
                reference = reference + np.clip(
                    target - reference, -0.6 * np.asarray(command.max_step), 0.6 * np.asarray(command.max_step)
                )
                states.append(simulation.proprio())
                actions.append(twin.write(reference))
            columns = {STATE: np.asarray(states, np.float32), ACTION: np.asarray(actions, np.float32)}
            writer.add_episode(
                columns, {image_key("above"): rng.integers(0, 255, (ROWS, 32, 48, 3), np.uint8)}, "babble"
            )
    twin.close()
    simulation.close()
    return path


def _load(folder: Path, log: Path, body) -> Transitions:
    simulation = robots.load(body)
    simulation.close()
    return load_transitions(log, body, simulation.command, simulation.proprio_names, 32, 500, folder / "cache")


def _one_step_error(log: Transitions) -> float:
    """Of a linear model from proprio and command chunk to the next positions, on an episode that it has not seen."""

    def rows(episodes):
        pair = log.windows(2, np.asarray(episodes))
        inputs = np.hstack([log.proprio_FP[pair[:, 0]], log.chunks_FKU[pair[:, 0]].reshape(len(pair), -1)])
        return np.hstack([inputs, np.ones((len(inputs), 1))]), log.proprio_FP[pair[:, 1], :2]

    inputs, wanted = rows(range(EPISODES - 1))
    weights, *_ = np.linalg.lstsq(inputs, wanted, rcond=None)
    unseen, came = rows([EPISODES - 1])
    return float(np.sqrt(((unseen @ weights - came) ** 2).mean()))
