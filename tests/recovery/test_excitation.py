"""Planned motions are safe, tell more than random ones, and their predicted intervals come true."""

import numpy as np
import pytest

from calibration.excitation import Excitation, ExcitationConfig, Limits, plan
from calibration.parameters import Parameter
from calibration.signals import Log
from calibration.sysid import FitConfig, identify
from robot_wm.contracts.errors import UserError
from tests.swinging_arm import JOINTS, chosen, spec

LIMITS = Limits(np.array([-1.0, -1.2]), np.array([1.0, 1.2]), np.array([4.0, 4.0]))
QUICK = ExcitationConfig(duration_s=4.0, candidates=10)


def planned(parameters: list[Parameter], limits: Limits = LIMITS, seed: int = 0) -> Excitation:
    return plan(spec(), JOINTS, JOINTS, parameters, np.zeros(2), limits, 125.0, QUICK, seed)


@pytest.fixture(scope="module")
def motion() -> Excitation:
    return planned(chosen("armature", "damping", "frictionloss"))


def test_the_motion_keeps_to_its_limits_and_ends_at_rest(motion: Excitation) -> None:
    low, high = LIMITS.inner
    assert (motion.command_NU >= low - 1e-9).all() and (motion.command_NU <= high + 1e-9).all()
    assert (np.abs(np.diff(motion.command_NU, axis=0)) * 125 <= LIMITS.speed + 1e-6).all()
    assert (motion.position_NJ >= LIMITS.low).all() and (motion.position_NJ <= LIMITS.high).all()
    np.testing.assert_allclose(motion.command_NU[[0, -1]], 0, atol=1e-12)
    assert np.ptp(motion.command_NU, axis=0).min() > 0.3


def test_the_motion_tells_more_than_random_ones(motion: Excitation) -> None:
    assert motion.information > motion.random_information + 0.7


def test_predicted_intervals_come_true(motion: Excitation) -> None:
    rng = np.random.default_rng(0)
    seen = motion.position_NJ + QUICK.noise_rad * rng.normal(size=motion.position_NJ.shape)
    log = Log(motion.time_s, motion.command_NU, seen, JOINTS, JOINTS)
    found = identify(spec(), log, motion.parameters, FitConfig(fit_share=1.0, starts=1, settle_s=0.0))
    measured = np.array([e.interval for e in found.estimates])
    np.testing.assert_allclose(measured, motion.interval_P, rtol=0.35)
    nominal = np.array([p.nominal for p in motion.parameters])
    assert (np.abs(found.values - nominal) <= 2 * motion.interval_P).mean() >= 0.8


def test_a_table_in_the_way_is_not_touched() -> None:
    import mujoco

    blocked = spec()
    blocked.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.05, 0.3, 0.3], pos=[0.34, 0, 0.7])
    found = plan(blocked, JOINTS, JOINTS, chosen("damping"), np.zeros(2), LIMITS, 125.0, QUICK)
    model = blocked.compile()
    data = mujoco.MjData(model)
    touched = 0
    for position in found.position_NJ:
        data.qpos[:] = position
        mujoco.mj_forward(model, data)
        touched += data.ncon
    assert touched == 0 and found.position_NJ.min() < -0.2


def test_a_home_that_is_never_safe_is_refused() -> None:
    tight = Limits(np.array([0.2, -1.0]), np.array([0.5, 1.0]), np.array([4.0, 4.0]))
    with pytest.raises(UserError, match="no safe motion"):
        planned(chosen("damping"), tight)
