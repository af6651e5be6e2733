"""From an MJCF to what is to be identified in it, and from what was identified to a patch and a patched MJCF."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import mujoco

from calibration import parameters as moved
from calibration.parameters import BIAS, DELAY, KINDS, PAYLOAD, Parameter
from calibration.signals import Fault, Log
from calibration.sysid import Identified
from robot_wm.contracts import files
from robot_wm.contracts.errors import UserError

PATCH, MODEL = "identified.json", "identified.xml"
_ASSETS = "assets"  # meshes and textures beside a MJCF that was written
USUAL: dict[str, tuple[float, float]] = {
    "armature": (0.05, 20.0),
    "damping": (0.0, 20.0),
    "frictionloss": (0.0, 20.0),
    DELAY: (0.0, 0.15),
}
_VALUES = (BIAS, DELAY, PAYLOAD, "stiffness")  # zero in most MJCFs: their bounds are values, not factors


def servo(spec: mujoco.MjSpec, stiffness: float, damping: float) -> None:
    """Turn torque motors into the position servos of a joint-level PD controller, in place.

    For robots whose drivers take positions while their MJCF describes bare motors. The motors' command range becomes
    the limit of the servos' torque.
    """
    for actuator in spec.actuators:
        if actuator.biastype != mujoco.mjtBias.mjBIAS_NONE:
            raise UserError(f"actuator {actuator.name!r} is a servo already", "Leave servo_stiffness at 0")
        low, high = actuator.ctrlrange
        actuator.set_to_position(kp=stiffness, kv=damping)
        actuator.ctrllimited = False
        if low < high:
            actuator.forcerange, actuator.forcelimited = [low, high], True


def choose(model: mujoco.MjModel, log: Log, identifiable: Mapping[str, tuple[float, float]]) -> list[Parameter]:
    """The parameters that a body's yaml names, or the usual ones of every joint in the log.

    A key is a kind (`armature`: of every joint or actuator of the log) or a kind and an element (`mass:forearm`); a
    specific key overrides a general one. Bounds are factors of the MJCF's value, except for biases [rad] (taken as ±),
    payloads [kg], stiffness and the delay [s]. What is zero in the MJCF cannot be bounded by factors: with the usual
    choice it stays zero, when it was asked for it is an error.
    """
    found: dict[str, Parameter] = {}
    for key, (low, high) in sorted((identifiable or USUAL).items(), key=lambda item: ":" in item[0]):
        kind, _, element = key.partition(":")
        if kind not in KINDS:
            raise UserError(f"identifiable.{key} is not known", f"Kinds: {', '.join(KINDS)}")
        sort = KINDS[kind].target
        everywhere = {None: ("",), "joint": log.joints, "actuator": log.actuators}.get(sort)
        if not element and everywhere is None:
            raise UserError(f"identifiable.{key} names no {sort}", f"Give {kind}:{sort.upper() if sort else ''}")
        for target in (element,) if element else everywhere or ():
            absolute = kind in _VALUES
            if not absolute and not identifiable and KINDS[kind].read(model, moved.index(model, kind, target)) == 0:
                continue
            lowest = -high if kind == BIAS else low
            new = moved.parameter(model, kind, target, lowest, high, absolute)
            found[new.name] = new
    if not found:
        raise UserError("the MJCF has neither armature, damping nor friction loss", "Give starting values in it")
    return list(found.values())


def save(folder: Path, spec: mujoco.MjSpec, identified: Identified, faults: Sequence[Fault]) -> list[str]:
    """Write the patch (JSON) and the patched MJCF, each whole or not at all; returns their names."""
    patched, full = spec.copy(), spec.copy().compile()
    moved.mend(patched, full, identified.parameters, identified.values)
    find_meshes(patched, spec.modelfiledir)
    patched.compile()
    written = write(folder / MODEL, patched)
    files.write_json(folder / PATCH, describe(identified, faults))
    return [PATCH, *written]


def write(path: Path, spec: mujoco.MjSpec) -> list[str]:
    """Write a compiled MJCF with its meshes and textures beside it, so that it is read wherever it is taken.

    Args:
        path: of the MJCF; what it names is copied to `assets/` in the same folder.
        spec: whose meshes are found from anywhere (`find_meshes`).

    Returns:
        The names of what was written.
    """
    tree = ElementTree.fromstring(spec.to_xml())
    taken: dict[Path, str] = {}
    for element in tree.iterfind("asset/*"):
        base = Path(spec.texturedir if element.tag == "texture" else spec.meshdir)
        for key in [name for name in element.attrib if name.startswith("file")]:
            source = (base / element.attrib[key]).resolve()
            name = taken.setdefault(source, f"{len(taken)}-{source.name}")
            element.set(key, name)
    for source, name in taken.items():
        (path.parent / _ASSETS).mkdir(exist_ok=True)
        files.write_atomic(path.parent / _ASSETS / name, source.read_bytes())
    compiler = tree.find("compiler")
    if compiler is None:
        compiler = ElementTree.SubElement(tree, "compiler")
    for key in ("assetdir", "meshdir", "texturedir"):
        compiler.attrib.pop(key, None)
    if taken:
        compiler.set("assetdir", _ASSETS)
    ElementTree.indent(tree)
    files.write_atomic(path, ElementTree.tostring(tree))
    return [path.name, _ASSETS] if taken else [path.name]


def find_meshes(spec: mujoco.MjSpec, home: str = "") -> None:
    """Let an MJCF find its meshes and textures from wherever it will be written, in place."""
    folder = home or spec.modelfiledir
    if folder:
        root = Path(folder).resolve()
        spec.meshdir, spec.texturedir = str(root / spec.meshdir), str(root / spec.texturedir)


def describe(identified: Identified, faults: Sequence[Fault]) -> dict[str, object]:
    """What was found, as strict JSON: values at full precision, intervals that are infinite as null."""
    return {
        "parameters": {
            e.name: {
                "value": e.value, "nominal": e.nominal, "unit": e.unit, "bound": e.bound or None,
                "interval": e.interval if e.interval < float("inf") else None, "identifiable": e.identifiable,
                "low": p.low, "high": p.high,
            }
            for e, p in zip(identified.estimates, identified.parameters, strict=True)
        },
        "rmse": identified.rmse,
        "held_out_rmse_per_joint": identified.held_out_J.tolist(),
        "held_out_rmse_per_joint_before": identified.held_out_before_J.tolist(),
        "inseparable": [list(group) for group in identified.confused],
        "warnings": identified.warnings,
        "faults": [str(fault) for fault in faults],
        "outliers": identified.outliers,
        "starts": [{"objective": objective, "values": end.tolist()} for objective, end in identified.starts],
    }  # fmt: skip


def apply(spec: mujoco.MjSpec, patch: Path) -> None:
    """Put an identified patch into an MJCF, in place.

    Raises:
        UserError: the patch was made for another body.
    """
    full = spec.copy().compile()
    for name, found in files.read_json(patch)["parameters"].items():
        kind, _, target = name.partition(":")
        each = Parameter(kind, target, found["value"], found["low"], found["high"])
        moved.index(full, kind, target)
        moved.mend(spec, full, [each], [found["value"]])
