"""Rates, jitter and delays are recovered from logs whose clocks are known."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from calibration.timing import clock, command_to_motion, delay_between, motion_to_frame
from robot_wm.contracts.errors import UserError
from tests.swinging_arm import chosen, record, spec


@given(st.integers(0, 1000), st.floats(20, 200), st.floats(0, 0.1), st.floats(0, 0.1))
@settings(max_examples=20)
def test_rate_jitter_and_losses_come_from_the_stamps(seed: int, rate_hz: float, jitter: float, lost: float) -> None:
    rng = np.random.default_rng(seed)
    stamps = np.arange(600) / rate_hz + rng.normal(0, jitter / rate_hz, 600)
    kept = rng.random(600) >= lost
    kept[[0, -1]] = True
    stamps = np.maximum.accumulate(stamps[kept]) + 1e-9 * np.arange(kept.sum())
    found = clock(stamps)
    assert found.rate_hz == pytest.approx(rate_hz, rel=5e-3)
    assert found.jitter_s == pytest.approx(jitter / rate_hz, rel=0.3, abs=1e-6)
    assert found.dropped == pytest.approx((~kept).sum(), abs=2 + 0.1 * (~kept).sum())


@given(st.integers(0, 1000), st.floats(0, 0.12), st.sampled_from([25.0, 50.0, 100.0]))
@settings(max_examples=12)
def test_a_pure_delay_is_found_within_two_milliseconds(seed: int, delay_s: float, rate_hz: float) -> None:
    rng = np.random.default_rng(seed)
    phases, frequencies = rng.uniform(0, 6.28, (3, 2)), rng.uniform(0.5, 1.5, (3, 1))

    def path(time_s: np.ndarray) -> np.ndarray:
        return 0.4 * sum(np.sin(6.28 * f * time_s[:, None] + p) for f, p in zip(frequencies, phases, strict=True))

    cause_s = np.sort(np.arange(800) / 100 + rng.uniform(-2e-3, 2e-3, 800))
    effect_s = np.arange(0.5, 7.5, 1 / rate_hz)
    effect_s = np.sort(effect_s + rng.normal(0, 0.05 / rate_hz, len(effect_s)))
    seen = np.sin(path(effect_s - delay_s) @ np.array([[1.0, 0.3], [0.2, -0.8]]))  # as a camera would: not linear
    found = delay_between(cause_s, path(cause_s), effect_s, seen + 0.01 * rng.normal(size=seen.shape))
    assert found.seconds == pytest.approx(delay_s, abs=2e-3)


@given(st.integers(0, 1000), st.floats(0, 0.12), st.sampled_from([25.0, 50.0, 100.0]))
@settings(max_examples=4, phases=[Phase.generate])
def test_command_to_motion_is_told_apart_from_sluggishness(seed: int, delay_s: float, rate_hz: float) -> None:
    rng = np.random.default_rng(seed)
    hidden = chosen("damping", "gain", "delay")
    values = np.array([p.nominal for p in hidden]) * rng.uniform(0.7, 1.5, len(hidden))
    values[-1] = delay_s
    log = record(hidden, values, 4.0, 5e-4, seed, rate_hz)
    found = command_to_motion(spec(), log)
    assert found.seconds == pytest.approx(delay_s, abs=2e-3)


def test_streams_that_have_nothing_to_do_with_each_other_are_refused() -> None:
    rng, time_s = np.random.default_rng(0), np.arange(400) / 50
    path = np.cumsum(rng.normal(size=(400, 2)), axis=0)
    with pytest.raises(UserError, match="explains only"):
        delay_between(time_s, path, time_s, rng.normal(size=(400, 3)))
    with pytest.raises(UserError, match="nothing moves"):
        delay_between(time_s, np.ones((400, 2)), time_s, path)


def test_stamps_that_do_not_increase_are_refused() -> None:
    with pytest.raises(UserError, match="do not increase"):
        clock(np.zeros(100))


def test_frames_that_lag_the_encoders_are_measured_without_tracking() -> None:
    """Discs drawn where a planar arm's links are; the frame at t shows the pose at t - delay."""
    rows, columns = np.mgrid[:48, :48]
    log = record(chosen("damping"), np.array([p.nominal for p in chosen("damping")]), 6.0, 2e-4)

    def draw(q: np.ndarray) -> np.ndarray:
        elbow = 24 + 10 * np.array([np.sin(q[0]), np.cos(q[0])])
        hand = elbow + 9 * np.array([np.sin(q.sum()), np.cos(q.sum())])
        light = sum(np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18) for x, y in (elbow, hand))
        return np.repeat((200 * np.minimum(light, 1))[..., None], 3, axis=2).astype(np.uint8)

    frame_s, delay_s = np.arange(0.3, 5.9, 0.04), 0.061
    pose = np.column_stack([np.interp(frame_s - delay_s, log.time_s, q) for q in log.position_NJ.T])
    frames = np.stack([draw(q) for q in pose])
    found = motion_to_frame(frame_s, frames, log.time_s, log.position_NJ)
    assert found.seconds == pytest.approx(delay_s, abs=2e-3)
