"""Where things are in a picture: points along an arm, the object nearest to the hand, and what depth counts from."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_wm.contracts.dataset import ARM, ARM_POINTS, FOCAL, HAND, NEAREST, OBJECT
from robot_wm.data.loader import ClipSet
from robot_wm.data.pack import Pack
from robot_wm.data.scales import STANDARD_M, positions
from sims import scenes, viewpoints
from sims.filming import along, play
from sims.motion import CONTROL_S, Roam
from tests.property.test_loader import numbered

LENGTH = 3


@given(st.integers(0, 2**31), st.integers(2, 8))
def test_points_along_a_chain_are_at_their_share_of_its_length(seed, joints):
    rng = np.random.default_rng(seed)
    chain_FJ3, shares = rng.normal(size=(4, joints, 3)), np.sort(rng.random(5))
    ends = np.pad(np.linalg.norm(np.diff(chain_FJ3, axis=1), axis=-1).cumsum(axis=1), ((0, 0), (1, 0)))
    for chain, end, found in zip(chain_FJ3, ends, along(chain_FJ3, shares), strict=True):
        for axis in range(3):
            np.testing.assert_allclose(found[:, axis], np.interp(shares * end[-1], end, chain[:, axis]), atol=1e-9)


def placed(shoulder_x: float, arm: bool = True) -> Pack:
    """Two episodes two metres away at a focal length of two half heights; the shoulder is 0.3 m nearer."""
    pack = numbered([LENGTH, LENGTH + 1])
    num = len(pack.frames_FYXC)
    hand = np.column_stack([np.linspace(-0.1, 0.1, num), np.full(num, 0.2), np.full(num, 2.0)])
    shoulder = np.tile([shoulder_x, 0.1, 1.7], (num, 1))
    columns = {HAND: hand, NEAREST: hand + np.array([0.1, 0.0, 0.0]), FOCAL: np.full((num, 1), 2.0)}
    points = np.column_stack([shoulder] * ARM_POINTS)
    columns |= {ARM: points} if arm else {}
    return replace(pack, columns={key: value.astype(np.float32) for key, value in columns.items()})


def test_depth_counts_from_the_shoulder_and_else_from_where_the_hand_is_on_average():
    scale = STANDARD_M * 2.0 / 2.0
    np.testing.assert_allclose(positions(placed(0.5), HAND)[:, 2], 0.3 * scale, rtol=1e-5)
    np.testing.assert_allclose(positions(placed(0.5), HAND)[:, 1], 0.2 * scale, rtol=1e-5)
    np.testing.assert_allclose(positions(placed(0.5, arm=False), HAND)[:, 2], 0.0, atol=1e-6)
    assert positions(placed(0.5), ARM).shape == (7, 3 * ARM_POINTS)
    np.testing.assert_allclose(positions(placed(0.5), ARM)[:, 2], 0.0, atol=1e-6)


def test_what_a_picture_cannot_show_is_unknown():
    assert np.isnan(positions(placed(0.9), ARM)).all()  # 0.9 m aside at 1.7 m: outside
    near = placed(0.5)
    hand = near.columns[HAND] * np.float32([1, 1, 0.02])  # a hand right beside the camera blows the scene up
    assert np.isnan(positions(replace(near, columns=near.columns | {HAND: hand}), NEAREST)).all()


def test_depth_is_not_asked_for_where_the_shoulder_is_hidden_and_motion_still_is():
    for pack, hidden in ((placed(0.5), False), (placed(0.9), True), (placed(0.9, arm=False), False)):
        clips = ClipSet([pack], LENGTH, "cpu", [np.ones(len(pack.frames_FYXC), np.bool_)])
        batch = clips.batch(4, torch.Generator().manual_seed(0))
        for places in (batch.hand_BT3, batch.object_BT3):
            assert not places[..., :2].isnan().any()
            assert places[..., 2].isnan().all() == hidden
        assert not batch.displacement_BT3.isnan().any()
        assert batch.arm_BTP3.shape == (4, LENGTH, ARM_POINTS, 3)


def test_the_nearest_object_is_the_nearest():
    several = next(s for s in range(40) if len(scenes.sample(s, 16).objects) == 3)
    take = play(scenes.sample(several, 16), np.random.default_rng(0), 8, 0.2)
    assert take is not None
    distance = {key: np.linalg.norm(take.columns[key] - take.columns[HAND], axis=1) for key in (NEAREST, OBJECT)}
    assert (distance[NEAREST] <= distance[OBJECT] + 1e-6).all()


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_a_roaming_arm_stays_in_its_ranges_clear_of_the_table_and_never_jumps(seed):
    scene = scenes.sample(seed, 16)
    model, data = scene.model, mujoco.MjData(scene.model)
    roam = Roam(model, scene.arm, data, np.random.default_rng(seed))
    poses = [roam.joints] + [roam.advance(CONTROL_S) for _ in range(40)]
    low, high = np.array([model.joint(name).range for name in scene.arm.joints]).T
    assert (np.array(poses) >= low).all()
    assert (np.array(poses) <= high).all()
    assert np.abs(np.diff(poses, axis=0)).max() < 0.45  # rad: twice the top speed, at the middle of a leg
    assert np.ptp(poses, axis=0).max() > 0.2
    assert data.qpos.tobytes() == mujoco.MjData(model).qpos.tobytes()


def test_most_first_cameras_show_the_whole_arm():
    found = [scenes.sample(seed, 16) for seed in range(40)]
    assert 0.4 < np.mean([scene.whole for scene in found]) < 0.8
    shown = []
    for scene in found:
        data = mujoco.MjData(scene.model)
        mujoco.mj_forward(scene.model, data)
        shoulder = data.body("base").xpos[None]
        shown.append((scene.whole, bool(viewpoints.in_view(scene.model, data, scene.camera, shoulder)[0])))
    assert np.mean([seen for whole, seen in shown if whole]) > 0.8
    assert np.mean([seen for whole, seen in shown if not whole]) < 0.3


@pytest.mark.parametrize("key", [HAND, NEAREST, ARM])
def test_unknown_columns_are_unknown_positions(key):
    pack = replace(placed(0.5), columns={})
    assert np.isnan(positions(pack, key)).all()
    assert positions(pack, key).shape == (7, 3 * (ARM_POINTS if key == ARM else 1))
