"""Episodes of a simulated body: what it saw, measured and was told, row by row."""

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.dataset import ACTION, HAND, OBJECT, STATE, Feature, image_key
from robot_wm.contracts.embodiment import Embodiment
from sims import robots
from sims.arms import HAND_SITE
from sims.behaviours import babble
from sims.motion import CONTROL_S, InverseKinematics, Wander
from sims.render import Renderer, world_to_camera
from sims.scenes import Scene, sample

_CAMERA = "front"
_ATTEMPTS = 20  # scenes drawn until one is sound; about one in fifty is refused
_REACHED_M = 0.02  # inverse kinematics must reach the start this closely
_CLEAR_M, _SOLVE_ITERATIONS = 0.1, 100  # an episode starts above the objects
_LOST_M = 0.15  # a hand this far from its target has hit something it cannot move


@dataclass(frozen=True)
class Episode:
    """Columns (L, ...) and videos (L, Y, X, 3) under LeRobot's feature names, and the task in words."""

    columns: dict[str, NDArray[np.float32]]
    videos: dict[str, NDArray[np.uint8]]
    task: str


def image_feature(height: int, width: int) -> Feature:
    """The feature of a camera's video."""
    return Feature("video", (height, width, 3), ("height", "width", "channels"))


class BodyLog:
    """Calibration logs of one embodiment: rows at the control rate, commands included.

    An episode of T transitions has T·frame_skip + 1 rows, so that its last model step is seen to its end.
    """

    def __init__(self, embodiment: Embodiment, seed: int):
        self.simulation = robots.load(embodiment, seed)
        self._embodiment = embodiment
        self._seed = seed

    @property
    def fps(self) -> float:
        return self._embodiment.control_rate_hz

    @property
    def features(self) -> dict[str, Feature]:
        camera, command = self._embodiment.camera, self.simulation.command
        proprio = self.simulation.proprio_names
        position = Feature("float32", (3,), ("x", "y", "z"))
        return {
            image_key(camera.name): image_feature(camera.height, camera.width),
            STATE: Feature("float32", (len(proprio),), proprio),
            ACTION: Feature("float32", (command.dim,), command.names),
            HAND: position,
            **({OBJECT: position} if self.simulation.has_object else {}),
        }

    def rows(self, transitions: int) -> int:
        """Rows of an episode of that many model steps."""
        return transitions * self._embodiment.frame_skip + 1

    def episode(self, index: int, transitions: int) -> Episode:
        """Babbling from the home pose; the same for the same seed and index, whoever records it."""
        simulation = self.simulation
        rng = np.random.default_rng([self._seed, index])
        simulation.reset(int(rng.integers(2**31)))
        rows = self.rows(transitions)
        frames, states, commands, hands, things = [], [], [], [], []
        for command_U in babble(simulation, rows, rng):
            frames.append(simulation.frame())
            states.append(simulation.proprio())
            hands.append(simulation.to_camera(simulation.end_effector()))
            if simulation.has_object:
                things.append(simulation.to_camera(simulation.object()))
            commands.append(simulation.step(command_U))
        columns = {STATE: states, ACTION: commands, HAND: hands} | ({OBJECT: things} if things else {})
        return Episode(
            columns={key: np.asarray(rows, dtype=np.float32) for key, rows in columns.items()},
            videos={image_key(self._embodiment.camera.name): np.stack(frames)},
            task="babble",
        )


class SceneVideo:
    """Video of procedural arms: a scene per episode, no actions, true positions for evaluation."""

    def __init__(self, seed: int, size: int, step_s: float):
        self._seed, self._size, self._step_s = seed, size, step_s

    @property
    def fps(self) -> float:
        return 1.0 / self._step_s

    @property
    def features(self) -> dict[str, Feature]:
        position = Feature("float32", (3,), ("x", "y", "z"))
        return {image_key(_CAMERA): image_feature(self._size, self._size), HAND: position, OBJECT: position}

    def rows(self, frames: int) -> int:
        """Rows of an episode of that many frames."""
        return frames

    def episode(self, index: int, frames: int) -> Episode:
        """The first sound scene that the seed and the index lead to.

        Raises:
            RuntimeError: none of many draws was sound, which means that the scenes themselves are broken.
        """
        for attempt in range(_ATTEMPTS):
            scene = sample((self._seed, index, attempt), self._size)
            episode = film(scene, np.random.default_rng([self._seed, index, attempt, 1]), frames, self._step_s)
            if episode is not None:
                return episode
        raise RuntimeError(f"no sound scene in {_ATTEMPTS} draws for episode {index} of seed {self._seed}")


def film(scene: Scene, rng: np.random.Generator, frames: int, step_s: float) -> Episode | None:
    """Let the arm of a scene push things about; None when it cannot reach its workspace or gets stuck."""
    model, data = scene.model, mujoco.MjData(scene.model)
    inverse = InverseKinematics(model, scene.arm)
    low_m, high_m = scene.workspace_m
    start_m = rng.uniform(low_m, high_m)
    start_m[2] = max(start_m[2], _CLEAR_M)
    if inverse.solve(start_m, _SOLVE_ITERATIONS) > _REACHED_M:
        return None
    servos = [model.actuator(j).id for j in scene.arm.joints]
    data.qpos[[model.joint(j).qposadr[0] for j in scene.arm.joints]] = inverse.joints
    data.ctrl[servos] = inverse.joints
    mujoco.mj_forward(model, data)
    wander = Wander(scene.workspace_m, start_m, rng)
    hand, thing = data.site(HAND_SITE).xpos, data.body(scene.objects[0]).xpos
    T_cam_world = world_to_camera(model, data, scene.camera)
    ticks = max(round(step_s / CONTROL_S), 1)
    substeps = round(step_s / ticks / model.opt.timestep)
    images, hands, things = [], [], []
    renderer = Renderer(model, scene.camera)
    try:
        for _ in range(frames):
            images.append(renderer.frame(data))
            hands.append(T_cam_world[:3, :3] @ hand + T_cam_world[:3, 3])
            things.append(T_cam_world[:3, :3] @ thing + T_cam_world[:3, 3])
            for _ in range(ticks):
                target_m = wander.advance(thing)
                inverse.solve(target_m, 1)  # warm-started: one is enough to keep up
                data.ctrl[servos] = inverse.joints
                mujoco.mj_step(model, data, nstep=substeps)
            mujoco.mj_kinematics(model, data)
            diverged = data.warning[mujoco.mjtWarning.mjWARN_BADQACC].number > 0  # MuJoCo has then reset the state
            if diverged or np.linalg.norm(hand - target_m) > _LOST_M:
                return None
    finally:
        renderer.close()
    columns = {HAND: np.asarray(hands, dtype=np.float32), OBJECT: np.asarray(things, dtype=np.float32)}
    return Episode(columns, {image_key(_CAMERA): np.stack(images)}, task="push things about")
