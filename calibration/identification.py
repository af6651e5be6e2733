"""What a body's MuJoCo parameters really are, from one log of it."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import mujoco
import numpy as np

from calibration import mjcf
from calibration.delay import command_delay
from calibration.log_faults import Examined, examine_log, say_faults
from calibration.parameters import DELAY, Parameter
from calibration.pushed_object import with_object
from calibration.signals import Array, Log, refuse
from calibration.sysid import FitConfig, Identified, identify
from robot_wm import console
from robot_wm.contracts.embodiment import Embodiment, Interface
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import dataset_folder, open_run
from sims import models, robots

_AS_GOOD_RAD = 1e-4


@dataclass(frozen=True)
class IdentifyConfig:
    """Configuration of `robot-wm calibrate identify`.

    Attributes:
        embodiment: the body; its `identifiable` names the parameters and their bounds.
        data: a log at the control rate: a LeRobot dataset, or the run that recorded it.
        servo_stiffness, servo_damping: PD gains of the drivers, where the MJCF describes bare motors.
        velocities: compare the measured velocities as well; else they only say where a simulation starts.
        torques: feature of the log with the measured torque of each actuator's joint; None compares positions alone.
        object_pose: feature with where the body's object was, (7,): x, y, z [m] and w, x, y, z; for contact friction.
        most_s: longest part of the log that is used, from its beginning; 0 takes it whole.
    """

    embodiment: Embodiment
    data: str
    servo_stiffness: float = 0.0
    servo_damping: float = 0.0
    velocities: bool = False
    torques: str | None = None
    object_pose: str | None = None
    most_s: float = 0.0
    fit: FitConfig = field(default_factory=FitConfig)
    name: str = "identify"
    out: str = "runs"
    seed: int = 0


def identify_body(config: IdentifyConfig, examined: Examined | None = None) -> Path:
    """Fit, judge on the held-out part, write the patch and the patched MJCF; returns the run folder.

    Where the log was `examined` already, that is not done again.

    Raises:
        UserError: a log that cannot be used, or one that the fit predicts no better than the MJCF as it was.
    """
    if config.embodiment.environment is not None:
        raise UserError(
            f"{config.embodiment.name} is simulated by {config.embodiment.environment}, not by its MJCF's actuators",
            "Identify a body with a joint interface",
        )
    if config.object_pose is not None and config.embodiment.object is None:
        raise UserError(f"object_pose: {config.embodiment.name} names no object", "Give object: BODY in its yaml")
    inputs = {"data": Path(config.data)} | robots.model_inputs(config.embodiment)
    with open_run(Path(config.out), "identify", config.name, config, inputs) as run:
        if run.complete:
            console.say(f"identify: already done with the same inputs: {run.path}")
            return run.path
        spec = models.read(config.embodiment.mjcf, config.embodiment.interface)
        if config.servo_stiffness:
            mjcf.servo(spec, config.servo_stiffness, config.servo_damping)
        alone = _without_object(spec, config.embodiment)
        model = alone.copy().compile()
        if examined is None:
            dataset = dataset_folder(Path(config.data))
            examined = examine_log(dataset, config.embodiment, config.torques, config.object_pose)
            say_faults(examined.faults)
            refuse(examined.faults)
        log, faults = examined
        if config.most_s:
            log = log.rows(slice(0, max(10, round(config.most_s * config.embodiment.control_rate_hz))))
        _refuse_floating(model, log.joints)
        chosen = mjcf.choose(model, log, config.embodiment.identifiable)
        console.say(f"identify: {len(chosen)} parameters, {len(log.time_s)} samples")
        guess = _late(log, chosen, config.embodiment.interface)
        moving = alone
        if config.object_pose is not None and config.embodiment.object is not None:
            moving, log = with_object(spec, config.embodiment.object, log)
        log = replace(log, compare_velocity=config.velocities)
        with console.progress("identify (search)", None) as bar:
            found = identify(moving, log, chosen, config.fit, config.seed, console.say, guess, bar.advance)
        _show(found)
        worst = 1.1 * found.rmse.get("held_out_before", np.inf) + _AS_GOOD_RAD
        reached = found.rmse.get("held_out_fitted", found.rmse.get("held_out", 0.0))
        gates = {"no_worse_than_the_mjcf": bool(reached <= worst)}
        if not gates["no_worse_than_the_mjcf"]:
            raise UserError(
                f"on the held-out part the fit is worse than the MJCF ({reached:.4g} against "
                f"{found.rmse['held_out_before']:.4g})",
                "Record a longer log that moves every joint, or identify fewer parameters",
            )
        outputs = mjcf.save(run.path, spec, found, faults)
        run.finish(outputs, metrics=found.rmse, gates=gates, embodiment_sha256=config.embodiment.digest())
        return run.path


def _late(log: Log, chosen: list[Parameter], interface: Interface) -> Array | None:
    """The MJCF's values with the delay that the log tells without them: from no delay, the search may take armature
    for it."""
    delays = [i for i, p in enumerate(chosen) if p.kind == DELAY]
    paired = interface in ("joint_position", "joint_velocity") and log.command_NU.shape == log.position_NJ.shape
    if not delays or not paired or log.velocity_NJ is None:
        return None
    try:
        found, _ = command_delay(
            log.time_s, log.episodes, log.command_NU, log.position_NJ, log.velocity_NJ, interface == "joint_position"
        )
    except UserError:
        return None
    values = np.array([p.nominal for p in chosen])
    for i in delays:
        values[i] = np.clip(found.seconds, chosen[i].low + 1e-3, chosen[i].high)
    return values


def _without_object(spec: mujoco.MjSpec, embodiment: Embodiment) -> mujoco.MjSpec:
    """The robot alone: what its tasks push or grasp stands still and is felt by nothing.

    Nobody knows where that lay while the log was recorded.
    """
    alone = spec.copy()
    if embodiment.object is not None:
        body = alone.body(embodiment.object)
        for joint in list(body.joints):
            alone.delete(joint)
        for geom in body.geoms:
            geom.contype = geom.conaffinity = 0
        for key in list(alone.keys):
            alone.delete(key)  # they place the object, too
    return alone


def _refuse_floating(model: mujoco.MjModel, joints: tuple[str, ...]) -> None:
    free = model.jnt_dofadr[model.jnt_type == mujoco.mjtJoint.mjJNT_FREE]
    moved = [int(model.dof_treeid[model.joint(name).dofadr[0]]) for name in joints]
    if set(model.dof_treeid[free].tolist()) & set(moved):
        raise UserError(
            "its base floats, and the log does not say where it is",
            "Hang the robot up, or put it on a stand, and give mjcf.fixed_base: true",
        )


def _show(found: Identified) -> None:
    def rounded(value: float) -> str:
        return f"{value:.4g}" if value < float("inf") else "unknown"

    rows = [
        (e.name, rounded(e.nominal), rounded(e.value), rounded(e.interval), e.unit, e.bound) for e in found.estimates
    ]
    console.table("Identified", ("parameter", "MJCF", "found", "± 95 %", "unit", "on bound"), rows)
    for warning in found.warnings:
        console.say(f"warning: {warning}")
    names = {"before": "fitted part, as the MJCF", "after": "fitted part, identified"}
    names |= {"held_out_before": "held out, as the MJCF", "held_out": "held out, identified"}
    names |= {"held_out_fitted": "held out, by the fit that was left"}
    names |= {"held_out_command": "held out, the command itself"}
    errors = [(names[k], f"{1e3 * v:.2f}") for k, v in found.rmse.items()]
    console.table("Open-loop error [mrad or mm]", ("", "RMSE"), errors)
