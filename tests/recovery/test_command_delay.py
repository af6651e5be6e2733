"""The delay of a body that no MJCF simulates is recovered from its log alone, sluggish joints or not."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from calibration.delay import command_delay
from robot_wm.contracts.errors import UserError

FINE_S = 1e-3


@given(st.integers(0, 10**6), st.floats(0, 0.12), st.sampled_from([25.0, 50.0, 100.0]), st.booleans(), st.booleans())
@settings(max_examples=5, phases=[Phase.generate])
def test_delays_are_found_within_two_milliseconds(
    seed: int, delay_s: float, rate_hz: float, is_position: bool, jitters: bool
) -> None:
    log = _log(np.random.default_rng(seed), delay_s, rate_hz, is_position, jitters)
    found, joints = command_delay(*log, is_position)
    assert len(joints) == 2
    assert found.seconds == pytest.approx(delay_s, abs=2e-3)
    assert abs(found.seconds - delay_s) <= found.interval_s
    assert found.explained > 0.97


def test_a_log_without_motion_or_obedience_is_refused() -> None:
    rng = np.random.default_rng(0)
    time_s, episode, command, position, velocity = _log(rng, 0.05, 50.0, True, False)
    with pytest.raises(UserError, match="nothing moves"):
        command_delay(time_s, episode, command, 0 * position, 0 * velocity, True)
    with pytest.raises(UserError, match="no joint follows"):
        command_delay(time_s, episode, command, np.cumsum(rng.normal(size=position.shape), axis=0), velocity, True)


@pytest.mark.parametrize("delay_s", [0.0, 0.06])
def test_a_joint_that_rests_on_a_table_for_a_while_does_not_hide_the_delay(delay_s: float) -> None:
    log = _log(np.random.default_rng(1), delay_s, 25.0, True, False, table=0.3)
    held = (log[3] >= 0.299).mean(axis=0).max()
    assert 0.15 < held < 0.5
    found, _ = command_delay(*log, True)
    assert found.seconds == pytest.approx(delay_s, abs=2e-3) and found.explained > 0.97


def test_rows_that_were_measured_after_their_command_give_a_delay_below_zero() -> None:
    log = _log(np.random.default_rng(1), -0.03, 25.0, True, False)
    found, _ = command_delay(*log, True)
    assert found.seconds == pytest.approx(-0.03, abs=4e-3)


def test_a_delay_beyond_what_is_searched_is_not_told() -> None:
    log = _log(np.random.default_rng(1), 0.3, 25.0, True, False)
    with pytest.raises(UserError, match="no joint follows"):
        command_delay(*log, True)


def _log(
    rng: np.random.Generator,
    delay_s: float,
    rate_hz: float,
    is_position: bool,
    jitters: bool,
    table: float = np.inf,
) -> tuple:
    """Two servos of their own stiffness and damping that obey held commands late, in three episodes of five seconds.

    Neither goes beyond the `table`.
    """
    parts = []
    pull, drag = rng.uniform(150, 900, 2), rng.uniform(15, 45, 2)
    for episode in range(3):
        late = np.abs(rng.normal(0, 0.1 / rate_hz, round(5 * rate_hz))) if jitters else 0.0
        time_s = np.arange(round(5 * rate_hz)) / rate_hz + late
        steps = np.cumsum(rng.uniform(-1, 1, (len(time_s), 2)) * (np.arange(len(time_s)) % 4 == 0)[:, None], axis=0)
        command = 0.5 * np.sin(steps) if is_position else np.cos(1.7 * steps)
        grid_s = np.arange(0, 5.1, FINE_S)
        sent = np.searchsorted(time_s, grid_s - delay_s, side="right") - 1
        obeyed = np.where((sent >= 0)[:, None], command[np.maximum(sent, 0)], command[0] if is_position else 0.0)
        q, v, path = command[0] * is_position, np.zeros(2), []
        for u in obeyed:
            path.append(np.concatenate([q, v]))
            force = pull * (u - q) - drag * v if is_position else drag * (0.9 * u - v)
            q, v = q + FINE_S * v + 0.5 * FINE_S**2 * force, v + FINE_S * force
            q, v = np.minimum(q, table), np.where(q >= table, np.minimum(v, 0), v)
        seen = np.stack([np.interp(time_s, grid_s, x) for x in np.array(path).T], axis=1)
        seen += rng.normal(size=seen.shape) * [2e-4, 2e-4, 2e-3, 2e-3]
        parts.append((time_s, np.full(len(time_s), episode), command, seen[:, :2], seen[:, 2:]))
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
