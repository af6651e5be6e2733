"""Practice pictures: the body's own model in poses that its log never took, to learn reading it without a label."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.body_model import BodyModel
from robot_wm import console
from robot_wm.contracts.errors import UserError
from robot_wm.data.video import resize
from robot_wm.models.body import Body
from sims.behaviours import babble
from sims.robots import load
from sims.simulation import Simulation

_BEYOND = 0.1  # of each joint's span in the log, on both sides: goals lie a little outside it
_STREAM = 11
_WIDE = 0.25  # of the poses are drawn from the joints' whole ranges
_SINKS_M, _TRIES = 0.005, 10  # a pose in which two parts overlap by more is drawn anew
_ASIDE_M = 0.12  # how far a movable object is put from where it begins
_DRIVE_S, _EVERY = 2.4, 2  # a hand on rails, whose joints nobody commands, is driven about and seen every other tick
_EXPOSURE, _TINT, _NOISE = 0.15, 0.05, 3.0  # of pictures while reading is learned; the last one of 255


@dataclass(frozen=True)
class Stills:
    """Pictures of the body at rest or in passing, and where it was: what a goal is.

    Attributes:
        frames: (N, Y, X, 3) uint8, at the encoder's size.
        positions: (N, Q), the entries of proprio that measure a position, in their own units.
    """

    frames: Tensor
    positions: Tensor


def practise(body: BodyModel, log_FQ: NDArray[np.floating], count: int, size: int, seed: int) -> Stills | None:
    """Draw `count` pictures of the body's MuJoCo model as its camera would see it; None where that is impossible.

    Joints are put near where the log (F, Q) has them, a quarter of the poses anywhere in their ranges; what encoders
    read too much is added. A hand on rails is driven about instead.
    """
    if not count:
        return None
    rng = np.random.default_rng([seed, _STREAM])
    try:
        with load(body.embodiment) as simulation:
            take = _driven if simulation.command.interface == "end_effector_velocity" else _posed
            frames, positions = take(simulation, log_FQ, count, size, rng)
            joints = [name.removesuffix("_position") for name in simulation.proprio_names[: log_FQ.shape[1]]]
    except UserError as error:
        console.say(f"calibrate: reading is learned from the log's pictures alone: {error}")
        return None
    read_NQ = np.asarray(positions) + [body.bias.get(name, 0.0) for name in joints]
    return Stills(torch.from_numpy(np.stack(frames)), torch.from_numpy(read_NQ.astype(np.float32)))


_Taken = tuple[list[NDArray[np.uint8]], list[NDArray[np.float32]]]


def _posed(
    simulation: Simulation, log_FQ: NDArray[np.floating], count: int, size: int, rng: np.random.Generator
) -> _Taken:
    if simulation.base is not None:
        raise UserError("its base floats, and no pose of the joints says where it would be", "Hold it for that log")
    low, high = simulation.joint_limits()
    beyond = _BEYOND * np.ptp(log_FQ, axis=0)
    near_low, near_high = (np.clip(end, low, high) for end in (log_FQ.min(0) - beyond, log_FQ.max(0) + beyond))
    start_m = simulation.object() if simulation.has_object else np.zeros(3)
    frames: list[NDArray[np.uint8]] = []
    positions: list[NDArray[np.float32]] = []
    for _ in console.track(range(count), "calibrate (practice)", count):
        wide = rng.random() < _WIDE
        if simulation.has_object:
            simulation.place_object(start_m + np.array([*rng.uniform(-_ASIDE_M, _ASIDE_M, 2), 0.0]))
        for _ in range(_TRIES):
            simulation.pose(rng.uniform(low, high) if wide else rng.uniform(near_low, near_high))
            if simulation.data.contact.dist.min(initial=0.0) > -_SINKS_M:
                break
        _see(simulation, size, frames, positions)
    return frames, positions


def _driven(
    simulation: Simulation, log_FQ: NDArray[np.floating], count: int, size: int, rng: np.random.Generator
) -> _Taken:
    frames: list[NDArray[np.uint8]] = []
    positions: list[NDArray[np.float32]] = []
    ticks = max(_EVERY, round(_DRIVE_S * simulation.embodiment.control_rate_hz))
    with console.progress("calibrate (practice)", count) as bar:
        while len(frames) < count:
            simulation.reset(int(rng.integers(2**31)))
            for tick, command_U in enumerate(babble(simulation, ticks, rng)):
                simulation.step(command_U)
                if tick % _EVERY == 0 and len(frames) < count:
                    _see(simulation, size, frames, positions)
                    bar.advance()
    return frames, positions


def _see(
    simulation: Simulation, size: int, frames: list[NDArray[np.uint8]], positions: list[NDArray[np.float32]]
) -> None:
    names = simulation.proprio_names
    measured = [not name.endswith("velocity") for name in names]
    frames.append(resize(simulation.frame(), (size, size)))
    positions.append(simulation.proprio()[measured])


def other_light(frames_BYXC: Tensor, generator: torch.Generator) -> Tensor:
    """The pictures in other light, as floats in 0 to 255: each with an exposure, tint and noise of its own."""

    def draw(*shape: int) -> Tensor:
        return 2 * torch.rand(shape, generator=generator) - 1

    num = len(frames_BYXC)
    light = (1 + _EXPOSURE * draw(num, 1, 1, 1)) * (1 + _TINT * draw(num, 1, 1, 3))
    noise = _NOISE * draw(num, 1, 1, 1) * torch.randn(frames_BYXC.shape, generator=generator)
    return (frames_BYXC * light + noise).clamp(0, 255)


def practice_loss(
    body: Body, stills: tuple[Tensor, Tensor], count: int, noise: float, generator: torch.Generator
) -> Tensor:
    """Mean squared error of the positions that are read from `count` practice pictures, standardised."""
    rows = torch.randint(len(stills[0]), (count,), generator=generator)
    z_BD, position_P = stills[0][rows], body.position_P.bool()
    read_BQ = body.read((z_BD + noise * torch.randn_like(z_BD))[:, None])[:, position_P]
    known_BQ = (stills[1][rows] - body.proprio_mean_P[position_P]) / body.proprio_std_P[position_P]
    return (read_BQ - known_BQ).square().mean()
