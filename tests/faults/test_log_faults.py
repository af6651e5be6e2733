"""What can be wrong with a robot's log is found, named with its joint, and mended or refused."""

from dataclasses import replace

import numpy as np
import pytest

from calibration.signals import Fault, Log, examine, refuse
from robot_wm.contracts.errors import UserError
from tests.swinging_arm import JOINTS, chosen, record

LOW, HIGH = np.array([-2.0, -2.0]), np.array([2.0, 2.0])
LIMITS = np.array([[-1.5, 1.5], [-1.5, 1.5]])


@pytest.fixture(scope="module")
def log() -> Log:
    parameters = chosen("damping")
    return record(parameters, np.array([p.nominal for p in parameters]), 3.0, 5e-4)


def found(log: Log) -> tuple[Log, dict[str, Fault]]:
    mended, faults = examine(log, LOW, HIGH, LIMITS)
    return mended, {fault.name: fault for fault in faults}


def test_a_good_log_has_no_fault(log: Log) -> None:
    mended, faults = found(log)
    assert faults == {}
    np.testing.assert_array_equal(mended.position_NJ, log.position_NJ)


def test_a_reset_between_episodes_is_no_fault(log: Log) -> None:
    both = Log(
        np.concatenate([log.time_s, log.time_s]),
        np.vstack([log.command_NU, -log.command_NU]),
        np.vstack([log.position_NJ, 0.4 - log.position_NJ]),
        JOINTS,
        JOINTS,
        episode_N=np.repeat([0, 1], len(log.time_s)),
    )
    mended, faults = found(both)
    assert faults == {} and len(mended.stretches()) == 2
    np.testing.assert_array_equal(mended.position_NJ, both.position_NJ)


def test_dropped_samples_are_counted(log: Log) -> None:
    kept = np.ones(len(log.time_s), bool)
    kept[200:230] = kept[400] = False
    _, faults = found(log.rows(kept))
    assert "about 31 samples in 2 gaps" in faults["dropped samples"].detail


def test_repeated_and_backward_stamps_are_left_out(log: Log) -> None:
    time_s = log.time_s.copy()
    time_s[100:105] = time_s[99]
    time_s[300] = time_s[290]
    mended, faults = found(replace(log, time_s=time_s))
    assert "6 of 750 rows, 1 of them backwards" in faults["repeated time stamps"].detail
    assert (np.diff(mended.time_s) > 0).all() and len(mended.time_s) == 744


def test_jitter_is_measured(log: Log) -> None:
    jittered = log.time_s + np.random.default_rng(0).normal(0, 4e-4, len(log.time_s))
    assert "ms around " in found(replace(log, time_s=jittered))[1]["jitter"].detail


def test_spikes_are_left_out_and_motion_is_not(log: Log) -> None:
    position = log.position_NJ.copy()
    position[[50, 333, 600], 1] += 0.5
    mended, faults = found(replace(log, position_NJ=position))
    assert faults["spikes"].where == "elbow"
    assert not mended.valid[[50, 333, 600], 1].any() and (~mended.valid).sum() < 8
    assert np.abs(mended.position_NJ - log.position_NJ).max() < 0.05


def test_two_spikes_in_a_row_are_both_left_out(log: Log) -> None:
    position = log.position_NJ.copy()
    position[[50, 51, 400, 401], 0] += [0.5, 0.45, -0.4, -0.5]
    mended, _ = found(replace(log, position_NJ=position))
    assert not mended.valid[[50, 51, 400, 401], 0].any()
    assert np.abs(mended.position_NJ - log.position_NJ).max() < 0.05


def test_a_joint_that_strikes_something_has_no_spikes() -> None:
    """It falls onto a table, bounces once, rests there: turns within a sample of 40 ms are what it did."""
    time_s = np.arange(500) / 25
    command = np.stack([0.3 * np.sin(time_s), 0.3 * np.cos(time_s)], axis=1)
    position = command.copy()
    for row in (60, 180, 301, 422):
        position[row - 3 : row + 5, 1] += [0.07, 0.14, 0.21, 0.245, 0.23, 0.2, 0.17, 0.14]
        position[row + 5 : row + 12, 1] += np.linspace(0.12, 0, 7)
    _, faults = examine(Log(time_s, command, position, JOINTS, JOINTS), LOW, HIGH, LIMITS)
    assert "spikes" not in {fault.name for fault in faults}


def test_values_that_are_no_numbers_are_left_out(log: Log) -> None:
    position, command = log.position_NJ.copy(), log.command_NU.copy()
    position[10:20, 0] = np.nan
    command[500] = np.inf
    mended, faults = found(replace(log, position_NJ=position, command_NU=command))
    assert faults["positions that are no numbers"].where == "shoulder"
    assert "1 rows" in faults["commands that are no numbers"].detail
    assert np.isfinite(mended.position_NJ).all() and not mended.valid[10:20, 0].any()


def test_swapped_joints_are_named_and_refused(log: Log) -> None:
    _, faults = found(replace(log, position_NJ=log.position_NJ[:, ::-1]))
    assert "it follows the command of shoulder" in faults["swapped joints"].detail  # the last one named: elbow
    with pytest.raises(UserError, match="swapped joints"):
        refuse(list(faults.values()))


def test_degrees_are_named_and_refused(log: Log) -> None:
    _, faults = found(replace(log, position_NJ=np.rad2deg(log.position_NJ), command_NU=np.rad2deg(log.command_NU)))
    assert faults["degrees instead of radians"].fatal and "shoulder" in faults["degrees instead of radians"].where


def test_saturated_commands_are_named(log: Log) -> None:
    command = log.command_NU.copy()
    command[200:400, 0] = 2.2
    _, faults = found(replace(log, command_NU=command))
    assert faults["saturated commands"].where == "shoulder" and "27 %" in faults["saturated commands"].detail


def test_a_joint_that_never_moves_is_named(log: Log) -> None:
    position = log.position_NJ.copy()
    position[:, 1] = 0.3 + 1e-5 * np.random.default_rng(0).normal(size=len(position))
    _, faults = found(replace(log, position_NJ=position))
    assert faults["a joint that never moves"].where == "elbow" and "although its command spans" in str(
        faults["a joint that never moves"]
    )


def test_columns_must_match_the_names(log: Log) -> None:
    with pytest.raises(UserError, match="positions"):
        Log(log.time_s, log.command_NU, log.position_NJ[:, :1], JOINTS, JOINTS)
