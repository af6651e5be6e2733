"""Goals that people can give: a picture, how an episode ended, a state of the body's MuJoCo model, or a pixel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.dataset import STATE
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import dataset_folder
from robot_wm.data import images
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.video import resize
from sims.clicks import object_place
from sims.robots import load
from sims.simulation import Simulation
from sims.tasks import bring_hand

_OUT_OF_REACH_M = 0.02  # the hand is taken to be where it was asked to be


@dataclass(frozen=True)
class GoalConfig:
    """One goal: a picture, an episode, or a state (where the hand or the joints, and where the object should be).

    Attributes:
        image: file of a picture from the camera that the model sees through.
        episode: dataset, or the run that recorded it, whose episode `number` ended as the world should.
        number: of that episode; -1 is the last one.
        hand_m: where the end effector should be, in the world.
        joints: where the commanded joints should be [rad or m], in the order of the commands.
        object_m: where the object should be, in the world.
        object_px: the same as the pixel (x, y) of the camera's picture where its middle should be seen, standing as
            high as it does at home; (0, 0) is the upper left one.
        object_px_of: width and height of the picture that the pixel belongs to; None: as the model gets it.
        tell: give the controller what the body measures of itself there as well, which it otherwise reads from the
            picture; a picture alone has nothing to tell.
    """

    image: str | None = None
    episode: str | None = None
    number: int = -1
    hand_m: tuple[float, float, float] | None = None
    joints: tuple[float, ...] | None = None
    object_m: tuple[float, float, float] | None = None
    object_px: tuple[float, float] | None = None
    object_px_of: tuple[int, int] | None = None
    tell: bool = True

    def __post_init__(self) -> None:
        twice = (self.hand_m and self.joints) or (self.object_m and self.object_px)
        if len(self.kinds) != 1 or twice:
            raise UserError(
                f"a goal has {', '.join(self.kinds) or 'nothing'}" + ", one part of it twice" * bool(twice),
                "Give image, or episode, or a state: hand_m or joints, and object_m or object_px",
            )
        for key, place_m in (("hand_m", self.hand_m), ("object_m", self.object_m)):
            if place_m and not np.isfinite(place_m).all():
                raise UserError(f"a goal has {key} {list(place_m)}", "Give three numbers, in metres")
        if self.object_px_of and (not self.object_px or min(self.object_px_of) < 1):
            raise UserError(
                f"a goal has object_px_of {list(self.object_px_of)}",
                "Give width and height of the picture in which object_px was clicked, or leave it out",
            )

    @property
    def kinds(self) -> list[str]:
        """Which of image, episode and state are given."""
        state = (self.hand_m, self.joints, self.object_m, self.object_px)
        given = {"image": self.image, "episode": self.episode, "state": next((s for s in state if s), None)}
        return [name for name, value in given.items() if value is not None]


@dataclass(frozen=True)
class Goal:
    """What a controller is given.

    Attributes:
        frame_YXC: the picture.
        proprio_P: proprio to reach, NaN where only the picture says; None: nowhere known.
    """

    frame_YXC: NDArray[np.uint8]
    proprio_P: NDArray[np.float32] | None


def read_goals(configs: Sequence[GoalConfig], spec: ControllerSpec, embodiment: Embodiment) -> list[Goal]:
    """The goals, in order, as the controller's camera would show them.

    Raises:
        UserError: a file that is no picture, a dataset without the camera, a state that the body does not have.
    """
    makers: dict[str, Callable[[GoalConfig, ControllerSpec, Embodiment], Goal]] = {
        "image": _of_image,
        "episode": _of_episode,
        "state": _of_state,
    }
    return [makers[config.kinds[0]](config, spec, embodiment) for config in configs]


def picture(path: Path, spec: ControllerSpec) -> NDArray[np.uint8]:
    """An image file as the controller's camera would show it.

    Raises:
        UserError: no such file, or no image.
    """
    found = images.decode(path.read_bytes(), str(path)) if path.is_file() else None
    if found is None:
        raise UserError(f"goal {path} is no picture", "Give a PNG or JPEG from the camera that the model sees through")
    return resize(found, (spec.height, spec.width))


def _of_image(config: GoalConfig, spec: ControllerSpec, _: Embodiment) -> Goal:
    return Goal(picture(Path(config.image or ""), spec), None)


def _of_episode(config: GoalConfig, spec: ControllerSpec, _: Embodiment) -> Goal:
    dataset = LeRobotDataset(dataset_folder(Path(config.episode or "")))
    number = config.number if config.number >= 0 else dataset.num_episodes + config.number
    if not 0 <= number < dataset.num_episodes:
        raise UserError(
            f"goal: {config.episode} has no episode {config.number}", f"It has {dataset.num_episodes}, counted from 0"
        )
    last = np.array([dataset.episode_length(number) - 1])
    (frame,) = dataset.frames_at(number, last, spec.camera, (spec.height, spec.width))
    state: Any = dataset.columns(number).get(STATE)
    known = config.tell and state is not None and state.shape[1:] == (len(spec.proprio),)
    return Goal(frame, _positions(state[-1], spec) if known else None)


def _of_state(config: GoalConfig, spec: ControllerSpec, embodiment: Embodiment) -> Goal:
    with load(embodiment) as simulation:
        simulation.reset(0)
        object_m = _object_m(simulation, config)  # seen before an arm could stand in the way
        if config.hand_m:
            _bring_hand(simulation, np.array(config.hand_m))
        if config.joints:
            _pose(simulation, config.joints)
        if object_m is not None:
            simulation.place_object(object_m)
        # Where an arm is pushed aside by the object that the goal shows, the state is not the one asked for.
        tell = config.tell and (config.hand_m is not None or config.joints is not None)
        return Goal(simulation.frame(), _positions(simulation.proprio(), spec) if tell else None)


def _bring_hand(simulation: Simulation, place_m: NDArray[np.float64]) -> None:
    bring_hand(simulation, place_m)
    nearest_m = simulation.end_effector()
    if (left_m := float(np.linalg.norm(nearest_m - place_m))) > _OUT_OF_REACH_M:
        raise UserError(
            f"goal: the hand comes no nearer to hand_m {place_m.tolist()} than {left_m:.3f} m",
            f"Give a place within reach; this is as near as it gets: {[round(float(v), 3) for v in nearest_m]}",
        )


def _object_m(simulation: Simulation, config: GoalConfig) -> NDArray[np.float64] | None:
    """Where the object should be in the world, (3,); None where the goal does not say."""
    if config.object_px:
        return object_place(simulation, config.object_px, config.object_px_of)
    if config.object_m and not simulation.has_object:
        raise UserError(f"goal: {simulation.embodiment.name} has no object", "Leave object_m out")
    return np.array(config.object_m) if config.object_m else None


def _pose(simulation: Simulation, joints: tuple[float, ...]) -> None:
    low, high = simulation.joint_limits()
    if len(joints) != len(low) or not (low - 1e-6 <= joints).all() or not (joints <= high + 1e-6).all():
        ranges = ", ".join(f"{a:.3g} to {b:.3g}" for a, b in zip(low, high, strict=True))
        raise UserError(f"goal: joints are {list(joints)}", f"Give {len(low)}, within {ranges}")
    simulation.pose(np.array(joints))


def _positions(proprio_P: NDArray[np.floating[Any]], spec: ControllerSpec) -> NDArray[np.float32]:
    """Positions as measured; velocities are left open."""
    moving_P = np.array([name.endswith("velocity") for name in spec.proprio])
    return np.where(moving_P, np.nan, proprio_P).astype(np.float32)
