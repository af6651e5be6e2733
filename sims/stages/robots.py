"""robots: which bodies there are, what they take, and how they look."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_wm import console
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.files import write_atomic
from sims import catalog, contacts, drafting, menagerie, pictures, robots, scenes, soundness

_ARMS, _COLUMNS, _BODY_COLUMNS = 24, 6, 4


@dataclass(frozen=True)
class RobotsConfig:
    """What to show; `folders` are the user's own, from --config-dir."""

    robot: str | None = None
    out: str = "robots"
    size: int = 320
    sheet: str | None = None
    yaml: str | None = None
    download: bool = False
    folders: tuple[str, ...] = ()


def show(config: RobotsConfig) -> Path:
    """Print a table of all robots, or one in detail, or draw a sheet of arms; returns the picture.

    Raises:
        UserError: an unknown robot or sheet, a package or download that is missing, a faulty model, or no GL backend.
    """
    if config.size < 1:
        raise UserError(f"robots: size is {config.size}", "It must be positive")
    folders = [Path(folder) for folder in config.folders]
    if config.sheet not in (None, "arms"):
        raise UserError(f"robots: sheet is {config.sheet!r}", "There is one of arms: sheet=arms")
    if config.sheet:
        return _arms(config)
    if not config.robot:
        return _all(config, folders)
    if config.download:
        kind, _, rest = config.robot.partition("/")
        if kind != catalog.MENAGERIE or not rest:
            raise UserError(f"robots: {config.robot} cannot be downloaded", "Only menagerie/NAME can")
        console.say(f"in {menagerie.download(rest.partition('/')[0])}")
    return _detail(config, catalog.find(config.robot, folders))


def _all(config: RobotsConfig, folders: Sequence[Path]) -> Path:
    """Table and pictures of the named bodies; where nothing renders, the table comes before the error."""
    rows: list[list[str]] = []
    captions: list[str] = []
    images: list[NDArray[np.uint8]] = []
    undrawn: UserError | None = None
    for name, path in catalog.named(folders).items():
        body = catalog.read(path)
        missing = catalog.missing(body)
        if missing:
            rows.append([name, "", "", "", missing])
            continue
        with robots.load(body) as simulation:
            command = simulation.command
            within = f"{min(command.low):.3g} to {max(command.high):.3g} {command.unit}"
            commands = f"{command.dim} × {command.interface.replace('end_effector', 'hand')}"
            rows.append([name, str(_movable(simulation.model)), commands, within, _source(body)])
            captions.append(f"{name}: {command.dim} commands")
            try:
                images.append(simulation.frame(config.size, config.size))
            except UserError as error:
                undrawn = error
    console.table("Robots", ["name", "joints", "commands", "within", "from"], rows)
    others = menagerie.names()
    console.say(
        f"menagerie/NAME: {len(others)} robots of MuJoCo Menagerie ({', '.join(others[:6])}, …)"
        if others
        else "menagerie/NAME: robots of MuJoCo Menagerie, after pip install mujoco-menagerie"
    )
    console.say("robot-wm robots NAME shows every joint and limit of one, and its picture.")
    console.say("procedural/SEED: an arm that is drawn at random. Or a path to your own MJCF, URDF or yaml.")
    if undrawn is not None:
        raise undrawn
    return _saved(config, "bodies", images, captions, _BODY_COLUMNS)


def _detail(config: RobotsConfig, embodiment: Embodiment) -> Path:
    with robots.load(embodiment) as simulation:
        command, model = simulation.command, simulation.model
        x, y, z = simulation.end_effector().tolist()
        console.say(
            f"{embodiment.name}: {_source(embodiment)}; {embodiment.end_effector} at home at"
            f" ({x:.3f}, {y:.3f}, {z:.3f}) m; {embodiment.control_rate_hz:g} commands/s, {embodiment.frame_skip} per"
            f" model step of {embodiment.step_s:g} s"
        )
        rows = [
            [name, f"{low:.4g}", f"{high:.4g}", f"{step:.4g}"]
            for name, low, high, step in zip(command.names, command.low, command.high, command.max_step, strict=True)
        ]
        console.table(
            f"Commands: {command.interface} [{command.unit}]", ["name", "low", "high", "largest change"], rows
        )
        console.table("Joints", ["name", "kind", "low", "high", "driven"], _joints(model))
        for one, other, depth_m in contacts.inside_each_other(simulation):
            console.say(
                f"warning: at home {one} and {other} stand {1e3 * depth_m:.0f} mm inside each other: a joint between "
                "them may be stuck. Move one of their geoms, or take their contact out (<exclude>)"
            )
        size = config.size
        path = Path(config.out) / f"{embodiment.name}.png"
        pictures.save(simulation.frame(size, size), path)
    if config.yaml:
        place = Path(config.yaml)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(place, drafting.to_yaml(replace(embodiment, name=place.stem), place).encode())
        console.say(f"embodiment: {place}")
    return path


def _joints(model: mujoco.MjModel) -> list[list[str]]:
    driven, rows = _driven(model), []
    for i in range(model.njnt):
        kind = mujoco.mjtJoint(model.jnt_type[i]).name.removeprefix("mjJNT_").lower()
        low, high = (f"{v:.4g}" for v in model.jnt_range[i]) if model.jnt_limited[i] else ("", "")
        name = model.joint(i).name or f"of {model.body(model.jnt_bodyid[i]).name or 'a body without name'}"
        rows.append([name, kind, low, high, "yes" if i in driven else ""])
    return rows


def _driven(model: mujoco.MjModel) -> set[int]:
    through_joint = model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT
    return set(model.actuator_trnid[through_joint, 0].tolist())


def _movable(model: mujoco.MjModel) -> int:
    return int(np.isin(model.jnt_type, (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)).sum())


def _source(embodiment: Embodiment) -> str:
    return embodiment.environment or embodiment.mjcf.package or embodiment.mjcf.path


def _arms(config: RobotsConfig) -> Path:
    images, captions = [], []
    for seed in console.track(range(_ARMS), "arms"):
        scene = scenes.sample(seed)
        images.append(pictures.overview(scene, config.size))
        sound = "" if not soundness.check(scene, seconds=2.0) else " (faulty)"
        hangs = ", hanging" if scene.arm.hangs else ""
        captions.append(f"{seed}: {len(scene.arm.kinds)} joints, {scene.arm.tool.kind}{hangs}{sound}")
    return _saved(config, "arms", images, captions, _COLUMNS)


def _saved(config: RobotsConfig, name: str, images: list[NDArray[np.uint8]], captions: list[str], columns: int) -> Path:
    path = Path(config.out) / f"{name}.png"
    pictures.save(pictures.sheet(images, captions, columns), path)
    return path
