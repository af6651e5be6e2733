"""The twin: nothing hidden without severity, everything hidden with it, and the truth out of a controller's sight."""

import json
import time
from dataclasses import asdict, replace

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_wm.contracts.errors import UserError
from sims import robots
from sims.truth import PRESETS, Truth
from sims.twin import Twin
from tests.small_bodies import fetch, planar_arm

INTERFACES = ("joint_position", "joint_velocity", "joint_torque")
some = settings(max_examples=15)


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arms")
    found = {name: robots.load(planar_arm(folder, name)) for name in INTERFACES}
    yield found
    for arm in found.values():
        arm.close()


@pytest.fixture
def arm(arms):
    arms["joint_position"].reset(0)
    return arms["joint_position"]


def constants(simulation):
    """Everything that is compiled into a model, as bytes; drawing notes its size there."""
    simulation.frame()
    model = simulation.model
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()


def commands(simulation, num, seed=0):
    rng = np.random.default_rng(seed)
    low, high = np.asarray(simulation.command.low), np.asarray(simulation.command.high)
    return rng.uniform(low, high, (num, simulation.command.dim)) * 0.5


def fly(twin, written_KU):
    """What a controller sees, and where the body truly is."""
    twin.simulation.reset(5)
    twin.reset()
    seen, states = [twin.read()], []
    for command_U in written_KU:
        twin.write(command_U)
        seen.append(twin.read())
        states.append(twin.simulation.state())
    return seen, np.array(states)


@pytest.mark.parametrize("interface", INTERFACES)
def test_without_severity_it_is_the_simulation_to_the_last_bit(arms, interface):
    arm = arms[interface]
    written_KU, before = commands(arm, 30), constants(arm)
    seen, states = fly(Twin(arm, 0.0, seed=9), written_KU)
    assert constants(arm) == before
    arm.reset(5)
    for observation, command_U, state in zip(seen, written_KU, states, strict=False):
        np.testing.assert_array_equal(observation.frame_YXC, arm.frame())
        np.testing.assert_array_equal(observation.proprio_P, arm.proprio())
        assert observation.time_s == arm.time_s
        arm.step(command_U)
        np.testing.assert_array_equal(state, arm.state())


@some
@given(severity=st.floats(0.01, 1), seed=st.integers(0, 2**32 - 1), preset=st.sampled_from(sorted(PRESETS)))
def test_closing_gives_the_model_back(arms, severity, seed, preset):
    arm = arms["joint_velocity"]
    arm.reset(0)
    before, frame = constants(arm), arm.frame()
    twin = Twin(arm, severity, seed, preset)
    if preset in ("all", "body", "drive"):
        assert constants(arm) != before
    twin.close()
    assert constants(arm) == before
    np.testing.assert_array_equal(arm.frame(), frame)


@some
@given(low=st.floats(0, 1), high=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_severity_turns_up_the_same_faults(arms, low, high, seed):
    low, high = sorted((low, high))
    arm = arms["joint_position"]
    mild, grave = (asdict(Truth.draw(arm, severity, seed)) for severity in (low, high))
    for name, strong in grave.items():
        factor = name in ("mass", "friction", "damping", "armature", "gain", "fovy", "exposure")
        weak = np.atleast_1d(mild[name]) if np.size(mild[name]) else np.full(np.size(strong), float(factor))
        weak, strong = (np.log(v) if factor else v for v in (weak, np.atleast_1d(strong)))
        assert (np.abs(weak) <= np.abs(strong) + 1e-12).all(), name
        assert (weak * strong >= -1e-12).all(), name


def test_same_seed_same_flight_other_seed_another(arm):
    written_KU, flights = commands(arm, 20), []
    for seed in (3, 3, 4):
        twin = Twin(arm, 0.7, seed)
        flights += [fly(twin, written_KU), fly(twin, written_KU)]  # a reset restores the noise as well
        twin.close()
    first, *same, other, _ = flights
    for seen, states in same:
        np.testing.assert_array_equal(states, first[1])
        for a, b in zip(seen, first[0], strict=True):
            np.testing.assert_array_equal(a.frame_YXC, b.frame_YXC)
            assert a.time_s == b.time_s
    assert np.abs(other[1] - first[1]).max() > 1e-3


@pytest.mark.parametrize("fault", ["mass", "damping", "armature", "gain"])
def test_a_hidden_parameter_is_the_same_body_as_an_edited_model(tmp_path, arms, fault):
    arm, dim = arms["joint_position"], 2
    count = {"mass": arm.model.nbody, "gain": dim}.get(fault, arm.model.nv)
    factors = tuple(np.linspace(1.2, 1.6, count).tolist())
    spec = mujoco.MjSpec.from_file(arm.embodiment.mjcf.path)
    if fault == "mass":
        for geom in spec.geoms:
            body = [b.name for b in spec.bodies].index(geom.parent.name)
            geom.density *= factors[body]
    elif fault == "gain":
        for actuator, factor in zip(spec.actuators, factors, strict=True):
            actuator.gainprm[0] *= factor
            actuator.biasprm[1] *= factor
    else:
        for joint, factor in zip(spec.joints, factors, strict=True):
            values = getattr(joint, fault)
            setattr(joint, fault, values * factor)
    path = tmp_path / "edited.xml"
    spec.compile()
    path.write_text(spec.to_xml())
    edited = robots.load(replace(arm.embodiment, mjcf=replace(arm.embodiment.mjcf, path=str(path))))
    twin = Twin(arm, truth=Truth(**{fault: factors}))
    written_KU = commands(arm, 25)
    _, states = fly(twin, written_KU)
    _, nominal = fly(Twin(edited), written_KU)
    twin.close()
    edited.close()
    np.testing.assert_allclose(states, nominal, rtol=1e-5, atol=1e-6)
    assert np.abs(states - fly(Twin(arm), written_KU)[1]).max() > 1e-3


def test_task_and_oracle_work_in_the_true_dynamics(arm):
    twin = Twin(arm, truth=Truth(mass=(3.0,) * arm.model.nbody, gain=(0.8, 0.8)))
    arm.reset(1)
    twin.reset()
    written_KU = commands(arm, 8)
    foretold_K3 = arm.rollout(written_KU[None])[0, :, 0]
    for command_U, place_m in zip(written_KU, foretold_K3, strict=True):
        twin.write(command_U)
        np.testing.assert_allclose(arm.end_effector(), place_m, atol=1e-9)
    twin.close()


@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.05, 0.07, 0.12])
def test_a_command_takes_effect_after_the_delay_to_a_physics_step(arm, delay_s):
    def moved_at(truth):
        twin = Twin(arm, truth=truth)
        arm.reset(0)
        twin.reset()
        start, step = arm.reference(), np.zeros(2)
        step[0] = 0.3
        for _ in range(4):
            twin.write(start)
        written_s, places = arm.time_s, []
        for _ in range(8):
            twin.write(start + step)
            places.append(arm.proprio()[0])
        twin.close()
        return written_s, np.array(places)

    direct = moved_at(Truth())[1]
    late = moved_at(Truth(delay_s=delay_s))[1]
    period_s = 1 / arm.command.control_rate_hz
    ticks, start = np.arange(1, 9) * period_s, start_of(arm)
    np.testing.assert_allclose(late, np.interp(ticks - delay_s, np.r_[0, ticks], np.r_[start, direct]), atol=0.04)
    if delay_s % period_s < 1e-9:
        whole = round(delay_s / period_s)
        np.testing.assert_allclose(late[whole:], direct[: len(direct) - whole], atol=1e-6)


