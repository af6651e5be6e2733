"""Motions drawn on sheets: what was drawn before leaves no trace, and the pictures are those of a renderer."""

import mujoco
import numpy as np
import pytest

from sims import robots, scenes, sheet
from sims.filming import play
from sims.render import Renderer
from tests.small_bodies import fetch

SEEDS = range(6)


@pytest.fixture(scope="module")
def takes():
    found = []
    for seed in SEEDS:
        scene = scenes.sample(seed, 32, 3)
        found.append((scene, play(scene, np.random.default_rng(seed), 3, 0.2)))
    return [(scene, take) for scene, take in found if take is not None]


def drawn(scene, take):
    return [frames.tobytes() for frames in sheet.draw(scene.model, scene.cameras, take.qpos_FQ)]


def test_scenes_that_take_turns_in_one_upload_look_as_with_their_own(takes):
    alone = []
    for scene, take in takes:
        sheet.forget()
        alone.append(drawn(scene, take))
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(takes)), 3))
    for index in order:
        assert drawn(*takes[index]) == alone[index]


def test_a_sheet_shows_what_a_renderer_shows(takes):
    for scene, take in takes:
        data = mujoco.MjData(scene.model)
        for camera, frames in zip(scene.cameras, sheet.draw(scene.model, scene.cameras, take.qpos_FQ), strict=True):
            renderer = Renderer(scene.model, camera)
            for qpos, frame in zip(take.qpos_FQ, frames, strict=True):
                data.qpos[:] = qpos
                mujoco.mj_forward(scene.model, data)
                differs = np.abs(renderer.frame(data).astype(int) - frame).max(-1) > 2
                assert differs.mean() < 0.005  # an edge may fall on the other side of a sample
            renderer.close()


def test_depth_on_a_sheet_is_that_of_a_renderer_and_changes_no_picture(takes):
    for scene, take in takes[:3]:
        data, cameras = mujoco.MjData(scene.model), scene.cameras
        depths = {c.name: np.empty((len(take.qpos_FQ), c.height, c.width), np.uint16) for c in cameras[1:]}
        images = sheet.draw(scene.model, cameras, take.qpos_FQ, depths)
        assert [frames.tobytes() for frames in images] == drawn(scene, take)
        for camera in cameras[1:]:
            renderer = Renderer(scene.model, camera)
            for qpos, depth_YX in zip(take.qpos_FQ, depths[camera.name], strict=True):
                data.qpos[:] = qpos
                mujoco.mj_forward(scene.model, data)
                differs = np.abs(renderer.depth_mm(data).astype(int) - depth_YX) > 2
                assert differs.mean() < 0.01
            renderer.close()


def test_bodies_with_meshes_are_drawn_too(takes):
    before = drawn(*takes[0])
    with robots.load(fetch()) as body:
        qpos_FQ = np.stack([body.data.qpos] * 2)
        frames = sheet.draw(body.model, (body.camera,), qpos_FQ)[0]
        assert np.abs(frames[1].astype(int) - body.frame()).mean() < 0.1
    assert drawn(*takes[0]) == before
