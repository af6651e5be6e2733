"""stable-worldmodel's Lance loader, measured in an environment of its own: its packages are not ours."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.bench.peers.environment import last_line, peers_folder
from robot_wm import console

VERSION = "0.1.1"
NAME = f"stable-worldmodel {VERSION}, Lance loader"
_NEEDED = (
    f"stable-worldmodel=={VERSION}",
    "opencv-python-headless<5",
    "imageio",
)  # it imports the last two, undeclared
_SCRIPT = Path(__file__).with_name("lance_script.py")
_MAKE_S, _INSTALL_S, _MEASURE_S = 120, 900, 600


@dataclass(frozen=True)
class Found:
    """Windows per second by size, or the reason why there are none."""

    rates: dict[int, list[float]] = field(default_factory=dict)
    reason: str = ""


def measure(films: dict[int, NDArray[np.uint8]], batch: int, window: int, folder: Path) -> Found:
    """Write each film (E, T, Y, X, C) as a Lance table and load random windows of it, by its own writer and loader.

    The environment is made at the first call, about 6 GB in the user's cache, and kept. It has a torch of its own: in
    the one that the other rows of stable-worldmodel have, beside our torch, its loader is half as fast.
    """
    try:
        python = _environment()
        for size, film in films.items():
            np.save(folder / f"film{size}.npy", film)
        request = {"sizes": list(films), "batch": batch, "window": window, "folder": str(folder)}
        console.say(f"measuring {NAME}")
        done = subprocess.run(
            [str(python), "-P", "-W", "ignore", str(_SCRIPT), json.dumps(request)],
            capture_output=True, text=True, timeout=_MEASURE_S, check=True, cwd=folder,
        )  # fmt: skip
        rates = json.loads(done.stdout.splitlines()[-1])
        return Found({int(size): values for size, values in rates.items()})
    except subprocess.CalledProcessError as error:
        return Found(reason=f"not measured ({last_line(error.stderr, error.returncode)[:120]})")
    except (subprocess.TimeoutExpired, OSError, ValueError, IndexError) as error:
        return Found(reason=f"not measured ({str(error)[:120]})")


def _environment() -> Path:
    """The interpreter of the environment; made if it is not there."""
    folder = peers_folder() / f"stable-worldmodel-{VERSION}"
    python, finished = folder / "bin" / "python", folder / "installed"
    if not finished.exists():
        console.say(f"installing {NAME} into {folder} (about 6 GB)")
        make = [sys.executable, "-m", "venv", str(folder)]
        subprocess.run(make, capture_output=True, text=True, timeout=_MAKE_S, check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", *_NEEDED]
        subprocess.run(install, capture_output=True, text=True, timeout=_INSTALL_S, check=True)
        finished.touch()
    return python
