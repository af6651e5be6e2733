"""Hidden parameters come back from logs, and what a log cannot tell is said."""

from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from calibration import mjcf
from calibration.parameters import parameter
from calibration.signals import Log
from calibration.sysid import FitConfig, identify
from robot_wm.contracts import files
from robot_wm.contracts.errors import UserError
from tests.swinging_arm import JOINTS, chosen, record, spec


@given(st.integers(0, 10_000))
@settings(max_examples=4, phases=[Phase.generate])
def test_hidden_dynamics_gains_and_delay_are_recovered(seed: int) -> None:
    parameters = chosen("armature", "damping", "frictionloss", "gain", "delay")
    rng = np.random.default_rng(seed)
    hidden = np.array([p.nominal * rng.uniform(0.5, 2.0) for p in parameters])
    hidden[-1] = rng.uniform(0.0, 0.06)
    found = identify(spec(), record(parameters, hidden, seed=seed), parameters, FitConfig(fit_share=0.7))
    for estimate, true in zip(found.estimates[:-1], hidden[:-1], strict=True):
        assert estimate.value == pytest.approx(true, rel=0.15), estimate.name
    assert found.estimates[-1].value == pytest.approx(hidden[-1], abs=1e-3)
    assert found.rmse["held_out"] < 4e-4 < found.rmse["held_out_before"]


def test_intervals_cover_the_truth() -> None:
    parameters = chosen("armature", "damping")
    covered, count = 0, 0
    for seed in range(4):
        hidden = np.array([p.nominal for p in parameters]) * np.random.default_rng(seed).uniform(0.6, 1.6, 4)
        found = identify(spec(), record(parameters, hidden, 3.0, 1e-3, seed), parameters, FitConfig(fit_share=1.0))
        covered += sum(abs(e.value - h) <= e.interval for e, h in zip(found.estimates, hidden, strict=True))
        count += len(hidden)
    assert covered >= 0.75 * count
    assert all(e.interval < 0.2 * e.value for e in found.estimates)  # and are not simply wide


def test_encoder_bias_and_payload_are_recovered() -> None:
    parameters = chosen("bias", "payload")
    hidden = np.array([0.08, -0.05, 0.2])
    found = identify(spec(), record(parameters, hidden, 4.0), parameters, FitConfig(fit_share=0.7))
    assert [e.value for e in found.estimates] == pytest.approx(hidden.tolist(), abs=0.01)


def test_measured_velocities_narrow_the_intervals_where_positions_are_noisy() -> None:
    parameters = chosen("armature", "damping")
    hidden = np.array([p.nominal for p in parameters]) * [1.5, 0.6, 0.7, 1.8]
    exact, noisy = record(parameters, hidden, 3.0, 0.0), record(parameters, hidden, 3.0, 2e-3)
    rate = np.diff(exact.position_NJ, axis=0, prepend=exact.position_NJ[:1]) / exact.period_s  # as MuJoCo integrates
    told = replace(noisy, velocity_NJ=rate + 5e-3 * np.random.default_rng(0).normal(size=rate.shape))
    config = FitConfig(fit_share=1.0, starts=1)
    with_rates = identify(spec(), replace(told, compare_velocity=True), parameters, config)
    without = identify(spec(), told, parameters, config)
    narrower = [a.interval / b.interval for a, b in zip(with_rates.estimates, without.estimates, strict=True)]
    np.testing.assert_allclose(with_rates.values, hidden, rtol=0.15)
    assert max(narrower) < 0.6
    with pytest.raises(UserError, match="has none"):
        replace(noisy, compare_velocity=True)


def test_outliers_gaps_and_jitter_hardly_move_the_fit() -> None:
    parameters = chosen("armature", "damping")
    hidden = np.array([p.nominal for p in parameters]) * [1.5, 0.6, 0.7, 1.8]
    log = record(parameters, hidden)
    rng = np.random.default_rng(0)
    position = log.position_NJ.copy()
    position[rng.random(position.shape) < 0.02] += 0.3
    spoilt = Log(log.time_s, log.command_NU, position, JOINTS, JOINTS).rows(rng.random(len(position)) > 0.1)
    found = identify(spec(), spoilt, parameters, FitConfig(fit_share=0.7))
    np.testing.assert_allclose(found.values, hidden, rtol=0.1)
    assert found.outliers > 0.01


def test_what_the_log_cannot_separate_is_named() -> None:
    """Joint damping and a servo's rate gain act alike while no torque limit is reached."""
    model = spec().compile()
    parameters = [parameter(model, "damping", "shoulder"), parameter(model, "rate_gain", "shoulder", 0.01, 30.0)]
    hidden = np.array([p.nominal for p in parameters])
    found = identify(spec(), record(parameters, hidden, 2.0), parameters, FitConfig(fit_share=1.0))
    named = " ".join(found.warnings)
    assert "damping:shoulder" in named and "rate_gain:shoulder" in named


