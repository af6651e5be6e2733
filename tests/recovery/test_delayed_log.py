"""A log of a delayed robot, with the delay known, teaches the same as that of a prompt one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.transitions import Transitions, as_shown, load_transitions
from robot_wm.contracts.embodiment import Embodiment
from sims import robots
from sims.truth import Truth
from tests.late_twin import record_babble
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


def _record(path: Path, body: Embodiment, truth: Truth) -> Path:
    with robots.load(body) as simulation:
        step_U = 0.6 * np.asarray(simulation.command.max_step)
    target_U = np.zeros(len(step_U))

    def babble(row: int, _: np.ndarray, last_U: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if row % 7 == 0:
            target_U[:] = rng.uniform(-1, 1, len(step_U))
        return last_U + np.clip(target_U - last_U, -step_U, step_U)

    return record_babble(path, body, truth, EPISODES, ROWS, babble)


def _load(folder: Path, log: Path, body: Embodiment) -> Transitions:
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
