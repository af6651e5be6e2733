"""Metadata that other projects' runners read from a graph: joints, gains, poses and scales, at full precision.

Two dialects are spoken, and one file cannot speak both: they give `action_scale` in different forms, and holosoma
parses every value of a file as JSON.

- mjlab (`mjlab.rl.exporter_utils`): lists as comma-separated text. Written into the graphs that give commands.
- holosoma (`holosoma_inference.policies.base`) and LeRobot (`examples/unitree_g1`): each value is JSON. Written into
  `encode.onnx`.

mjlab itself rounds to 3 decimals; here a number is written so that reading it gives the same float64.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.helper

from deploy.export.batch import BATCH_FILES
from robot_wm.contracts.bundle import ENCODE_FILE, ControllerSpec
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError

Value = Sequence[str] | Sequence[float]


@dataclass(frozen=True)
class Joints:
    """What the MJCF says of the commanded joints, in the order of the commands.

    Attributes:
        names: of the joints.
        stiffness, damping: of their servos (kp and kd) [N·m/rad and N·m·s/rad, or N/m and N·s/m]; 0 where the
            actuator has none.
        default: their positions at home [rad or m].
    """

    names: tuple[str, ...]
    stiffness: tuple[float, ...]
    damping: tuple[float, ...]
    default: tuple[float, ...]


def read_joints(embodiment: Embodiment) -> Joints | None:
    """The commanded joints, read from the embodiment's MJCF; None where commands move the end effector instead.

    Raises:
        ImportError: MuJoCo is not installed.
        UserError: the model file is gone or does not compile.
    """
    if embodiment.interface == "end_effector_velocity":
        return None
    from sims import actuation, robots  # a machine that only exports may lack MuJoCo

    simulation = robots.load(embodiment)
    try:
        model = simulation.model
        actuators = actuation.select(embodiment, model)
        # A servo's force is gain · control - kp · length - kd · speed (MuJoCo's affine bias), each along the gear.
        gear = model.actuator_gear[actuators, 0]
        kp, kd = -(gear**2) * model.actuator_biasprm[actuators][:, 1:3].T
        return Joints(
            names=tuple(model.joint(int(model.actuator_trnid[i, 0])).name for i in actuators),
            stiffness=tuple((kp + 0.0).tolist()),  # no -0.0
            damping=tuple((kd + 0.0).tolist()),
            default=tuple(simulation.home().tolist()),
        )
    finally:
        simulation.close()


def metadata(spec: ControllerSpec, joints: Joints | None, file: str) -> dict[str, str]:
    """The metadata of one of a bundle's graphs, in the dialect that belongs to it.

    Commands leave the graphs in physical units: `action_scale` is 1, and nothing is to be added to them.

    Args:
        spec: of the bundle.
        joints: see there; without them no joint is named and no gain given.
        file: name of the graph.

    Raises:
        UserError: a name with a comma in it.
    """
    for name in (*spec.command.names, *spec.proprio, *(joints.names if joints else ())):
        if "," in name:
            raise UserError(f"the name {name!r} has a comma", "Rename it in the MJCF: readers split at commas")
    scale = (1.0,) * spec.command.dim
    if file in (ENCODE_FILE, BATCH_FILES[ENCODE_FILE]):
        values: dict[str, Value] = {"action_scale": scale, "command_names": spec.command.names}
        if joints is not None:
            values |= {
                "dof_names": joints.names, "kp": joints.stiffness, "kd": joints.damping,
                "default_angles": joints.default,
            }  # fmt: skip
        return {key: json.dumps(list(value), ensure_ascii=False) for key, value in values.items()}
    values = {
        "run_path": (f"sha256:{spec.lineage.get('calibrate', '')}",),
        "action_scale": scale, "command_names": spec.command.names, "observation_names": spec.proprio,
    }  # fmt: skip
    if joints is not None:
        values |= {
            "joint_names": joints.names, "joint_stiffness": joints.stiffness, "joint_damping": joints.damping,
            "default_joint_pos": joints.default,
        }  # fmt: skip
    return {key: ",".join(v if isinstance(v, str) else repr(v) for v in value) for key, value in values.items()}


def attach(path: Path, values: Mapping[str, str]) -> None:
    """Write metadata into a graph's file, in place of what it had."""
    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(values))
    onnx.save(model, path)
