"""What is wrong with a dataset as a log of one body: every fault found, named with its joint, mended or refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from calibration.signals import Fault, Log, examine
from calibration.transitions import check_sizes
from robot_wm import console
from robot_wm.contracts.dataset import ACTION, STATE
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.data.lerobot import LeRobotDataset
from sims import robots
from sims.simulation import Simulation


class Examined(NamedTuple):
    """The log of a body, mended, and every fault that was found in it."""

    log: Log
    faults: tuple[Fault, ...]


def examine_log(
    dataset: Path, embodiment: Embodiment, torques: str | None = None, object_pose: str | None = None
) -> Examined:
    """Read a LeRobot dataset as the log of a body, and find what is wrong with it.

    Args:
        dataset, embodiment: the log and its body.
        torques: the feature that holds the torque of each actuator's joint, if one does.
        object_pose: the feature that holds where the body's object is, (7,): x, y, z [m] and w, x, y, z.

    Raises:
        UserError: features that are missing or are not the body's.
    """
    with robots.load(embodiment) as simulation:
        log = _read(dataset, simulation, torques, object_pose)
        low_J, high_J = _ranges(simulation, log.joints)
        limits = np.column_stack([simulation.command.low, simulation.command.high])
        if embodiment.environment is None:  # the MJCF's own: a margin that the embodiment adds is no limit of the robot
            limits = simulation.model.actuator_ctrlrange[[simulation.model.actuator(n).id for n in log.actuators]]
    log, faults = examine(log, low_J, high_J, limits, embodiment.interface)
    return Examined(log, tuple(faults))


def say_faults(faults: Sequence[Fault]) -> None:
    """One line each, but the one that the log is refused for: that becomes the error."""
    reason = next((fault for fault in faults if fault.fatal), None)
    for fault in faults:
        if fault is not reason:
            console.say(f"log: {fault}")


def _ranges(simulation: Simulation, joints: tuple[str, ...]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Limits of the joints; none for a hand that moves along rails."""
    model = simulation.model
    if simulation.command.interface == "end_effector_velocity":
        return None, None
    ids = [model.joint(name).id for name in joints]
    ranges = np.where(model.jnt_limited[ids, None], model.jnt_range[ids], [-np.pi, np.pi])
    return ranges[:, 0], ranges[:, 1]


def _read(dataset: Path, simulation: Simulation, torques: str | None, object_pose: str | None) -> Log:
    """Commands, positions, velocities and what else is named of the episodes of a LeRobot dataset."""
    actuators, proprio = simulation.command.names, simulation.proprio_names
    source = LeRobotDataset(dataset)
    check_sizes(source, {ACTION: actuators, STATE: proprio}, simulation.embodiment)
    episodes = [source.columns(e) for e in range(source.num_episodes)]
    asked = ((torques, len(actuators), "torques"), (object_pose, 7, "object_pose"))
    more = {key: (size, name) for key, size, name in asked if key is not None}
    for key, (size, name) in more.items():
        if key not in episodes[0] or episodes[0][key].shape[1:] != (size,):
            raise UserError(
                f"{name}: the log has no feature {key!r} of {size} numbers", f"It has: {', '.join(episodes[0])}"
            )
    wanted = (STATE, ACTION, "timestamp", *more)
    joined = {k: np.concatenate([e[k] for e in episodes]).astype(np.float64) for k in wanted}
    joints = [i for i, name in enumerate(proprio) if name.endswith("_position")]
    bare = {proprio[i].removesuffix("_position") for i in joints}
    velocities = [i for i, name in enumerate(proprio) if name.removesuffix("_velocity") in bare]
    return Log(
        joined["timestamp"],
        joined[ACTION],
        joined[STATE][:, joints],
        tuple(proprio[i].removesuffix("_position") for i in joints),
        actuators,
        joined[STATE][:, velocities] if len(velocities) == len(joints) else None,
        np.concatenate([np.full(len(e["timestamp"]), i) for i, e in enumerate(episodes)]),
        torque_NU=joined[torques] if torques is not None else None,
        object_N7=joined[object_pose] if object_pose is not None else None,
    )
