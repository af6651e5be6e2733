"""Video of procedural arms: a scene is set in motion, then drawn from every camera."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.dataset import FOCAL, HAND, OBJECT, Feature, image_key, position_key
from robot_wm.contracts.embodiment import Camera
from robot_wm.data.lerobot_files import Episode
from sims.arms import HAND_SITE
from sims.motion import CONTROL_S, InverseKinematics, Wander
from sims.recording import FOCAL_FEATURE, image_feature
from sims.render import focal, world_to_camera
from sims.scenes import Scene, sample
from sims.sheet import draw
from sims.stability import has_diverged
from sims.tools import GRIPPER
from sims.viewpoints import NAMES

_TASK = "push things about"
_ATTEMPTS = 20  # scenes drawn until one is sound; about one in fifty is refused
_REACHED_M = 0.02  # inverse kinematics must reach the start this closely
_CLEAR_M, _SOLVE_ITERATIONS = 0.1, 100  # an episode starts above the objects
_REGRIP_SHARE = 0.08  # of control periods in which a gripper is told another opening
_TIMESTEP_S = 0.01  # twice the scene's: contacts sink in no deeper, and physics is most of what a frame costs
_LOST_M = 0.15  # a hand this far from its target has hit something it cannot move

Draw = Callable[[mujoco.MjModel, Sequence[Camera], NDArray[np.float64]], list[NDArray[np.uint8]]]


@dataclass(frozen=True)
class Take:
    """A scene's motion, not drawn yet.

    Attributes:
        qpos_FQ: joint positions of the whole model at every frame.
        columns: positions of hand and object [m], (F, 3) each, in the frame of every camera.
    """

    qpos_FQ: NDArray[np.float64]
    columns: dict[str, NDArray[np.float32]]


class SceneVideo:
    """Video of procedural arms: a scene per episode, no actions, true positions for evaluation.

    Args:
        seed: every episode follows from it and from its number.
        size: height and width [px].
        step_s: time between two frames [s].
        num_cameras: of every scene, 1 to 3; all see the same motion.
        draw: draws a take; by default in this process.
    """

    tasks = (_TASK,)

    def __init__(self, seed: int, size: int, step_s: float, num_cameras: int = 1, draw: Draw = draw):
        self._seed, self._size, self._step_s, self._draw = seed, size, step_s, draw
        self._cameras = NAMES[:num_cameras]

    @property
    def fps(self) -> float:
        return 1.0 / self._step_s

    @property
    def features(self) -> dict[str, Feature]:
        image = image_feature(self._size, self._size)
        position = Feature("float32", (3,), ("x", "y", "z"))
        found = {image_key(camera): image for camera in self._cameras}
        for camera in self._cameras:
            found |= {position_key(key, camera, self._cameras): position for key in (HAND, OBJECT)}
            found[position_key(FOCAL, camera, self._cameras)] = FOCAL_FEATURE
        return found

    def rows(self, frames: int) -> int:
        """Rows of an episode of that many frames."""
        return frames

    def episode(self, index: int, frames: int) -> Episode:
        """The first sound scene that the seed and the index lead to.

        Raises:
            RuntimeError: none of many draws was sound, which means that the scenes themselves are broken.
        """
        for attempt in range(_ATTEMPTS):
            scene = sample((self._seed, index, attempt), self._size, len(self._cameras))
            take = play(scene, np.random.default_rng([self._seed, index, attempt, 1]), frames, self._step_s)
            if take is not None:
                return film(scene, take, self._draw)
        raise RuntimeError(f"no sound scene in {_ATTEMPTS} draws for episode {index} of seed {self._seed}")


def film(scene: Scene, take: Take, draw: Draw = draw) -> Episode:
    """Draw a take from every camera of its scene."""
    images = draw(scene.model, scene.cameras, take.qpos_FQ)
    videos = {image_key(camera.name): frames for camera, frames in zip(scene.cameras, images, strict=True)}
    return Episode(take.columns, videos, _TASK)


def play(scene: Scene, rng: np.random.Generator, frames: int, step_s: float) -> Take | None:
    """Let the arm of a scene push things about; None when it cannot reach its workspace or gets stuck."""
    model, data = scene.model, mujoco.MjData(scene.model)
    model.opt.timestep = _TIMESTEP_S
    inverse = InverseKinematics(model, scene.arm)
    low_m, high_m = scene.workspace_m
    start_m = rng.uniform(low_m, high_m)
    start_m[2] = max(start_m[2], _CLEAR_M)
    if inverse.solve(start_m, _SOLVE_ITERATIONS) > _REACHED_M:
        return None
    servos = np.array([model.actuator(j).id for j in scene.arm.joints])
    data.qpos[[model.joint(j).qposadr[0] for j in scene.arm.joints]] = inverse.joints
    control = data.ctrl
    control[servos] = inverse.joints
    mujoco.mj_forward(model, data)
    wander = Wander(scene.workspace_m, start_m, rng)
    watch = _Watch(scene, data, frames)
    hand, thing = data.site(HAND_SITE).xpos, data.body(scene.objects[0]).xpos
    ticks = max(round(step_s / CONTROL_S), 1)
    substeps = round(step_s / ticks / model.opt.timestep)
    for frame in range(frames):
        watch.look(frame)
        for _ in range(ticks):
            if scene.arm.tool.opening_m and rng.random() < _REGRIP_SHARE:
                control[model.actuator(GRIPPER).id] = rng.uniform(0.0, scene.arm.tool.opening_m / 2)
            target_m = wander.advance(thing)
            inverse.solve(target_m, 1)  # warm-started: one is enough to keep up
            control[servos] = inverse.joints
            mujoco.mj_step(model, data, nstep=substeps)
        mujoco.mj_kinematics(model, data)
        if has_diverged(data) or np.linalg.norm(hand - target_m) > _LOST_M:
            return None
    return Take(watch.qpos_FQ, watch.columns)


class _Watch:
    """What is noted of every frame."""

    def __init__(self, scene: Scene, data: mujoco.MjData, frames: int):
        self._model, self._data = scene.model, data
        self._moving = any(camera.position_m is None for camera in scene.cameras)
        points = {HAND: data.site(HAND_SITE).xpos, OBJECT: data.body(scene.objects[0]).xpos}
        names = [camera.name for camera in scene.cameras]
        self._noted = [
            (camera, point, np.empty((frames, 3), np.float32)) for camera in scene.cameras for point in points.values()
        ]
        keys = [position_key(key, name, names) for name in names for key in points]
        self.columns = dict(zip(keys, (column for *_, column in self._noted), strict=True))
        for camera in scene.cameras:
            length = np.full((frames, 1), focal(scene.model, camera), np.float32)
            self.columns[position_key(FOCAL, camera.name, names)] = length
        self.qpos_FQ = np.empty((frames, scene.model.nq))

    def look(self, frame: int) -> None:
        """Positions of bodies must be up to date (`mj_kinematics`)."""
        self.qpos_FQ[frame] = self._data.qpos
        if self._moving:
            mujoco.mj_camlight(self._model, self._data)
        for camera, point, column in self._noted:
            T_cam_world = world_to_camera(self._model, self._data, camera)
            column[frame] = T_cam_world[:3, :3] @ point + T_cam_world[:3, 3]
