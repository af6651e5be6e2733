"""A twin whose hand holds the printed board, before a camera that is not where its yaml says: what `camera` is fed."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from calibration.board import Board
from robot_wm.contracts.dataset import ACTION, STATE, Feature, image_key
from robot_wm.contracts.embodiment import Camera, Embodiment, Mjcf, Safety
from robot_wm.data.lerobot_writer import LeRobotWriter
from sims import robots
from sims.truth import Truth
from sims.twin import Twin

BOARD = Board()
TRUTH = Truth(camera_shift_m=(0.03, -0.02, 0.025), camera_turn_rad=(0.03, -0.04, 0.02), noise=4.0)
BLUR_PX = 0.8
_PER_SQUARE = 64
_WRIST = """
<mujoco model="wrist"><compiler angle="radian"/>{asset}<option timestep="0.005" integrator="implicitfast"/>
<visual><headlight ambient="0.4 0.4 0.4" diffuse="0.5 0.5 0.5" specular="0 0 0"/></visual><worldbody>
  <geom type="plane" size="2 2 0.1" rgba="0.5 0.5 0.45 1"/>
  <body name="wrist" pos="0 0 0.5">
    <joint name="across" type="slide" axis="1 0 0" range="-0.15 0.15" armature="0.5" damping="4"/>
    <joint name="away" type="slide" axis="0 1 0" range="-0.15 0.15" armature="0.5" damping="4"/>
    <joint name="yaw" axis="0 0 1" range="-1 1" armature="0.02" damping="0.4"/>
    <joint name="pitch" axis="1 0 0" range="-1 1" armature="0.02" damping="0.4"/>
    <joint name="roll" axis="0 1 0" range="-1 1" armature="0.02" damping="0.4"/>
    <geom type="capsule" fromto="0 0.15 0 0 0.02 0" size="0.03" rgba="0.8 0.3 0.1 1" mass="0.4"/>
    <geom type="box" pos="0.11 0 0.02" size="0.05 0.02 0.02" rgba="0.1 0.3 0.8 1" mass="0.1"/>
    {board}<site name="grip" pos="0.02 0.01 0.03"/>
  </body></worldbody>
  <actuator>
    <position name="across" joint="across" kp="200" kv="20" ctrlrange="-0.15 0.15"/>
    <position name="away" joint="away" kp="200" kv="20" ctrlrange="-0.15 0.15"/>
    <position name="yaw" joint="yaw" kp="20" kv="1.5" ctrlrange="-1 1"/>
    <position name="pitch" joint="pitch" kp="20" kv="1.5" ctrlrange="-1 1"/>
    <position name="roll" joint="roll" kp="20" kv="1.5" ctrlrange="-1 1"/>
  </actuator></mujoco>
"""


_PRINT = """<geom name="board" type="box" size="{0} {1} 0.001" pos="0.01 -0.05 0.01" quat="0.7071 0.7071 0 0"
      material="board" mass="1e-6" contype="0" conaffinity="0"/>"""
_ASSET = """<asset><texture name="board" type="2d" file="board.png"/>
  <material name="board" texture="board" specular="0" shininess="0"/></asset>"""


def wrist(folder: Path, size: tuple[int, int] = (480, 640)) -> Embodiment:
    """A hand on two rails and three axes, 0.6 m before its camera."""
    path = folder / "wrist.xml"
    path.write_text(_WRIST.format(asset="", board=""), encoding="utf-8")
    camera = Camera("front", *size, position_m=(0.0, -0.65, 0.55), target_m=(0.0, 0.0, 0.5))
    return Embodiment("wrist", Mjcf(str(path)), "joint_position", "grip", camera, 20.0, 4, Safety(max_step=0.1))


def holding(body: Embodiment, folder: Path) -> Embodiment:
    """The same hand with the board glued to it, as the real one has it and its MJCF does not."""
    Image.fromarray(BOARD.picture(_PER_SQUARE)).convert("RGB").save(folder / "board.png")
    wide, high = BOARD.size_m
    path = folder / "holding.xml"
    path.write_text(_WRIST.format(asset=_ASSET, board=_PRINT.format(wide / 2, high / 2)), encoding="utf-8")
    return replace(body, mjcf=Mjcf(str(path)))


def record_poses(path: Path, body: Embodiment, count: int, seed: int = 0) -> Path:
    """A dataset of the hand at rest in `count` poses, a picture of each, slightly out of focus."""
    rng = np.random.default_rng(seed)
    with robots.load(body) as simulation:
        twin = Twin(simulation, truth=TRUTH)
        names, command, camera = simulation.proprio_names, simulation.command, body.camera
        features = {
            image_key(camera.name): Feature("video", (camera.height, camera.width, 3), ("height", "width", "channels")),
            STATE: Feature("float32", (len(names),), names),
            ACTION: Feature("float32", (command.dim,), command.names),
        }
        frames, states, actions = [], [], []
        for _ in range(count):
            target_U = 0.8 * rng.uniform(command.low, command.high)
            for _ in range(60):
                twin.write(target_U)
            seen = twin.read()
            frames.append(cv2.GaussianBlur(seen.frame_YXC, (0, 0), BLUR_PX))
            states.append(seen.proprio_P)
            actions.append(target_U)
        columns = {STATE: np.asarray(states, np.float32), ACTION: np.asarray(actions, np.float32)}
        with LeRobotWriter(path, body.control_rate_hz, features) as writer:
            writer.add_episode(columns, {image_key(camera.name): np.stack(frames)}, "poses")
        twin.close()
    return path
