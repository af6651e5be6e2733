"""Motions that make useful data: what a body does while it is recorded."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

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
_ABOVE_TABLE_M, _CARRY_M = 0.06, 0.17  # half the height of the box over an object's table; with a gripper
_CONTACT_SHARE = 0.75  # of plans, where there is an object: pushes, or, where there is a gripper, half of them grasps
_BEHIND_M, _BEYOND_M = (0.07, 0.11), (0.04, 0.18)  # from the object: run-up and follow-through of a push
_OVER_M = np.array([0, 0, 0.09])  # of what is in the way
_LEVEL_M = (-0.01, 0.015)  # height of a push against the object's middle
_LEG_S, _LEG_SWAY = 0.9, 0.25  # most time and share of the noise on the legs of a push or grasp
_SHUT_S = 0.3  # for the fingers to close
_OPEN, _SHUT = 1.0, -1.0


@dataclass(frozen=True)
class _Waypoint:
    """Where to go, how fast (of the largest command), in how much time at most [s], under what share of the noise.

    None: drawn when it begins. `gripper` is from -1, shut, to 1, open. What `waits` stays until its time has passed.
    """

    target: NDArray[np.float64]
    speed: float | None = None
    limit_s: float | None = None
    sway: float = 1.0
    gripper: float = 0.0
    waits: bool = False


@dataclass(frozen=True)
class Space:
    """The box in which waypoints are drawn: gripper position [m], or joint positions [rad or m].

    `low_m` and `high_m` are the corners of the box in the world to which pushes and grasps keep the object.
    """

    centre: NDArray[np.float64]
    half: NDArray[np.float64]
    low_m: NDArray[np.float64]
    high_m: NDArray[np.float64]
    cartesian: bool

    @property
    def dim(self) -> int:
        return len(self.centre)

    def holds(self, place: NDArray[np.float64]) -> bool:
        """Whether a place, (dim,), lies in the box."""
        return bool((np.abs(place - self.centre) <= self.half).all())

    def where(self, simulation: Simulation) -> NDArray[np.float64]:
        if self.cartesian:
            return simulation.end_effector()
        return simulation.proprio()[: simulation.command.dim].astype(np.float64)


def babble(simulation: Simulation, num_steps: int, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Commands, (U,) each, for a body that the caller steps with each of them before it takes the next.

    The body moves between random waypoints around where it starts, at random speeds under coloured noise, stops at
    some of them, and so covers its workspace without leaving it. Where there is an object most plans go behind it,
    over it where it is in the way, and through it in a random direction that keeps it near; with a gripper, half of
    them take hold of it from above, carry it somewhere and let go. Commands keep to the limits and change by at most
    `max_step` from one to the next.

    Args:
        simulation: the body; found as it was when a command is taken.
        num_steps: how many commands.
        rng: all randomness comes from here.
    """
    command, space = simulation.command, babble_space(simulation)
    low, high, max_step = (np.asarray(v) for v in (command.low, command.high, command.max_step))
    noise = rng.normal(size=space.dim)
    waypoint, speed, until_s, holding = _Waypoint(space.centre), 0.0, simulation.time_s, False
    ahead: list[_Waypoint] = []
    for _ in range(num_steps):
        where = space.where(simulation)
        error = (waypoint.target - where) / space.half
        arrived = not (holding or waypoint.waits) and np.abs(error).max() < _NEAR
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
        wanted_U = command.hold(reference_U) if holding else _towards(simulation, space, waypoint, speed, sway)
        yield _clip(reference_U + _clip(wanted_U - reference_U, -max_step, max_step), low, high)


def _plan(simulation: Simulation, space: Space, rng: np.random.Generator) -> list[_Waypoint]:
    """The next waypoints: one anywhere in the box, a push through the object, or a grasp of it."""
    if not (simulation.has_object and rng.random() < _CONTACT_SHARE):
        waypoint = _Waypoint(space.centre + space.half * rng.uniform(-1, 1, space.dim))
        return [waypoint] if simulation.gripper is None else [replace(waypoint, gripper=rng.uniform(_SHUT, _OPEN))]
    grasps = simulation.gripper is not None and rng.random() < 0.5
    legs = _grasp(simulation, space, rng) if grasps else _push(simulation, space, rng)
    return legs if space.cartesian else _in_joints(simulation, legs)


