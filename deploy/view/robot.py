"""A robot: what it looks like, what it takes, and where each joint moves it; still, or live in the browser."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from deploy.report.media import Picture, picture
from deploy.view import page
from robot_wm.contracts.embodiment import Embodiment
from sims import robots
from sims.sheet import draw
from sims.simulation import Simulation

_POSES, _PX, _OVERVIEW_PX = 9, 180, 360
_HINGE, _SLIDE = mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE
FREE_REACH = {_HINGE: np.pi, _SLIDE: 0.3}  # shown of a joint without a range [rad, m]


def movable(model: mujoco.MjModel) -> list[tuple[int, str, float, float, str]]:
    """Hinge and slide joints: index, name, low, high and unit."""
    found = []
    for i in range(model.njnt):
        kind = mujoco.mjtJoint(model.jnt_type[i])
        if kind not in FREE_REACH:
            continue
        reach = FREE_REACH[kind]
        low, high = model.jnt_range[i] if model.jnt_limited[i] else (-reach, reach)
        found.append(
            (i, model.joint(i).name or f"joint {i}", float(low), float(high), "rad" if kind == _HINGE else "m")
        )
    return found


def write(path: Path, embodiment: Embodiment) -> Path:
    """Write the page about a robot; returns `path`.

    Raises:
        UserError: the model is faulty or absent, or this machine cannot draw.
    """
    with robots.load(embodiment) as simulation:
        model, command = simulation.model, simulation.command
        joints = [_sweep(simulation, *joint) for joint in movable(model)]
        overview = picture(simulation.frame(_OVERVIEW_PX, _OVERVIEW_PX), f"{embodiment.name} in its home pose")
        commands = list(zip(command.names, command.low, command.high, command.max_step, strict=True))
        reference = [f"{value:.4g}" for value in simulation.reference()]
        proprio = _told(simulation.proprio_names)
    return page.write(
        path, "robot.html", "robot.js", kind="A robot", title=embodiment.name,
        beside=[
            f"{command.dim} commands ({command.interface.replace('_', ' ')}) at {command.control_rate_hz:g} Hz, "
            f"{command.frame_skip} per model step of {embodiment.step_s:g} s; {len(joints)} joints.",
        ],
        embodiment=embodiment, overview=overview, commands=commands, unit=command.unit, joints=joints,
        reference=reference, proprio=proprio, middle=_POSES // 2,
    )  # fmt: skip


def _told(names: Sequence[str]) -> str:
    """Names of measured entries, said once for each joint where both its position and its velocity are measured."""
    places, speeds = ([n.removesuffix(k) for n in names if n.endswith(k)] for k in ("_position", "_velocity"))
    if places == speeds and len(places) + len(speeds) == len(names):
        return f"position and velocity of {', '.join(places)}"
    return ", ".join(names)


def _sweep(simulation: Simulation, index: int, name: str, low: float, high: float, unit: str) -> dict[str, Any]:
    """One joint from end to end, all others at home."""
    model = simulation.model
    values = np.linspace(low, high, _POSES)
    qpos_FQ = np.repeat(simulation.data.qpos[None], _POSES, axis=0)
    qpos_FQ[:, model.jnt_qposadr[index]] = values
    shown = simulation.camera
    small = type(shown)(shown.name, _PX, _PX, shown.position_m, shown.target_m, shown.fovy_deg)
    [frames] = draw(model, [small], qpos_FQ)
    pictures: list[Picture] = [
        picture(frame, f"{name} at {value:.2f} {unit}", quality=70) for frame, value in zip(frames, values, strict=True)
    ]
    return {"name": name, "unit": unit, "low": low, "high": high, "values": values.tolist(), "pictures": pictures}
