"""Every arm that can be drawn is a sound body, in a scene that is the same whenever it is drawn."""

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_wm.contracts.dataset import HAND, OBJECT
from sims import scenes, soundness
from sims.arms import HAND_SITE
from sims.filming import film, play
from sims.motion import CONTROL_S, InverseKinematics, Wander
from sims.render import Renderer, world_to_camera
from sims.tools import GRIPPER
from sims.viewpoints import in_view

MANY = 200
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=8)


@pytest.fixture(scope="module")
def many():
    return [scenes.sample(seed) for seed in range(MANY)]


def test_two_hundred_arms_are_sound(many):
    faults = {seed: soundness.check(scene, seconds=0.2) for seed, scene in enumerate(many)}
    assert {seed: found for seed, found in faults.items() if found} == {}


@pytest.mark.slow
def test_two_hundred_arms_hold_their_home_for_ten_seconds(many):
    assert not [seed for seed, scene in enumerate(many) if soundness.check(scene, seconds=10.0)]


def test_two_hundred_arms_are_as_varied_as_promised(many):
    assert {len(scene.arm.kinds) for scene in many} == {3, 4, 5, 6, 7}
    assert {scene.arm.tool.kind for scene in many} == {"gripper", "stick", "paddle", "ball"}
    assert {len(scene.objects) for scene in many} == {1, 2, 3}
    assert {len(scene.cameras) for scene in many} == {1, 2, 3}
    assert {scene.arm.hangs for scene in many} == {True, False}
    reaches, weights = ([f(s) for s in many] for f in (lambda s: s.arm.reach_m, lambda s: arm_mass(s)))
    assert min(reaches) < 0.6 < 1.0 < max(reaches)
    assert max(weights) > 5 * min(weights)


@settings(max_examples=12)
@given(seeds)
def test_scene_saved_as_mjcf_is_the_same_model(seed):
    scene = scenes.sample(seed)
    again = mujoco.MjModel.from_xml_string(scene.spec.to_xml())
    for name in ("jnt_range", "body_mass", "body_inertia", "geom_rbound", "geom_pos", "geom_rgba", "cam_pos",
                 "dof_damping", "actuator_gainprm", "actuator_biasprm", "actuator_ctrlrange", "light_dir",
                 "tex_data"):  # fmt: skip
        saved, drawn = getattr(again, name), getattr(scene.model, name)
        np.testing.assert_allclose(saved, drawn, rtol=1e-3, atol=1e-5, err_msg=name)
    assert again.site(HAND_SITE).id >= 0
    states = [state_after(model, scene, 0.5) for model in (scene.model, again)]
    np.testing.assert_allclose(states[0], states[1], atol=2e-3)


@few
@given(seeds, st.sampled_from(["joint_position", "joint_velocity", "joint_torque"]), st.integers(1, 3))
def test_same_seed_same_state_and_pixels(seed, interface, num_cameras):
    def record():
        scene = scenes.sample(seed, 32, num_cameras, interface)
        data = mujoco.MjData(scene.model)
        mujoco.mj_step(scene.model, data, nstep=40)
        frames = []
        for camera in scene.cameras:
            renderer = Renderer(scene.model, camera)
            frames.append(renderer.frame(data).tobytes())
            renderer.close()
        return scene.spec.to_xml(), data.qpos.tobytes(), data.qvel.tobytes(), frames

    assert record() == record()


@few
@given(seeds)
def test_cameras_and_servos_do_not_change_what_is_drawn(seed):
    first = scenes.sample(seed, 64, 1, "joint_position")
    other = scenes.sample(seed, 96, 3, "joint_torque")
    assert first.arm.kinds == other.arm.kinds
    assert first.camera.position_m == other.camera.position_m
    np.testing.assert_array_equal(first.workspace_m, other.workspace_m)
    for name in ("link0", "tool", *first.objects):
        np.testing.assert_array_equal(first.model.body(name).mass, other.model.body(name).mass)
        np.testing.assert_array_equal(first.model.body(name).pos, other.model.body(name).pos)


def test_velocity_and_torque_commands_do_what_they_say():
    for seed in range(6):
        name, moved = "joint0", {}
        for interface, command in (("joint_velocity", 0.2), ("joint_torque", 20.0)):
            scene = scenes.sample(seed, interface=interface)
            model, data = scene.model, mujoco.MjData(scene.model)
            data.qpos[[model.joint(j).qposadr[0] for j in scene.arm.joints]] = scene.arm.home
            data.ctrl[model.actuator(name).id] = command
            mujoco.mj_step(model, data, nstep=60 if interface == "joint_velocity" else 5)
            moved[interface] = float(data.joint(name).qvel[0])
        assert moved["joint_velocity"] == pytest.approx(0.2, rel=0.3)
        assert moved["joint_torque"] > 0.01


