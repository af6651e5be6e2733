"""A body's response to its commands comes back from a log, from few transitions and when joints move together."""

import pytest
import torch
from torch import Tensor

from calibration.response_fit import fit_response, own_command
from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.models.response import Response
from sims import robots

K, U, RATE = 5, 6, 0.3


def space(interface: str) -> CommandSpace:
    return CommandSpace(
        interface, tuple(f"joint{u}" for u in range(U)), "rad", (-1.0,) * U, (1.0,) * U, (0.05,) * U, K, 25.0
    )  # type: ignore[arg-type]


def servo_log(num: int, together: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Chunks, references and positions of joints that close `RATE` of the gap to their target at every tick.

    `together` is the share of the motion that all joints have in common.
    """
    generator = torch.Generator().manual_seed(seed)
    position, target = torch.zeros(num + 1, U), torch.zeros(U)
    chunks, references = torch.zeros(num, K, U), torch.zeros(num, U)
    for n in range(num):
        common = torch.randn(1, generator=generator)
        wish = (together * common + (1 - together) * torch.randn(U, generator=generator)).clamp(-1, 1)
        references[n], now = target, position[n].clone()
        for k in range(K):
            before, target = target, (target + 0.05 * wish).clamp(-1, 1)
            chunks[n, k] = (target - before) / 0.05
            now = now + RATE * (target - now)
        position[n + 1] = now
    return chunks, references, position[:-1], position[1:]


def fitted(num: int, together: float, own: list[int | None]) -> Response:
    chunks, references, before, after = servo_log(num, together)
    response = Response(K * U, U, U)
    fit_response(response, own, chunks, references, before, after)
    return response


def error(response: Response, together: float) -> float:
    chunks, references, before, after = servo_log(400, together, seed=1)
    return float((response(chunks.flatten(1), references, before) - after).square().mean().sqrt())


def hold(together: float) -> float:
    _, _, before, after = servo_log(400, together, seed=1)
    return float((before - after).square().mean().sqrt())


@pytest.mark.parametrize("num", [30, 300])
def test_servos_are_recovered_from_few_transitions(num: int) -> None:
    assert error(fitted(num, 0.0, list(range(U))), 0.0) < 0.1 * hold(0.0)


def test_joints_that_moved_together_are_told_apart_by_their_own_command() -> None:
    """All commands would do on such a log, and fail where the joints part; their own command does not."""
    own = error(fitted(25, 0.97, list(range(U))), 0.0)
    every = error(fitted(25, 0.97, [None] * U), 0.0)
    assert own < 0.1 * hold(0.0)
    assert own < 0.5 * every


def test_an_unfitted_response_stays_where_it_is_and_is_not_used() -> None:
    response = Response(K * U, U, U)
    proprio = torch.randn(3, U)
    assert torch.equal(response(torch.randn(3, K * U), torch.randn(3, U), proprio), proprio)
    assert not response.used_P.any()


def test_an_entry_follows_the_command_of_its_name() -> None:
    names = ("joint0_position", "joint3_velocity", "joint5", "gripper_x_position")
    assert own_command(space("joint_position"), names) == [0, 3, 5, None]


def test_an_entry_follows_the_actuator_that_moves_its_joint_whatever_either_is_called() -> None:
    with robots.load("panda") as panda:
        own = own_command(panda.command, panda.proprio_names)
    assert own == [*range(9), *range(9)], "seven joints and two fingers, positions and velocities"
