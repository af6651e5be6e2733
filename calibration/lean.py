"""A body's model without what takes no part in its motion: collision detection costs more than the rest of a step."""

import copy

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.errors import UserError


def feeling(
    spec: mujoco.MjSpec, actuators: NDArray[np.int64], full: mujoco.MjModel, keep_contacts: bool
) -> mujoco.MjModel:
    """The lean model in which the torque of each actuator's joint is sensed, and nothing else."""
    felt = spec.copy()
    for sensor in list(felt.sensors):
        felt.delete(sensor)
    for actuator in actuators:
        if full.actuator_trntype[actuator] != mujoco.mjtTrn.mjTRN_JOINT:
            raise UserError(f"log: {full.actuator(int(actuator)).name} turns no joint", "Identify without torques")
        joint = full.joint(int(full.actuator_trnid[actuator, 0])).name
        felt.add_sensor(type=mujoco.mjtSensor.mjSENS_JOINTACTFRC, objtype=mujoco.mjtObj.mjOBJ_JOINT, objname=joint)
    model = lean(felt, felt.copy().compile(), keep_contacts)
    model.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_SENSOR)
    return model


def lean(spec: mujoco.MjSpec, full: mujoco.MjModel, keep_contacts: bool) -> mujoco.MjModel:
    """The model without what takes no part in its motion; `full` itself where that is not possible exactly."""
    slim = spec.copy()
    for body in slim.bodies[1:]:
        if not body.name:
            continue
        same = full.body(body.name)
        if same.mass[0] > 0:
            body.explicitinertial = True
            body.fullinertia = np.full((6, 1), np.nan)
            body.mass, body.ipos, body.iquat, body.inertia = same.mass[0], same.ipos, same.iquat, same.inertia
    for geom in list(slim.geoms):
        if not keep_contacts or (geom.contype == 0 and geom.conaffinity == 0 and not geom.name):
            slim.delete(geom)
    for each in [*slim.pairs, *slim.excludes] if not keep_contacts else []:
        slim.delete(each)
    used = {geom.meshname for geom in slim.geoms}
    for mesh in list(slim.meshes):
        if mesh.name not in used:
            slim.delete(mesh)
    try:
        model = slim.compile()
    except ValueError:
        model = copy.copy(full)  # something names what was left out
    same = all(np.array_equal(getattr(model, k), getattr(full, k)) for k in ("body_mass", "body_inertia", "body_ipos"))
    if not same or model.nv != full.nv or model.nu != full.nu:
        model = copy.copy(full)
    if not keep_contacts:
        model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_SENSOR)
    return model