def test_grippers_open_close_and_hold_what_is_between_the_fingers(many):
    held, tried = [], 0
    for scene in many:
        width = grasp_width(scene)
        if scene.arm.tool.kind == GRIPPER and 0 < width < 0.85 * scene.arm.tool.opening_m:
            tried += 1
            left_m, opening_m = grasp(scene)
            held.append(left_m < 0.05 and 0.8 * width < opening_m < 1.1 * width)
        if tried == 6:
            break
    assert held == [True] * 6


def test_what_swings_and_moving_cameras_move_by_themselves_and_never_faster(many):
    swings = {"swinging": 0, "second_rig": 0, "third_rig": 0}
    for scene in many[:40]:
        model, data = scene.model, mujoco.MjData(scene.model)
        names = [n for n in swings if n in [model.joint(i).name for i in range(model.njnt)]]
        angles = []
        for _ in range(30 if names else 0):
            mujoco.mj_step(model, data, nstep=50)
            angles.append([data.joint(n).qpos[0] for n in names])
        for name, path in zip(names, np.transpose(angles), strict=True):
            far = 2 * float(model.qpos_spring[model.joint(name).qposadr[0]])
            swings[name] += 1
            assert np.ptp(path) > 0.5 * abs(far)
            assert np.abs(path).max() < 1.1 * abs(far)
    assert swings["swinging"]
    assert swings["second_rig"] + swings["third_rig"]


def test_every_camera_sees_the_hand_at_work(many):
    seen = []
    for scene in many[:40]:
        data, inverse = mujoco.MjData(scene.model), InverseKinematics(scene.model, scene.arm)
        inverse.solve(scene.workspace_m.mean(0), 100)
        data.qpos[[scene.model.joint(j).qposadr[0] for j in scene.arm.joints]] = inverse.joints
        mujoco.mj_forward(scene.model, data)
        seen += [bool(in_view(scene.model, data, c, data.site(HAND_SITE).xpos[None])[0]) for c in scene.cameras]
    assert all(seen)


def test_depth_is_how_far_along_the_view_what_a_pixel_shows_is(many):
    compared = 0
    for scene in many[:8]:
        model, data, camera = scene.model, mujoco.MjData(scene.model), scene.camera
        mujoco.mj_forward(model, data)
        renderer = Renderer(model, camera)
        depth_YX, T_cam_world = renderer.depth(data), world_to_camera(model, data, camera)
        depth_mm_YX = renderer.depth_mm(data).astype(float)
        assert (np.abs(depth_mm_YX - 1000 * depth_YX)[depth_mm_YX > 0] <= 0.51).all()
        renderer.close()
        focal_px = camera.height / 2 / np.tan(np.radians(camera.fovy_deg / 2))
        for y, x in ((20, 20), (32, 40), (50, 30)):
            ray = np.array([x + 0.5 - camera.width / 2, y + 0.5 - camera.height / 2, focal_px]) / focal_px
            start_m, along = np.array(camera.position_m), T_cam_world[:3, :3].T @ ray
            far_m = mujoco.mj_ray(model, data, start_m, along, None, 1, -1, np.zeros(1, np.int32))
            if 0 < far_m < 3 and np.ptp(depth_YX[y - 1 : y + 2, x - 1 : x + 2]) < 0.05:  # no edge runs through it
                compared += 1
                assert depth_YX[y, x] == pytest.approx(far_m, abs=0.01)
    assert compared > 8


@few
@given(seeds)
def test_hand_follows_its_path_through_the_workspace(seed):
    scene = scenes.sample(seed)
    rng = np.random.default_rng(seed)
    low, high = scene.workspace_m
    start_m = rng.uniform(low, high)
    assert InverseKinematics(scene.model, scene.arm).solve(start_m, 200) < 0.03
    wander = Wander(scene.workspace_m, start_m, rng)
    steps = [wander.advance(np.array([0.0, 0.0, 0.03])) for _ in range(round(4 / CONTROL_S))]
    assert np.linalg.norm(np.diff(steps, axis=0), axis=1).max() < 2 * CONTROL_S  # under 2 m/s: no jumps
    assert (np.array(steps) > low - 0.06).all()
    assert (np.array(steps) < high + 0.12).all()