def _push(simulation: Simulation, space: Space, rng: np.random.Generator) -> list[_Waypoint]:
    hand, thing = simulation.end_effector(), simulation.object()
    away = rng.uniform(space.low_m, space.high_m)[:2] - thing[:2]
    direction = np.append(away / (np.linalg.norm(away) + 1e-6), 0.0)
    level = thing + np.array([0.0, 0.0, rng.uniform(*_LEVEL_M)])
    behind, beyond = level - direction * rng.uniform(*_BEHIND_M), level + direction * rng.uniform(*_BEYOND_M)
    legs = [behind]
    if np.dot(hand - thing, direction) > -_BEHIND_M[0] / 2:  # the object is in the way
        legs.insert(0, behind + _OVER_M)
        if hand[2] < level[2] + _OVER_M[2] / 2:
            legs.insert(0, hand + _OVER_M)
    return [
        *(_Waypoint(leg, _TOP_SPEEDS[1], _LEG_S, _LEG_SWAY, _SHUT) for leg in legs),
        _Waypoint(beyond, rng.uniform(*_TOP_SPEEDS), _LEG_S, _LEG_SWAY, _SHUT),
    ]


def _grasp(simulation: Simulation, space: Space, rng: np.random.Generator) -> list[_Waypoint]:
    thing, place = simulation.object(), rng.uniform(space.low_m, space.high_m)
    speed = rng.uniform(*_TOP_SPEEDS)
    return [
        _Waypoint(thing + _OVER_M, _TOP_SPEEDS[1], _LEG_S, 0.0, _OPEN),
        _Waypoint(thing, _TOP_SPEEDS[1], _LEG_S, 0.0, _OPEN),
        _Waypoint(thing, _TOP_SPEEDS[1], _SHUT_S, 0.0, _SHUT, waits=True),
        _Waypoint(place, speed, 2 * _LEG_S, _LEG_SWAY, _SHUT),
        _Waypoint(place, speed, _SHUT_S, _LEG_SWAY, _OPEN, waits=True),
    ]


def _in_joints(simulation: Simulation, legs: list[_Waypoint]) -> list[_Waypoint]:
    """Places of the hand as places of the joints, each found from the one before."""
    now, found = simulation.state(), []
    dim, gripper = simulation.command.dim, simulation.gripper
    low, high = simulation.joint_limits()
    for leg in legs:
        simulation.pose_hand(leg.target)
        joints = simulation.proprio()[:dim].astype(np.float64)
        if gripper is not None:
            joints[gripper] = high[gripper] if leg.gripper > 0 else low[gripper]
        found.append(replace(leg, target=joints))
    simulation.restore(now)
    return found


def _towards(
    simulation: Simulation,
    space: Space,
    waypoint: _Waypoint,
    speed: float,
    noise: NDArray[np.float64],
) -> NDArray[np.float64]:
    """One command in the direction of the target, no faster than the share `speed` of the largest one, plus noise."""
    command, target = simulation.command, waypoint.target
    reference_U = simulation.reference()
    if command.is_position:
        most_U = np.asarray(command.max_step)
        return reference_U + np.clip(target - reference_U, -speed * most_U, speed * most_U) + _SWAY * most_U * noise
    most_U = ((np.asarray(command.high) - np.asarray(command.low)) / 2)[: space.dim]
    error = target - space.where(simulation)
    if command.interface == "joint_torque":
        joints = np.arange(command.dim, 2 * command.dim)
        damping = simulation.proprio()[joints].astype(np.float64)
        return simulation.bias() + most_U * (speed * np.clip(error / space.half - damping, -1, 1) + _SWAY * noise)
    slow_down_s = 0.1  # arrive in about this time, so that the body brakes before a waypoint
    velocity = _clip(error / slow_down_s, -speed * most_U, speed * most_U) + _SWAY * most_U * noise
    return np.append(velocity, [waypoint.gripper] * (command.dim - space.dim))


def _clip(values: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """As numpy's, in a fifth of the time: of a few numbers, at every step."""
    return np.minimum(np.maximum(values, low), high)


def babble_space(simulation: Simulation) -> Space:
    """The box around where the body stands now."""
    dim = simulation.command.dim
    hand = simulation.end_effector()
    around, most = hand, np.full(3, _BOX_M)
    if simulation.has_object:
        most[2] = _ABOVE_TABLE_M if simulation.gripper is None else _CARRY_M
        thing = simulation.object()
        middle = hand if simulation.command.interface == "end_effector_velocity" else thing
        around = np.append(middle[:2], thing[2] + most[2])
    if simulation.command.interface == "end_effector_velocity":
        return Space(around, most, around - most, around + most, cartesian=True)
    low, high = simulation.joint_limits()
    half = np.minimum(_JOINT_SHARE * (high - low), _JOINT_MOST)
    start = simulation.proprio()[:dim].astype(np.float64)
    return Space(np.clip(start, low + half, high - half), half, around - most, around + most, cartesian=False)


def workspace(simulation: Simulation, num: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Places in the world [m], (num, 3), where waypoints put the hand; the body is found as it was."""
    space, now = babble_space(simulation), simulation.state()
    places = space.centre + space.half * rng.uniform(-1, 1, (num, space.dim))
    if not space.cartesian:
        places = np.stack([simulation.hand_at(joints) for joints in places])
        simulation.restore(now)
    return places
