"""Which robots there are: names to embodiments, and what of it is installed."""

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from robot_wm.contracts.config import configs_dir, from_mapping
from robot_wm.contracts.embodiment import Embodiment, Mjcf
from robot_wm.contracts.errors import UserError
from robot_wm.data import yamls
from sims import drafting, menagerie, models

MENAGERIE = "menagerie"
_MODEL_FILES = (".xml", ".urdf", ".mjcf")


def named(folders: Sequence[Path] = ()) -> dict[str, Path]:
    """The yaml of every body that has a name, shipped or in the user's own folders."""
    return {p.stem: p for root in (configs_dir(), *folders) for p in sorted((root / "embodiment").glob("*.yaml"))}


def find(robot: str, folders: Sequence[Path] = ()) -> Embodiment:
    """The embodiment of a name, `menagerie/NAME[/ENTRY]`, `procedural/SEED`, a yaml, or a MJCF or URDF file.

    Where there is no yaml one is drafted from the model.

    Raises:
        UserError: nothing goes by that name (with the names there), or its yaml or model is faulty.
    """
    known = named(folders)
    if robot in known:
        return read(known[robot])
    kind, _, rest = robot.partition("/")
    if kind == MENAGERIE and rest:
        name, _, entry = rest.partition("/")
        return drafting.draft(name, Mjcf(menagerie.entry(name, entry), menagerie.PACKAGE))
    if kind == models.PROCEDURAL and rest:
        return drafting.draft_procedural(rest)
    path = Path(robot).expanduser()
    if path.suffix == ".yaml" and path.is_file():
        return read(path)
    if path.suffix in _MODEL_FILES:
        return drafting.draft(path.stem, Mjcf(robot))
    raise UserError(
        f"robot {robot!r} is not known",
        f"Robots there: {', '.join(known)}; {MENAGERIE}/NAME, {models.PROCEDURAL}/SEED, or a path to a MJCF, URDF or"
        " yaml",
    )


def read(path: Path) -> Embodiment:
    """An embodiment's yaml; a MJCF that stands beside it is named relative to it.

    Raises:
        UserError: it is no yaml, or not an embodiment's.
    """
    embodiment = from_mapping(Embodiment, yamls.read(path) or {}, str(path))
    beside = path.parent / embodiment.mjcf.path
    if embodiment.mjcf.package is None and beside.is_file():
        return replace(embodiment, mjcf=replace(embodiment.mjcf, path=str(beside)))
    return embodiment


def missing(embodiment: Embodiment) -> str:
    """What the user has to do before the body can be loaded; empty when nothing."""
    package = embodiment.mjcf.package
    if package in (None, models.PROCEDURAL, menagerie.PACKAGE) or importlib.util.find_spec(str(package)):
        return ""
    return models.install_line(str(package))