@settings(max_examples=3)
@given(seeds)
def test_same_seed_same_bytes_and_pixels_of_a_clip(seed):
    def record():
        scene = scenes.sample(seed, 32)
        take = play(scene, np.random.default_rng(seed), 4, 0.2)
        return take and film(scene, take)

    first, second = record(), record()
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        for key, value in {**first.columns, **first.videos}.items():
            assert value.tobytes() == {**second.columns, **second.videos}[key].tobytes()


def test_clips_show_the_hand_moving_and_mostly_an_object_pushed():
    moved, spans = [], []
    for seed in range(12):
        take = play(scenes.sample(seed, 16), np.random.default_rng(seed), 16, 0.2)
        if take is not None:
            moved.append(np.linalg.norm(np.ptp(take.columns[OBJECT], axis=0)) > 0.02)
            spans.append(np.linalg.norm(np.ptp(take.columns[HAND], axis=0)))
    assert len(moved) >= 10
    assert np.mean(moved) > 0.5
    assert np.min(spans) > 0.05


def test_grippers_open_and_close_in_clips():
    openings = []
    for seed in range(8):
        scene = scenes.sample(seed, 16)
        take = play(scene, np.random.default_rng(seed), 20, 0.2) if scene.arm.tool.kind == GRIPPER else None
        if take is not None:
            finger = take.qpos_FQ[:, scene.model.joint("finger_left").qposadr[0]]
            openings.append(np.ptp(finger) / scene.model.joint("finger_left").range[1])
    assert np.mean(openings) > 0.4


def arm_mass(scene):
    return sum(scene.model.body(f"link{i}").mass[0] for i in range(len(scene.arm.kinds)))


def state_after(model, scene, seconds):
    data = mujoco.MjData(model)
    data.qpos[[model.joint(j).qposadr[0] for j in scene.arm.joints]] = scene.arm.home
    data.ctrl[[model.actuator(j).id for j in scene.arm.joints]] = scene.arm.home
    mujoco.mj_step(model, data, nstep=round(seconds / model.opt.timestep))
    return data.qpos[[model.joint(j).qposadr[0] for j in scene.arm.joints]]


def grasp_width(scene):
    """Of the first object when it is a box, across its narrower side; 0 otherwise."""
    geoms = [i for i in range(scene.model.ngeom) if scene.model.geom_bodyid[i] == scene.model.body("object0").id]
    box = len(geoms) == 1 and scene.model.geom_type[geoms[0]] == mujoco.mjtGeom.mjGEOM_BOX
    return 2 * float(scene.model.geom_size[geoms[0]][:2].min()) if box else 0.0


def grasp(scene):
    """Close the gripper on a box that hovers between its fingers, then let gravity pull: how far the box is from the
    hand afterwards, and how far the fingers are apart [m]."""
    model, data, inverse = scene.model, mujoco.MjData(scene.model), InverseKinematics(scene.model, scene.arm)
    inverse.solve(np.array([0.0, 0.0, 0.25]), 200)
    data.qpos[[model.joint(j).qposadr[0] for j in scene.arm.joints]] = inverse.joints
    data.ctrl[[model.actuator(j).id for j in scene.arm.joints]] = inverse.joints
    for finger in ("finger_left", "finger_right"):
        data.joint(finger).qpos = model.joint(finger).range[1]
    mujoco.mj_forward(model, data)
    hand, size = data.site(HAND_SITE), model.geom_size[model.body("object0").geomadr[0]]
    R_world_hand = hand.xmat.reshape(3, 3)
    if size[0] < size[1]:  # the narrow side lies between the fingers
        R_world_hand = np.column_stack([R_world_hand[:, 1], -R_world_hand[:, 0], R_world_hand[:, 2]])
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, R_world_hand.ravel())
    data.qpos[model.jnt_qposadr[model.body("object0").jntadr[0]] :][:7] = [*hand.xpos, *quat]
    gravity = model.opt.gravity.copy()
    for pull, steps in ((0.0, 100), (1.0, 200)):
        model.opt.gravity[:] = pull * gravity
        mujoco.mj_step(model, data, nstep=steps)
    opening_m = float(data.joint("finger_left").qpos[0] + data.joint("finger_right").qpos[0])
    return float(np.linalg.norm(data.body("object0").xpos - hand.xpos)), opening_m


def test_a_body_that_comes_again_is_the_same_arm_in_another_scene():
    first, again = (scenes.sample((3, episode, 0), 64, 1, body_seed=(3, 0, 0)) for episode in range(2))
    assert (first.arm.kinds, first.arm.reach_m) == (again.arm.kinds, again.arm.reach_m)
    assert not np.array_equal(first.camera.position_m, again.camera.position_m)
    assert scenes.sample((3, 0, 0), 64, 1, body_seed=(3, 1, 0)).arm.reach_m != first.arm.reach_m
