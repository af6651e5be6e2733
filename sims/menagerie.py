"""Robots of MuJoCo Menagerie: under MENAGERIE_ROOT, or in the cache of the package `mujoco-menagerie`.

Nothing is downloaded unless the user asks for it by `download`.
"""

import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any

from robot_wm.contracts.errors import UserError

PACKAGE = "mujoco_menagerie"
_ROOT = "MENAGERIE_ROOT"
_SCENE = "scene.xml"  # Menagerie's name for a robot with floor and light
_MB = 2**20


def names() -> list[str]:
    """Every robot that can be named: the folders under MENAGERIE_ROOT, else those that the package knows."""
    root = _root()
    if root is not None:
        return sorted(p.name for p in root.iterdir() if p.is_dir() and any(p.glob("*.xml")))
    return list(_package().names()) if importlib.util.find_spec(PACKAGE) else []


def folder(robot: str) -> Path:
    """Where the robot's files are.

    Raises:
        UserError: an unknown robot (with the names there), one that is not downloaded, or no package to ask.
    """
    root = _root()
    if root is not None:
        if robot not in names():
            raise UserError(f"no robot {robot!r} under {_ROOT}={root}", f"Robots there: {_listing(names())}")
        return root / robot
    found, cache = _robot(robot), _package().Cache()
    if not cache.is_cached(found):
        raise UserError(
            f"robot {robot!r} of MuJoCo Menagerie is not on this machine ({found.download_size / _MB:.0f} MB)",
            f"Run robot-wm robots menagerie/{robot} download=true, or set {_ROOT} to a clone of mujoco_menagerie",
        )
    return Path(cache.model_path(found))


def download(robot: str) -> Path:
    """Fetch a robot's files into the package's cache, or find them there; nothing to do under MENAGERIE_ROOT.

    Raises:
        UserError: an unknown robot, or a download that failed.
    """
    if _root() is not None:
        return folder(robot)
    try:
        return Path(_robot(robot).path())
    except (_package().MenagerieError, OSError) as error:
        raise UserError(
            f"robot {robot!r} could not be downloaded: {error}",
            f"Check the network, or set {_ROOT} to a clone of github.com/google-deepmind/mujoco_menagerie",
        ) from None


def entry(robot: str, name: str = "") -> str:
    """Path of a robot's model file below the folder of all robots: the scene, or the entry of the given name."""
    place = folder(robot)
    files = sorted(p.name for p in place.glob("*.xml"))
    wanted = f"{name}.xml" if name else (_SCENE if _SCENE in files else next(iter(files), ""))
    if wanted not in files:
        raise UserError(f"{place} has no {wanted}", f"Model files there: {', '.join(files) or 'none'}")
    return f"{robot}/{wanted}"


def path(relative: str) -> Path:
    """The file that an embodiment names as `robot/file.xml`."""
    robot, _, file = relative.partition("/")
    return folder(robot) / file


def _root() -> Path | None:
    root = os.environ.get(_ROOT)
    if root and not Path(root).is_dir():
        raise UserError(f"{_ROOT}={root} is not a folder", "Set it to a clone of mujoco_menagerie, or unset it")
    return Path(root) if root else None


def _package() -> Any:
    if importlib.util.find_spec(PACKAGE) is None:
        raise UserError("package mujoco-menagerie is not installed", "Run pip install mujoco-menagerie")
    return importlib.import_module(PACKAGE)


def _robot(name: str) -> Any:
    package = _package()
    if name not in package.names():
        raise UserError(f"MuJoCo Menagerie has no robot {name!r}", f"Robots there: {_listing(package.names())}")
    return package.get(name)


def _listing(found: list[str]) -> str:
    return ", ".join(found) or "none"
