"""From an embodiment and its MJCF to actuators and a command space."""

from collections.abc import Sequence

import mujoco
import numpy as np

from robot_wm.contracts.embodiment import CommandSpace, Embodiment, Interface
from robot_wm.contracts.errors import UserError

_SHOWN = 24
_HINGE, _SLIDE = mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE
_UNITS = {
    "joint_position": {_HINGE: "rad", _SLIDE: "m"},
    "joint_velocity": {_HINGE: "rad/s", _SLIDE: "m/s"},
    "joint_torque": {_HINGE: "N·m", _SLIDE: "N"},
}


def listing(names: Sequence[str]) -> str:
    """Names for an error message, cut to what fits on a line."""
    named = [n for n in names if n]
    rest = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return ", ".join(named[:_SHOWN]) + rest if named else "none"


def select(embodiment: Embodiment, model: mujoco.MjModel) -> list[int]:
    """Indices of the commanded actuators, in the embodiment's order.

    Raises:
        UserError: an actuator that the MJCF lacks, none at all, or one that does not drive a hinge or slide joint.
    """
    names = [model.actuator(i).name for i in range(model.nu)]
    for name in embodiment.actuators:
        if name not in names:
            raise UserError(f"actuator {name!r} is not in the MJCF", f"Actuators there: {listing(names)}")
    if not model.nu:
        raise UserError(
            f"the MJCF of {embodiment.name} has no actuators", "Add an <actuator> section, one per driven joint"
        )
    chosen = [names.index(n) for n in embodiment.actuators] or list(range(model.nu))
    for i in chosen:
        drives_joint = model.actuator_trntype[i] == mujoco.mjtTrn.mjTRN_JOINT
        if not drives_joint or model.jnt_type[model.actuator_trnid[i, 0]] not in (_HINGE, _SLIDE):
            usable = [n for j, n in enumerate(names) if model.actuator_trntype[j] == mujoco.mjtTrn.mjTRN_JOINT]
            raise UserError(
                f"actuator {names[i]!r} does not drive a hinge or slide joint",
                f"Name in `actuators` only those that do: {listing(usable)}",
            )
    return chosen


def command_space(embodiment: Embodiment, model: mujoco.MjModel, actuators: Sequence[int]) -> CommandSpace:
    """The command space of a joint interface, limits from the actuators' ctrlrange less the safety margin.

    Raises:
        UserError: an actuator without ctrlrange, or of another kind than the interface.
    """
    if embodiment.interface == "end_effector_velocity":
        raise UserError(
            f"embodiment {embodiment.name}: end_effector_velocity needs `environment`",
            "Give a gymnasium environment that moves its end effector (FetchReach-v4), or a joint interface",
        )
    for i in actuators:
        _check(embodiment, model, i)
    low, high = model.actuator_ctrlrange[actuators].T
    spare = embodiment.safety.margin * (high - low)
    driven = [model.joint(model.actuator_trnid[i, 0]) for i in actuators]
    kinds = [mujoco.mjtJoint(joint.type[0]) for joint in driven]
    units = {_UNITS[embodiment.interface][kind]: None for kind in kinds}
    return CommandSpace(
        interface=embodiment.interface,
        names=tuple(model.actuator(i).name or joint.name for i, joint in zip(actuators, driven, strict=True)),
        unit=", ".join(units),
        low=tuple((low + spare).tolist()),
        high=tuple((high - spare).tolist()),
        max_step=tuple(np.minimum(embodiment.safety.max_step, high - low - 2 * spare).tolist()),
        frame_skip=embodiment.frame_skip,
        control_rate_hz=embodiment.control_rate_hz,
        joints=tuple(joint.name for joint in driven),
    )


def gripper(embodiment: Embodiment, model: mujoco.MjModel, actuators: Sequence[int]) -> int:
    """Which command opens and closes the embodiment's gripper.

    Raises:
        UserError: its actuator is not commanded.
    """
    commanded = [model.actuator(i).name for i in actuators]
    if embodiment.gripper not in commanded:
        raise UserError(
            f"embodiment {embodiment.name}: gripper {embodiment.gripper!r} is not commanded",
            f"Actuators that are: {listing(commanded)}",
        )
    return commanded.index(embodiment.gripper)


def substeps(embodiment: Embodiment, model: mujoco.MjModel) -> int:
    """Physics steps per control period.

    Raises:
        UserError: the control rate and the MJCF's timestep do not divide.
    """
    exact = 1.0 / (embodiment.control_rate_hz * model.opt.timestep)
    count = round(exact)
    if count < 1 or abs(exact - count) > 0.01 * count:
        raise UserError(
            f"embodiment {embodiment.name}: control_rate_hz {embodiment.control_rate_hz:g} makes {exact:.2f} physics"
            f" steps of {model.opt.timestep:g} s",
            "Choose a rate or a timestep that divide without remainder",
        )
    return count


def _check(embodiment: Embodiment, model: mujoco.MjModel, index: int) -> None:
    name = model.actuator(index).name or f"number {index}"
    if not model.actuator_ctrllimited[index] or np.ptp(model.actuator_ctrlrange[index]) <= 0:
        joint = model.joint(int(model.actuator_trnid[index, 0])).name
        raise UserError(
            f"actuator {name!r} has no ctrlrange, so the limits of its commands are unknown",
            f'Add ctrlrange="LOW HIGH" to it in the MJCF (or inheritrange="1" to take the range of joint {joint!r})',
        )
    found = kind(model, index)
    if found != embodiment.interface:
        raise UserError(
            f"actuator {name!r} takes a {found.replace('_', ' ')} but the interface is {embodiment.interface}",
            f"Set interface: {found}, or change the actuator in the MJCF (<position>, <velocity>, <motor>)",
        )


def kind(model: mujoco.MjModel, index: int) -> Interface:
    """What an actuator's control means: MuJoCo's <position>, <velocity> and <motor> differ only in their bias."""
    if model.actuator_biastype[index] != mujoco.mjtBias.mjBIAS_AFFINE:
        return "joint_torque"
    _, stiffness, damping = model.actuator_biasprm[index, :3]
    return "joint_position" if stiffness else ("joint_velocity" if damping else "joint_torque")
