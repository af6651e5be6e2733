"""Coloured things that swing about before the camera and that no task is about: they are seen, and touch nothing."""

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.embodiment import Camera
from sims.render import focal, world_to_camera

_SHAPES = (mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER)
_NEAR, _FAR = 0.8, 1.25  # places, in distances of what the camera looks at
_NEAREST_M = 0.1
_SIZE, _SWING, _PERIOD_S = (0.04, 0.1), 0.15, (1.0, 4.0)  # shares of half the picture's height there


@dataclass(frozen=True)
class Distractor:
    """One thing; it swings by `swing_m` to both sides of `place_m`, once in `period_s`."""

    shape: mujoco.mjtGeom
    size_m: float
    rgba: tuple[float, float, float, float]
    place_m: NDArray[np.float64]
    swing_m: NDArray[np.float64]
    period_s: float


def scatter(model: mujoco.MjModel, camera: Camera, number: int, seed: int) -> tuple[Distractor, ...]:
    """So many things in the picture, about as far away as what the camera looks at; with more, the first stay the same.

    They stand in the world: where the body is does not matter.
    """
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    T_cam_world, found = world_to_camera(model, data, camera), list[Distractor]()
    target_m = np.asarray(model.stat.center if camera.target_m is None else camera.target_m)
    away_m = max(float((T_cam_world[:3, :3] @ target_m + T_cam_world[:3, 3])[2]), _NEAREST_M)
    half_m = away_m / focal(model, camera)  # of the picture's height, there
    for index in range(number):
        rng = np.random.default_rng([seed, 13, index])
        depth_m = away_m * rng.uniform(_NEAR, _FAR)
        across = rng.uniform(-0.85, 0.85, 2) * depth_m / focal(model, camera) * [camera.width / camera.height, 1]
        place_m = T_cam_world[:3, :3].T @ (np.array([*across, depth_m]) - T_cam_world[:3, 3])
        swing_m = rng.uniform(-_SWING, _SWING, 3) * half_m
        red, green, blue = rng.uniform(0, 1, 3).tolist()
        shape, size_m = _SHAPES[int(rng.integers(len(_SHAPES)))], half_m * rng.uniform(*_SIZE)
        found.append(Distractor(shape, size_m, (red, green, blue, 1), place_m, swing_m, rng.uniform(*_PERIOD_S)))
    return tuple(found)


def add(scene: mujoco.MjvScene, distractors: tuple[Distractor, ...], time_s: float) -> None:
    """Put them into what is about to be drawn."""
    for thing in distractors:
        at_m = thing.place_m + thing.swing_m * np.sin(2 * np.pi * time_s / thing.period_s)
        size, turn = np.full(3, thing.size_m), np.eye(3).ravel()
        mujoco.mjv_initGeom(scene.geoms[scene.ngeom], thing.shape, size, at_m, turn, np.array(thing.rgba, np.float32))
        scene.ngeom += 1