def start_of(arm):
    arm.reset(0)
    return arm.proprio()[0]


def test_jitter_never_lets_a_command_overtake_another(arm):
    twin = Twin(arm, truth=Truth(delay_s=0.03, jitter_s=0.2), seed=2)
    arm.reset(0)
    twin.reset()
    obeyed = []
    for k in range(60):
        twin.write(np.full(2, k / 100))
        obeyed.append(arm.reference()[0])
    assert (np.diff(obeyed[8:]) >= -1e-12).all()
    lag = np.arange(60) / 100 - obeyed
    assert lag[10:].max() > lag[10:].min() + 0.005
    twin.close()


def test_backlash_loses_the_first_part_of_a_way_back(arm):
    twin = Twin(arm, truth=Truth(backlash=(0.1, 0.0)))
    arm.reset(0)
    twin.reset()
    home = arm.reference()
    obeyed = []
    for offset in (0.0, 0.2, 0.4, 0.36, 0.3, 0.2):
        twin.write(home + offset)
        obeyed.append(arm.reference() - home)
    np.testing.assert_allclose(np.array(obeyed)[:, 0], [0, 0.15, 0.35, 0.35, 0.35, 0.25], atol=1e-12)
    np.testing.assert_allclose(np.array(obeyed)[:, 1], [0, 0.2, 0.4, 0.36, 0.3, 0.2], atol=1e-12)
    twin.close()


def test_wall_clock_time_passes_by_itself(arm):
    arm.reset(0)
    twin = Twin(arm, wall_clock=True)
    began_s, period_s = twin.now(), 1 / arm.command.control_rate_hz
    target = arm.reference() + 0.3
    twin.write(target)
    before = arm.proprio()[:2].copy()
    time.sleep(4.3 * period_s)
    observation = twin.read()
    assert observation.time_s >= 4 * period_s  # nobody wrote meanwhile
    assert twin.now() - began_s >= 4.3 * period_s
    assert observation.time_s <= twin.now()
    assert (observation.proprio_P[:2] > before + 0.05).all()


def test_the_truth_is_a_file_of_its_own(tmp_path, arm):
    twin = Twin(arm, 0.8, seed=1)
    path = twin.truth.save(tmp_path)
    assert Truth.load(tmp_path) == twin.truth
    assert json.loads(path.read_text())["delay_s"] > 0
    assert set(vars(twin.read())) == {"frame_YXC", "proprio_P", "time_s", "proprio_time_s"}
    twin.close()


def test_the_fetch_environment_hides_its_faults_too():
    with robots.load(fetch()) as body:
        before = constants(body)
        twin = Twin(body, 1.0, seed=3)
        seen, states = fly(twin, np.tile([0.4, 0.1, -0.1], (10, 1)))
        assert np.isfinite(states).all()
        assert 1 < len({o.time_s for o in seen}) < len(seen)  # some frames were dropped
        twin.close()
        assert constants(body) == before
        nominal = fly(Twin(body), np.tile([0.4, 0.1, -0.1], (10, 1)))
        assert np.abs(seen[0].frame_YXC.astype(int) - nominal[0][0].frame_YXC).mean() > 5
        assert np.abs(states[-1] - nominal[1][-1]).max() > 1e-3


def test_what_cannot_be_drawn_is_refused(arm):
    for arguments, problem in (({"severity": 1.5}, "severity is 1.5"), ({"severity": 0.5, "preset": "rain"}, "'rain'")):
        with pytest.raises(UserError, match=problem):
            Twin(arm, **arguments)
