"""Values written into a compiled model make the model that compiling the edited MJCF makes."""

import copy
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mujoco import sysid

from calibration.lean import lean
from calibration.open_loop import OpenLoop
from calibration.parameters import KINDS, Parameter, mend, parameter, to_sysid, write
from tests.swinging_arm import JOINTS, chosen, record, spec

TARGETS = {"joint": "elbow", "actuator": "elbow", "body": "lower", "site": "tip", "geom": "lower"}
IN_THE_MODEL = [kind for kind, entry in KINDS.items() if entry.target and kind != "bias"]


def motion(model: mujoco.MjModel) -> np.ndarray:
    data = mujoco.MjData(model)
    data.ctrl[:] = 0.7, -0.5
    found = []
    for _ in range(200):
        mujoco.mj_step(model, data)
        found.append(np.concatenate([data.qpos, data.qvel]))
    return np.array(found)


@pytest.mark.parametrize("kind", IN_THE_MODEL)
@given(share=st.floats(0.05, 1.0))
@settings(max_examples=8)
def test_written_model_moves_as_the_recompiled_one_to_the_last_bit(kind: str, share: float) -> None:
    full = spec().compile()
    nominal = KINDS[kind].read(full, getattr(full, KINDS[kind].target or "")(TARGETS[KINDS[kind].target or ""]).id)
    value = 0.4 * share if kind == "payload" else nominal * (0.3 + 3 * share)
    each = [parameter(full, kind, TARGETS[KINDS[kind].target or ""], -1e3, 1e3, absolute=True)]
    written = copy.copy(full)
    write(written, full, mujoco.MjData(written), each, np.array([value]))
    edited = spec()
    mend(edited, full, each, [value])
    np.testing.assert_array_equal(motion(written), motion(edited.compile()))
    if kind != "friction":
        assert np.abs(motion(written) - motion(full)).max() > 1e-6


def test_lean_model_moves_as_the_full_one_to_the_last_bit() -> None:
    full = spec().compile()
    slim = lean(spec(), full, keep_contacts=False)
    assert slim.ngeom == 0 and full.ngeom == 2
    np.testing.assert_array_equal(motion(slim), motion(full))


def test_columns_of_a_batch_equal_the_librarys_rollout_of_recompiled_models() -> None:
    """mujoco.sysid recompiles each column; a batch of models written in place gives the same trajectories."""
    parameters = chosen("armature", "damping", "frictionloss")
    log = record(parameters, np.array([p.nominal for p in parameters]), 1.0, 0.0)
    loop = OpenLoop(spec(), log, parameters)
    columns = np.array([p.nominal for p in parameters]) * np.random.default_rng(0).uniform(0.5, 2, (3, len(parameters)))
    found = loop.predict(columns).position_CMJ
    for values, positions in zip(columns, found, strict=True):
        their = to_sysid(parameters, loop.full, values)
        model = sysid.apply_param_modifiers(their, spec())
        start, control = loop._inputs(values[None])
        ours = sysid.sysid_rollout(
            model,
            mujoco.MjData(model),
            [sysid.TimeSeries(log.time_s, np.vstack([control[0][: len(log.time_s)]]))],
            start,
        )
        states = ours[0].state
        assert states is not None
        np.testing.assert_array_equal(positions[1:], states.data[: len(positions) - 1, 1:3])


def test_sub_step_delays_shift_the_motion_by_just_that() -> None:
    parameters = chosen("delay")
    log = record(parameters, np.array([0.0]), 2.0, 0.0)
    loop = OpenLoop(spec(), log, parameters)
    prompt, late = loop.predict(np.array([[0.0], [0.0195]])).position_CMJ
    shifted = np.column_stack([np.interp(log.time_s - 0.0195, log.time_s, q) for q in prompt.T])
    assert np.abs(late - prompt).max() > 0.02
    assert np.abs(late - shifted).max() < 4e-4


def test_rows_without_a_new_command_can_be_lost() -> None:
    """What remains is simulated alike: samples count at their own times, and nothing is interpolated."""
    parameters = chosen("damping")
    nominal = np.array([p.nominal for p in parameters])
    log = record(parameters, nominal, 2.0, 0.0)
    held = np.arange(len(log.time_s)) // 5 * 5
    whole = replace(log, command_NU=log.command_NU[held])
    kept = (np.random.default_rng(1).random(len(held)) > 0.5) | (np.arange(len(held)) == held)
    kept[:80] = True
    full, thin = (
        OpenLoop(spec(), each, parameters).predict(nominal).position_CMJ[0] for each in (whole, whole.rows(kept))
    )
    assert len(thin) == kept.sum() < len(full)
    np.testing.assert_allclose(thin, full[kept], atol=1e-9)


def test_parameters_cross_to_the_library_and_back() -> None:
    parameters = chosen("armature", "payload", "delay")
    their = to_sysid(parameters, spec().compile(), np.array([(p.low + p.high) / 2 for p in parameters]))
    scale = np.array([p.scale for p in parameters])
    np.testing.assert_allclose(their.as_vector() * scale, [(p.low + p.high) / 2 for p in parameters])
    low, high = their.get_bounds()
    np.testing.assert_allclose(low * scale, [p.low for p in parameters])
    np.testing.assert_allclose(high * scale, [p.high for p in parameters])
    assert [type(p) for p in parameters] == [Parameter] * len(parameters) and JOINTS[0] in parameters[0].name
