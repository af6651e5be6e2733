"""Motions that make useful data: what a body does while it is recorded."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sims.simulation import Simulation

_BOX_M = 0.17  # half the edge of the box that a Cartesian babble covers: FetchReach's goals and a little more
_JOINT_SHARE, _JOINT_MOST = 0.35, 0.9  # half the span of a joint's babble: share of its range, at most [rad or m]
_NEAR = 0.08  # a waypoint counts as reached within this share of the half span along every axis
_EDGE = 1.1  # the box, a little widened
_CORRELATION = 0.8  # of the noise from one command to the next
_SWAY = 0.45  # its standard deviation, as a share of the largest command
_HOLD_SHARE = 0.5  # of the reached waypoints at which the body stops for a while
_HOLD_S, _PLAN_S = (0.2, 0.8), (0.4, 1.6)
_TOP_SPEEDS = (0.3, 1.0)  # share of the largest command, drawn for each waypoint
_ABOVE_TABLE_M = 0.06  # half the height of the box where the body starts on a table, as those with an object do
_PUSH_SHARE = 0.75  # of plans, where there is an object
_BEHIND_M, _BEYOND_M, _OVER_M = (
    (0.07, 0.11),
    (0.04, 0.18),
    np.array([0, 0, 0.09]),
)  # from the object: run-up, follow-through, on the way
_LEVEL_M = (-0.01, 0.015)  # height of a push against the object's middle
_LEG_S, _LEG_SWAY = 0.9, 0.25  # most time and share of the noise on the legs of a push


@dataclass(frozen=True)
class _Waypoint:
    """Where to go, how fast (of the largest command), in how much time at most [s], under what share of the noise.

    None: drawn when it begins.
    """

    target: NDArray[np.float64]
    speed: float | None = None
    limit_s: float | None = None
    sway: float = 1.0


@dataclass(frozen=True)
class _Space:
    """The box in which waypoints are drawn: gripper position [m], or joint positions [rad or m]."""

    centre: NDArray[np.float64]
    half: NDArray[np.float64]
    cartesian: bool

    @property
    def dim(self) -> int:
        return len(self.centre)

    def where(self, simulation: Simulation) -> NDArray[np.float64]:
        if self.cartesian:
            return simulation.end_effector()
        return simulation.proprio()[: simulation.command.dim].astype(np.float64)


def babble(simulation: Simulation, num_steps: int, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Commands, (U,) each, for a body that the caller steps with each of them before it takes the next.

    The body moves between random waypoints around where it starts, at random speeds under coloured noise, stops at
    some of them, and so covers its workspace without leaving it. Where there is an object and the commands move the
    hand itself, most plans go behind the object, over it where it is in the way, and through it in a random direction
    that keeps it in the box. Commands keep to the limits and change by at most `max_step` from one to the next.

    Args:
        simulation: the body; only read here.
        num_steps: how many commands.
        rng: all randomness comes from here.
    """
    command, space = simulation.command, _space(simulation)
    low, high, max_step = (np.asarray(v) for v in (command.low, command.high, command.max_step))
    noise = rng.normal(size=space.dim)
    waypoint, speed, until_s, holding = _Waypoint(space.centre), 0.0, simulation.time_s, False
    ahead: list[_Waypoint] = []
    for _ in range(num_steps):
        where = space.where(simulation)
        error = (waypoint.target - where) / space.half
        arrived = not holding and np.abs(error).max() < _NEAR
        if arrived or simulation.time_s >= until_s:
            holding = bool(arrived and not ahead and rng.random() < _HOLD_SHARE)
            until_s = simulation.time_s + rng.uniform(*(_HOLD_S if holding else _PLAN_S))
            if not holding:
                ahead = ahead or _plan(simulation, space, rng)
                waypoint, speed = ahead.pop(0), rng.uniform(*_TOP_SPEEDS)
                if waypoint.limit_s is not None and waypoint.speed is not None:
                    until_s, speed = simulation.time_s + waypoint.limit_s, waypoint.speed
        noise = _CORRELATION * noise + np.sqrt(1 - _CORRELATION**2) * rng.normal(size=space.dim)
        noise[np.abs(where - space.centre) > _EDGE * space.half] = 0.0  # outside the box only the way back counts
        reference_U = simulation.reference()
        sway = waypoint.sway * noise
        wanted_U = command.hold(reference_U) if holding else _towards(simulation, space, waypoint.target, speed, sway)
        yield np.clip(reference_U + np.clip(wanted_U - reference_U, -max_step, max_step), low, high)


