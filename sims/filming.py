"""Video of procedural arms: a scene is set in motion, then drawn from every camera."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.dataset import (
    ARM,
    ARM_POINTS,
    FOCAL,
    HAND,
    NEAREST,
    OBJECT,
    Feature,
    depth_key,
    image_key,
    position_key,
)
from robot_wm.contracts.embodiment import Camera
from robot_wm.data.lerobot_files import Episode
from sims.arms import HAND_SITE
from sims.motion import CONTROL_S, InverseKinematics, Roam, Wander
from sims.recording import FOCAL_FEATURE, depth_feature, image_feature
from sims.render import focal, world_to_camera
from sims.scenes import Scene, sample
from sims.sheet import draw
from sims.stability import has_diverged
from sims.tools import GRIPPER
from sims.viewpoints import NAMES

_TASK = "push things about"
_ATTEMPTS = 20  # scenes drawn until one is sound; about one in fifty is refused
_TRIES = 5  # of them with the same body, where bodies come again
_REACHED_M = 0.02  # inverse kinematics must reach the start this closely
_CLEAR_M, _SOLVE_ITERATIONS = 0.1, 100  # an episode starts above the objects
_ROAM_SHARE = 0.4  # of scenes with the whole arm in the picture, in which it moves in joint space
_REGRIP_SHARE = 0.16  # of control periods in which a gripper is told another opening
_TIMESTEP_S = 0.0125  # 2.5 times the scene's: physics is most of what a frame costs
_ASLEEP_M_S = 0.005  # what moves no faster may be put to sleep
_LOST_M = 0.15  # a hand this far from its target has hit something it cannot move

ARM_FEATURE = Feature("float32", (3 * ARM_POINTS,), tuple(f"{axis}{n}" for n in range(ARM_POINTS) for axis in "xyz"))

Depths = Mapping[str, NDArray[np.uint16]]
Draw = Callable[[mujoco.MjModel, Sequence[Camera], NDArray[np.float64], Depths], list[NDArray[np.uint8]]]


@dataclass(frozen=True)
class Take:
    """A scene's motion, not drawn yet.

    Attributes:
        qpos_FQ: joint positions of the whole model at every frame.
        columns: positions of hand, pushed and nearest object [m], (F, 3) each, and of points along the arm, (F, 12), in
            the frame of every camera.
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
        depth: names of the cameras whose depth is recorded too.
        draw: draws a take; by default in this process.
        bodies: how many different arms there are; 0: one per episode.
    """

    tasks = (_TASK,)

    def __init__(
        self,
        seed: int,
        size: int,
        step_s: float,
        num_cameras: int = 1,
        depth: Sequence[str] = (),
        draw: Draw = draw,
        bodies: int = 0,
    ):
        self._bodies = bodies
        self._seed, self._size, self._step_s, self._draw = seed, size, step_s, draw
        self._cameras, self._depth = NAMES[:num_cameras], depth

    @property
    def fps(self) -> float:
        return 1.0 / self._step_s

    @property
    def features(self) -> dict[str, Feature]:
        image = image_feature(self._size, self._size)
        position = Feature("float32", (3,), ("x", "y", "z"))
        found = {image_key(camera): image for camera in self._cameras}
        for camera in self._cameras:
            found |= {position_key(key, camera, self._cameras): position for key in (HAND, OBJECT, NEAREST)}
            found[position_key(ARM, camera, self._cameras)] = ARM_FEATURE
            found[position_key(FOCAL, camera, self._cameras)] = FOCAL_FEATURE
        return found | {depth_key(camera): depth_feature(self._size, self._size) for camera in self._depth}

    def rows(self, frames: int) -> int:
        """Rows of an episode of that many frames."""
        return frames

    def episode(self, index: int, frames: int) -> Episode:
        """The first sound scene that the seed and the index lead to.

        Raises:
            RuntimeError: none of many draws was sound, which means that the scenes themselves are broken.
        """
        for attempt in range(_ATTEMPTS):
            body = (self._seed, index % self._bodies, attempt // _TRIES) if self._bodies else None
            scene = sample((self._seed, index, attempt), self._size, len(self._cameras), body_seed=body)
            take = play(scene, np.random.default_rng([self._seed, index, attempt, 1]), frames, self._step_s)
            if take is not None:
                return film(scene, take, self._depth, self._draw)
        raise RuntimeError(f"no sound scene in {_ATTEMPTS} draws for episode {index} of seed {self._seed}")


def film(scene: Scene, take: Take, depth: Sequence[str] = (), draw: Draw = draw) -> Episode:
    """Draw a take from every camera of its scene, and the depth of those that are named."""
    size = (len(take.qpos_FQ), scene.camera.height, scene.camera.width)
    depths = {name: np.empty(size, np.uint16) for name in depth}
    images = draw(scene.model, scene.cameras, take.qpos_FQ, depths)
    videos = {image_key(camera.name): frames for camera, frames in zip(scene.cameras, images, strict=True)}
    return Episode({**take.columns, **{depth_key(name): found for name, found in depths.items()}}, videos, _TASK)


def play(scene: Scene, rng: np.random.Generator, frames: int, step_s: float) -> Take | None:
    """Let the arm of a scene push things about, or roam; None when it cannot reach its workspace or gets stuck."""
    model, arm = scene.model, scene.arm
    ticks = max(round(step_s / CONTROL_S), 1)
    half_tick_s = step_s / ticks / 2
    substeps = math.ceil(half_tick_s / _TIMESTEP_S - 1e-6)
    model.opt.timestep, model.opt.sleep_tolerance = half_tick_s / substeps, _ASLEEP_M_S
    model.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_SLEEP  # what lies still costs two fifths of a step
    data = mujoco.MjData(model)
    inverse = InverseKinematics(model, arm, data)
    low_m, high_m = scene.workspace_m
    start_m = rng.uniform(low_m, high_m)
    start_m[2] = max(start_m[2], _CLEAR_M)
    if inverse.solve(start_m, _SOLVE_ITERATIONS) > _REACHED_M:
        return None
    roam = Roam(model, arm, data, rng) if scene.whole and rng.random() < _ROAM_SHARE else None
    posed = inverse.joints if roam is None else roam.joints
    data.qpos[[model.joint(j).qposadr[0] for j in arm.joints]] = posed
    first = model.actuator(arm.joints[0]).id
    servos = data.ctrl[first : first + len(arm.joints)]
    servos[:] = posed
    mujoco.mj_forward(model, data)
    wander, watch = Wander(scene.workspace_m, start_m, rng), _Watch(scene, data, frames)
    gripper = model.actuator(GRIPPER).id if arm.tool.opening_m else None
    hand, thing = watch.points
    for frame in range(frames):
        watch.look(frame)
        for _ in range(ticks):
            if gripper is not None and rng.random() < _REGRIP_SHARE:
                data.ctrl[gripper] = rng.random() * arm.tool.opening_m / 2
            before = posed
            if roam is None:
                target_m = wander.advance(thing, 2 * half_tick_s)
                posed = inverse.follow(target_m)
            else:
                posed = roam.advance(2 * half_tick_s)
            for joints in ((before + posed) / 2, posed):
                servos[:] = joints
                mujoco.mj_step(model, data, nstep=substeps)
        mujoco.mj_kinematics(model, data)
        if roam is None and math.dist(hand, target_m) > _LOST_M:
            return None
    return None if has_diverged(data) else Take(watch.qpos_FQ, watch.columns())


class _Watch:
    """What is noted of every frame.

    Attributes:
        points: hand and pushed object in the world, views that follow the simulation.
        qpos_FQ: joint positions of the whole model.
    """

    def __init__(self, scene: Scene, data: mujoco.MjData, frames: int):
        self._scene, self._data = scene, data
        self.points = data.site(HAND_SITE).xpos, data.body(scene.objects[0]).xpos
        self.qpos_FQ = np.empty((frames, scene.model.nq))
        self._joints = [scene.model.joint(name).id for name in scene.arm.joints]
        self._objects = [scene.model.body(name).id for name in scene.objects]
        self._chain_FJ3 = np.empty((frames, len(self._joints) + 1, 3))
        self._objects_FN3 = np.empty((frames, len(self._objects), 3))
        moving = [camera for camera in scene.cameras if camera.position_m is None]
        self._views_F44 = {camera: np.empty((frames, 4, 4)) for camera in moving}

    def look(self, frame: int) -> None:
        """Positions of bodies must be up to date (`mj_kinematics`)."""
        self.qpos_FQ[frame] = self._data.qpos
        self._chain_FJ3[frame, :-1], self._chain_FJ3[frame, -1] = self._data.xanchor[self._joints], self.points[0]
        self._objects_FN3[frame] = self._data.xpos[self._objects]
        if self._views_F44:
            mujoco.mj_camlight(self._scene.model, self._data)
        for camera, views_F44 in self._views_F44.items():
            views_F44[frame] = world_to_camera(self._scene.model, self._data, camera)

    def columns(self) -> dict[str, NDArray[np.float32]]:
        """Positions and focal length as every camera has them."""
        hand_F3, objects_FN3 = self._chain_FJ3[:, -1], self._objects_FN3
        nearest_F = np.linalg.norm(objects_FN3 - hand_F3[:, None], axis=-1).argmin(axis=1)
        world = {
            HAND: hand_F3[:, None],
            OBJECT: objects_FN3[:, :1],
            NEAREST: objects_FN3[np.arange(len(hand_F3)), nearest_F, None],
            ARM: along(self._chain_FJ3, np.arange(ARM_POINTS) / ARM_POINTS),
        }
        model, cameras = self._scene.model, self._scene.cameras
        names, found = [camera.name for camera in cameras], {}
        for camera in cameras:
            still = camera.position_m is not None
            views = world_to_camera(model, self._data, camera)[None] if still else self._views_F44[camera]
            for key, points_FN3 in world.items():
                seen_FN3 = points_FN3 @ views[:, :3, :3].swapaxes(1, 2) + views[:, None, :3, 3]
                found[position_key(key, camera.name, names)] = seen_FN3.reshape(len(seen_FN3), -1).astype(np.float32)
            length = np.full((len(hand_F3), 1), focal(model, camera), np.float32)
            found[position_key(FOCAL, camera.name, names)] = length
        return found


def along(chain_FJ3: NDArray[np.float64], shares_P: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points at shares of the length of a chain of straight pieces, (F, P, 3)."""
    pieces_FK3 = np.diff(chain_FJ3, axis=1)
    ends_FJ = np.pad(np.linalg.norm(pieces_FK3, axis=-1).cumsum(axis=1), ((0, 0), (1, 0)))
    wanted_FP = ends_FJ[:, -1:] * shares_P
    piece_FP = (wanted_FP[..., None] >= ends_FJ[:, None, 1:-1]).sum(axis=-1)
    row = np.arange(len(chain_FJ3))[:, None]
    begin_FP, end_FP = ends_FJ[row, piece_FP], ends_FJ[row, piece_FP + 1]
    share_FP1 = ((wanted_FP - begin_FP) / np.maximum(end_FP - begin_FP, 1e-9))[..., None]
    return chain_FJ3[row, piece_FP] + share_FP1 * pieces_FK3[row, piece_FP]
