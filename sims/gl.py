"""The OpenGL backend for headless rendering: chosen in one place, before mujoco is imported."""

import functools
import importlib
import os
import subprocess
import sys
from typing import Any

from robot_wm.contracts.errors import UserError

CANDIDATES = ("egl", "osmesa")  # EGL first: it finds a GPU where there is one, and software rendering where not
_VARIABLE = "MUJOCO_GL"
_OTHERS = ("glfw", "glx", "enable", "enabled", "on", "true", "1", "disable", "disabled", "off", "false", "0")
_CONTEXT_PX = (16, 16)  # frames go to buffers of their own size
_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco/>")
with mujoco.Renderer(model, 16, 16) as renderer:
    renderer.update_scene(mujoco.MjData(model))
    renderer.render()
"""


def prepare() -> None:
    """Set MUJOCO_GL, unless the user or a parent process has; says nothing when no backend works.

    Physics needs no backend. The first frame does, and `choose_backend` explains then.

    Raises:
        UserError: MUJOCO_GL is something with which mujoco cannot even be imported.
    """
    chosen = os.environ.get(_VARIABLE, "").lower().strip()
    if sys.platform == "linux" and chosen and chosen not in (*CANDIDATES, *_OTHERS):
        raise UserError(f"MUJOCO_GL is {chosen!r}", "Set it to egl, osmesa, glfw or disable, or unset it")
    if sys.platform == "linux" and not os.environ.get(_VARIABLE):
        backend = _first_that_renders()
        if backend is not None:
            os.environ[_VARIABLE] = backend  # inherited by worker processes, which then need no probe


def choose_backend() -> str:
    """The backend that frames are drawn with: "egl", "osmesa", what the user has set, or the system's own.

    Raises:
        UserError: nothing on this machine can render.
    """
    prepare()
    chosen = os.environ.get(_VARIABLE)
    if not chosen and sys.platform == "linux":
        raise unavailable("neither EGL nor OSMesa draws a frame")
    return chosen or "default"


def new_context() -> Any:
    """A context of the chosen backend, even when someone imported mujoco before MUJOCO_GL was set.

    Raises:
        UserError: the backend cannot make one.
    """
    backend = choose_backend()
    try:
        if backend in CANDIDATES:
            return importlib.import_module(f"mujoco.{backend}").GLContext(*_CONTEXT_PX)
        return importlib.import_module("mujoco").GLContext(*_CONTEXT_PX)
    except AttributeError:  # MUJOCO_GL=disable, or EGL without its library
        raise unavailable("it offers no context") from None
    except (RuntimeError, ImportError) as error:
        raise unavailable(error) from None


def unavailable(reason: object) -> UserError:
    """The error for a machine, or a MUJOCO_GL, that cannot render."""
    chosen = os.environ.get(_VARIABLE)
    problem = f"MUJOCO_GL={chosen} cannot render" if chosen else "no OpenGL backend can render without a screen"
    remedy = "Run apt-get install -y libegl1 libosmesa6"
    return UserError(f"{problem} ({reason})", remedy + (", or unset MUJOCO_GL" if chosen else ""))


@functools.cache
def _first_that_renders() -> str | None:
    return next((backend for backend in CANDIDATES if _renders(backend)), None)


def _renders(backend: str) -> bool:
    """Draw one frame in a process of its own: a failed backend cannot be taken back out of this one."""
    environment = {**os.environ, _VARIABLE: backend, "PYOPENGL_PLATFORM": backend}
    try:
        done = subprocess.run([sys.executable, "-c", _PROBE], env=environment, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