def _plan(simulation: Simulation, space: _Space, rng: np.random.Generator) -> list[_Waypoint]:
    """The next waypoints: one anywhere in the box, or a push through the object."""
    if not (space.cartesian and simulation.has_object and rng.random() < _PUSH_SHARE):
        return [_Waypoint(space.centre + space.half * rng.uniform(-1, 1, space.dim))]
    hand, thing = simulation.end_effector(), simulation.object()
    low, high = space.centre - space.half, space.centre + space.half
    away = rng.uniform(low, high)[:2] - thing[:2]
    direction = np.append(away / (np.linalg.norm(away) + 1e-6), 0.0)
    level = np.array([*thing[:2], max(thing[2] + rng.uniform(*_LEVEL_M), low[2])])
    behind, beyond = level - direction * rng.uniform(*_BEHIND_M), level + direction * rng.uniform(*_BEYOND_M)
    legs = [behind, beyond]
    if np.dot(hand - thing, direction) > -_BEHIND_M[0] / 2:  # the object is in the way
        legs.insert(0, behind + _OVER_M)
        if hand[2] < level[2] + _OVER_M[2] / 2:
            legs.insert(0, hand + _OVER_M)
    return [
        *(_Waypoint(leg, _TOP_SPEEDS[1], _LEG_S, _LEG_SWAY) for leg in legs[:-1]),
        _Waypoint(beyond, rng.uniform(*_TOP_SPEEDS), _LEG_S, _LEG_SWAY),
    ]


def _towards(
    simulation: Simulation,
    space: _Space,
    target: NDArray[np.float64],
    speed: float,
    noise: NDArray[np.float64],
) -> NDArray[np.float64]:
    """One command in the direction of the target, no faster than the share `speed` of the largest one, plus noise."""
    command = simulation.command
    reference_U = simulation.reference()
    if command.is_position:
        most_U = np.asarray(command.max_step)
        return reference_U + np.clip(target - reference_U, -speed * most_U, speed * most_U) + _SWAY * most_U * noise
    most_U = (np.asarray(command.high) - np.asarray(command.low)) / 2
    error = target - space.where(simulation)
    if command.interface == "joint_torque":
        joints = np.arange(command.dim, 2 * command.dim)
        damping = simulation.proprio()[joints].astype(np.float64)
        return simulation.bias() + most_U * (speed * np.clip(error / space.half - damping, -1, 1) + _SWAY * noise)
    slow_down_s = 0.1  # arrive in about this time, so that the body brakes before a waypoint
    return np.clip(error / slow_down_s, -speed * most_U, speed * most_U) + _SWAY * most_U * noise


def _space(simulation: Simulation) -> _Space:
    dim = simulation.command.dim
    if simulation.command.interface == "end_effector_velocity":
        centre, half = simulation.end_effector(), np.full(3, _BOX_M)
        if simulation.has_object:
            half[2] = _ABOVE_TABLE_M
            centre[2] = simulation.object()[2] + _ABOVE_TABLE_M
        return _Space(centre, half, cartesian=True)
    low, high = simulation.joint_limits()
    half = np.minimum(_JOINT_SHARE * (high - low), _JOINT_MOST)
    start = simulation.proprio()[:dim].astype(np.float64)
    return _Space(np.clip(start, low + half, high - half), half, cartesian=False)
