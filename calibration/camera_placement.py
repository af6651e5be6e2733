"""Where a body's camera is and how it sees, from a log in which the hand and a printed board move before it."""

import io
from dataclasses import dataclass, field, replace
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calibration import camera, mjcf
from calibration.board import Board, View, find
from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.dataset import STATE
from robot_wm.contracts.embodiment import Camera, Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import dataset_folder, open_run
from robot_wm.data.lerobot import LeRobotDataset
from sims import models, robots
from sims.render import Renderer
from sims.simulation import Simulation

MODEL, REPORT = "camera.xml", "camera.json"
BEFORE, OVERLAY = "overlay_before.png", "overlay.png"
_GOOD_PX = 0.5


@dataclass(frozen=True)
class CameraConfig:
    """Configuration of `robot-wm calibrate camera`.

    Attributes:
        embodiment: the body; its end effector holds the board, or the camera.
        data: a log with pictures: a LeRobot dataset, or the run that recorded it.
        on_hand: the camera is on the end effector and the board lies still; otherwise the other way round.
        pictures: most pictures looked at, spread over the log.
        board: as printed.
        bias: by how much encoders read too much [rad or m], by joint, as `identify` found it.
    """

    embodiment: Embodiment
    data: str
    on_hand: bool = False
    pictures: int = 60
    board: Board = field(default_factory=Board)
    bias: dict[str, float] = field(default_factory=dict)
    name: str = "camera"
    out: str = "runs"
    seed: int = 0


def calibrate_camera(config: CameraConfig) -> Path:
    """Find the board, fit the lens, place the camera, write an MJCF with it; returns the run folder.

    Raises:
        UserError: too few pictures of the board, poses that cannot tell, or an error of more than half a pixel.
    """
    inputs = {"data": Path(config.data)} | robots.model_inputs(config.embodiment)
    with open_run(Path(config.out), "camera", config.name, config, inputs) as run:
        if run.complete:
            console.say(f"camera: already done with the same inputs: {run.path}")
            return run.path
        simulation = robots.load(config.embodiment)
        views, poses, frames, states = _look(config, simulation)
        height, width = frames[0].shape[:2]
        lens = camera.intrinsics(views, (width, height))
        placed = camera.place(views, poses, lens, config.on_hand)
        if placed.error_px > _GOOD_PX:
            raise UserError(
                f"the camera is off by {placed.error_px:.2f} px with the board at the hand's poses",
                "Check that the board is fixed, that its squares were measured, and identify the body first",
            )
        spec = models.read(config.embodiment.mjcf, config.embodiment.interface)
        body, T_body_mount = _mount(simulation, config)
        camera.set_camera(spec, config.embodiment.camera.name, body, T_body_mount @ placed.T_mount_cam, placed.lens)
        mjcf.find_meshes(spec)
        written = mjcf.write(run.path / MODEL, spec)
        _hand(simulation, states[0], config.bias)
        straight = camera.undistort(frames[0], placed.lens)
        _save_overlay(run.path / BEFORE, simulation.model, simulation.data.qpos, config.embodiment.camera, straight)
        seen = replace(config.embodiment.camera, position_m=None, target_m=None)
        _save_overlay(run.path / OVERLAY, spec.compile(), simulation.data.qpos, seen, straight)
        found = camera.describe(lens, placed) | {"views": len(views)}
        files.write_json(run.path / REPORT, found)
        console.say(
            f"camera: {len(views)} views, {placed.error_px:.2f} px, place within {1e3 * placed.interval_m:.2f} mm and "
            f"{np.rad2deg(placed.interval_rad):.3f} degrees (95 %)"
        )
        metrics = {"error_px": placed.error_px, "interval_m": placed.interval_m, "views": len(views)}
        run.finish([*written, REPORT, BEFORE, OVERLAY], metrics, embodiment_sha256=config.embodiment.digest())
        return run.path


def _look(
    config: CameraConfig, simulation: Simulation
) -> tuple[list[View], list[NDArray], list[NDArray[np.uint8]], list[NDArray]]:
    """The board's views, the hand's poses, pictures and joint positions, where the board is seen."""
    source = LeRobotDataset(dataset_folder(Path(config.data)))
    total = sum(source.episode_length(e) for e in range(source.num_episodes))
    every = max(1, total // config.pictures)
    views, poses, frames, states = [], [], [], []
    for episode in console.track(range(source.num_episodes), "looking for the board"):
        pictures = source.frames(episode, config.embodiment.camera.name, every=every)
        measured = source.columns(episode)[STATE][::every].astype(np.float64)
        for frame, state in zip(pictures, measured, strict=True):
            view = find(config.board, frame)
            if view is not None:
                views.append(view)
                poses.append(_hand(simulation, state, config.bias))
                frames.append(frame)
                states.append(state)
    if not views:
        raise UserError(f"the board is in none of {total // every} pictures", "Check its size, light and sharpness")
    return views, poses, frames, states


def _hand(simulation: Simulation, state: NDArray, bias: dict[str, float]) -> NDArray:
    """`T_world_hand` (4, 4) at measured joint positions."""
    model, data, name = simulation.model, simulation.data, simulation.embodiment.end_effector
    joints = [n.removesuffix("_position") for n in simulation.proprio_names if n.endswith("_position")]
    for joint, value in zip(joints, state, strict=False):
        data.qpos[model.joint(joint).qposadr[0]] = value - bias.get(joint, 0.0)
    mujoco.mj_kinematics(model, data)
    site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, name)
    T = np.eye(4)
    if site >= 0:
        T[:3, :3], T[:3, 3] = data.site_xmat[site].reshape(3, 3), data.site_xpos[site]
    else:
        T[:3, :3], T[:3, 3] = data.body(name).xmat.reshape(3, 3), data.body(name).xpos
    return T


def _mount(simulation: Simulation, config: CameraConfig) -> tuple[str, NDArray]:
    """The body that carries the camera, and the mount's frame in it."""
    if not config.on_hand:
        return "world", np.eye(4)
    model, name = simulation.model, config.embodiment.end_effector
    site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, name)
    if site < 0:
        return name, np.eye(4)
    T, flat = np.eye(4), np.empty(9)
    mujoco.mju_quat2Mat(flat, model.site_quat[site])
    T[:3, :3], T[:3, 3] = flat.reshape(3, 3), model.site_pos[site]
    return model.body(int(model.site_bodyid[site])).name, T


def _save_overlay(
    path: Path, model: mujoco.MjModel, qpos: NDArray, seen: Camera, straight_YXC: NDArray[np.uint8]
) -> None:
    """A picture without its lens's distortion, and the model's render in the same pose over it."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_forward(model, data)
    height, width = straight_YXC.shape[:2]
    renderer = Renderer(model, replace(seen, height=height, width=width))
    picture = camera.overlay(straight_YXC, renderer.frame(data))
    renderer.close()
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    files.write_atomic(path, stream.getvalue())
