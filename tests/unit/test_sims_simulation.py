"""A user's own MJCF behind the command interface."""

import mujoco
import numpy as np
import pytest

from robot_wm.contracts.embodiment import Camera
from sims import robots
from sims.render import world_to_camera
from sims.stability import has_diverged
from tests.small_bodies import planar_arm

INTERFACES = ("joint_position", "joint_velocity", "joint_torque")


@pytest.fixture
def arm(tmp_path):
    with robots.load(planar_arm(tmp_path)) as simulation:
        yield simulation


def test_limits_come_from_the_mjcf_less_the_margin(tmp_path):
    with robots.load(planar_arm(tmp_path, safety={"max_step": 0.1, "margin": 0.1})) as arm:
        assert arm.command.names == ("shoulder", "elbow")
        assert arm.command.unit == "rad"
        np.testing.assert_allclose(arm.command.high, [1.6, 1.6])
        np.testing.assert_allclose(arm.step(np.array([9.0, -9.0])), [1.6, -1.6])


def test_proprio_is_positions_then_velocities(arm):
    assert arm.proprio_names == ("shoulder_position", "elbow_position", "shoulder_velocity", "elbow_velocity")
    assert arm.position_units == ("rad", "rad")
    before = arm.proprio()
    arm.step(arm.reference() + np.array([0.15, 0.0]))
    after = arm.proprio()
    assert after.dtype == np.float32
    assert after[0] > before[0] + 0.01
    assert after[2] > 0.1


def test_one_step_lasts_one_control_period(arm):
    start_s = arm.time_s
    arm.step(arm.reference())
    assert arm.time_s - start_s == pytest.approx(0.05)


def test_reset_holds_a_home_that_varies_little_and_follows_from_the_seed(tmp_path):
    with robots.load(planar_arm(tmp_path, home=[0.5, -0.4])) as arm:
        poses = []
        for seed in (1, 2, 1):
            arm.reset(seed)
            poses.append(arm.proprio()[:2].copy())
            np.testing.assert_allclose(arm.reference(), poses[-1], atol=1e-6)
        np.testing.assert_array_equal(poses[0], poses[2])
        assert not np.array_equal(poses[0], poses[1])
        np.testing.assert_allclose(poses, np.tile([0.5, -0.4], (3, 1)), atol=0.05)


@pytest.mark.parametrize("interface", INTERFACES)
def test_same_seed_and_commands_give_the_same_bytes_and_pixels(tmp_path, interface):
    def run():
        with robots.load(planar_arm(tmp_path, interface), seed=5) as arm:
            rng = np.random.default_rng(0)
            for _ in range(10):
                arm.step(rng.uniform(arm.command.low, arm.command.high))
            return arm.state().tobytes(), arm.frame().tobytes()

    assert run() == run()


@pytest.mark.parametrize("interface", INTERFACES)
def test_rollout_foretells_what_stepping_does_and_changes_nothing(tmp_path, interface):
    with robots.load(planar_arm(tmp_path, interface)) as arm:
        rng = np.random.default_rng(1)
        arm.step(rng.uniform(arm.command.low, arm.command.high))
        commands_NKU = rng.uniform(np.multiply(2, arm.command.low), np.multiply(2, arm.command.high), (5, 6, 2))
        state = arm.state()
        foretold_NK3 = arm.rollout(commands_NKU)[:, :, 0]
        assert arm.state().tobytes() == state.tobytes()
        for commands_KU, foretold_K3 in zip(commands_NKU, foretold_NK3, strict=True):
            arm.restore(state)
            for command_U, position in zip(commands_KU, foretold_K3, strict=True):
                arm.step(command_U)
                np.testing.assert_allclose(arm.end_effector(), position, atol=1e-9)


def test_restore_brings_back_state_reference_and_future(arm):
    arm.step(np.array([0.3, -0.2]))
    state, reference = arm.state(), arm.reference()
    arm.step(np.array([1.0, 1.0]))
    ahead = arm.state()
    arm.restore(state)
    np.testing.assert_array_equal(arm.reference(), reference)
    arm.step(np.array([1.0, 1.0]))
    np.testing.assert_array_equal(arm.state(), ahead)


def test_frame_shows_motion_at_any_size(arm):
    before = arm.frame()
    assert before.shape == (32, 48, 3)
    assert before.dtype == np.uint8
    assert arm.frame(40, 24).shape == (40, 24, 3)
    for _ in range(10):
        arm.step(np.array([1.5, 0.0]))
    assert np.abs(arm.frame().astype(int) - before).max() > 60


def test_camera_frame_is_right_down_ahead(arm):
    camera = Camera("placed", position_m=(1.0, 0.0, 0.0), target_m=(0.0, 0.0, 0.0))
    T_cam_world = world_to_camera(arm.model, arm.data, camera)
    np.testing.assert_allclose(T_cam_world @ [0, 0, 0, 1], [0, 0, 1, 1], atol=1e-12)  # one metre ahead
    np.testing.assert_allclose(T_cam_world @ [0, 0.2, 0.1, 1], [0.2, -0.1, 1, 1], atol=1e-12)


def test_named_and_placed_cameras_agree(tmp_path):
    """The frame of a camera of the MJCF, and the one computed for the same place, are the same."""
    with robots.load(planar_arm(tmp_path)) as arm:
        named = world_to_camera(arm.model, arm.data, Camera("above"))
    point = named @ [0.1, 0.2, 0.0, 1]
    np.testing.assert_allclose(point, [0.1, -0.2, 1.5, 1], atol=1e-9)


def test_a_command_that_is_not_finite_never_reaches_the_physics(arm):
    state = arm.state()
    with pytest.raises(ValueError, match="finite"):
        arm.step(np.array([np.nan, 0.0]))
    np.testing.assert_array_equal(arm.state(), state)


@pytest.mark.parametrize("field", ["qpos", "qvel", "qfrc_applied"])
def test_divergence_shows_wherever_it_begins(arm, field, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes MUJOCO_LOG.TXT where it runs
    mujoco.mj_step(arm.model, arm.data)
    assert not has_diverged(arm.data)
    getattr(arm.data, field)[0] = np.nan
    mujoco.mj_step(arm.model, arm.data)
    assert has_diverged(arm.data) and np.isfinite(arm.data.qpos).all()