def test_a_bound_that_stops_the_fit_is_reported() -> None:
    wide = chosen("damping")
    narrow = [parameter(spec().compile(), "damping", joint, 0.8, 1.2) for joint in JOINTS]
    log = record(wide, np.array([p.nominal for p in wide]) * [2.0, 1.0], 2.0)
    found = identify(spec(), log, narrow, FitConfig(fit_share=0.7, starts=1))
    assert found.estimates[0].bound == "high" and "damping:shoulder ended on its high bound" in found.warnings[0]


def test_a_joint_that_the_log_leaves_at_rest_is_called_unidentifiable() -> None:
    parameters = chosen("armature")
    log = record(parameters, np.array([p.nominal for p in parameters]), 2.0)
    still = Log(log.time_s, log.command_NU * [1, 0], np.where([True, False], log.position_NJ, 0.0), JOINTS, JOINTS)
    found = identify(spec(), still, parameters, FitConfig(fit_share=1.0, starts=1, iterations=15))
    assert found.estimates[0].identifiable or found.estimates[0].interval < np.inf
    assert not found.estimates[1].identifiable or found.estimates[1].bound


def test_an_mjcf_that_tells_the_motion_is_left_as_it_is() -> None:
    """The fitted part is of an arm with a load that it lost: what was identified from it helps the rest in nothing."""
    parameters = chosen("armature", "damping")
    nominal = np.array([p.nominal for p in parameters])
    loaded, rest = record(parameters, 2 * nominal, 3.0), record(parameters, nominal, 2.0, seed=4)
    log = Log(
        np.concatenate([loaded.time_s, rest.time_s]),
        np.vstack([loaded.command_NU, rest.command_NU]),
        np.vstack([loaded.position_NJ, rest.position_NJ]),
        JOINTS,
        JOINTS,
        episode_N=np.repeat([0, 1], [len(loaded.time_s), len(rest.time_s)]),
    )
    found = identify(spec(), log, parameters, FitConfig(fit_share=0.6, starts=1))
    assert found.kept and found.values.tolist() == nominal.tolist() and "kept" in found.warnings[0]
    assert found.rmse["held_out"] == found.rmse["held_out_before"] < 0.5 * found.rmse["held_out_fitted"]
    assert np.isfinite([e.interval for e in found.estimates]).all()


def test_patch_and_patched_mjcf_hold_the_identified_values(tmp_path: Path) -> None:
    parameters = chosen("armature", "damping", "delay")
    hidden = np.array([p.nominal for p in parameters]) * 1.4
    hidden[-1] = 0.012
    found = identify(spec(), record(parameters, hidden, 2.0), parameters, FitConfig(fit_share=1.0))
    assert mjcf.save(tmp_path, spec(), found, []) == [mjcf.PATCH, mjcf.MODEL]
    patched = mujoco.MjModel.from_xml_path(str(tmp_path / mjcf.MODEL))
    assert patched.joint("elbow").armature[0] == pytest.approx(found.values[1], rel=1e-5)
    assert patched.actuator_delay[0] == pytest.approx(found.values[-1], rel=1e-5)
    again = spec()
    mjcf.apply(again, tmp_path / mjcf.PATCH)
    assert again.compile().joint("elbow").armature[0] == found.values[1]
    assert files.read_json(tmp_path / mjcf.PATCH)["parameters"]["delay"]["unit"] == "s"


def test_a_patch_of_another_body_is_refused(tmp_path: Path) -> None:
    files.write_json(tmp_path / "p.json", {"parameters": {"armature:wrist": {"value": 1, "low": 0, "high": 2}}})
    with pytest.raises(UserError, match="wrist"):
        mjcf.apply(spec(), tmp_path / "p.json")


def test_a_local_minimum_is_left_by_another_start() -> None:
    parameters = chosen("armature", "damping", "frictionloss", "gain", "delay")
    hidden = np.array([0.0536, 0.0311, 1.02, 0.334, 0.0692, 0.034, 25.06, 16.26, 0.0047])
    log = record(parameters, hidden, seed=865)
    single = identify(spec(), log, parameters, FitConfig(fit_share=0.7, starts=1))
    several = identify(spec(), log, parameters, FitConfig(fit_share=0.7))
    assert single.rmse["held_out"] > 1e-2 > 1e-3 > several.rmse["held_out"]
    np.testing.assert_allclose(several.values, hidden, rtol=0.1)


def test_five_starts_end_in_the_same_place() -> None:
    """The MJCF's values, then four from anywhere within the bounds."""
    parameters = chosen("armature", "damping")
    hidden = np.array([p.nominal for p in parameters]) * [1.4, 0.7, 0.6, 1.8]
    log = record(parameters, hidden, duration_s=3.0)
    ends = []
    for seed in range(5):
        share = np.random.default_rng(seed).uniform(0.05, 0.95, len(parameters))
        at = [p.low * (p.high / p.low) ** s for p, s in zip(parameters, share, strict=True)]
        start = [replace(p, nominal=value) for p, value in zip(parameters, at, strict=True)] if seed else parameters
        ends.append(identify(spec(), log, start, FitConfig(starts=1)))
    assert np.ptp([end.rmse["held_out"] for end in ends]) < 1e-5
    for end in ends:
        np.testing.assert_allclose(end.values, hidden, rtol=0.02)
