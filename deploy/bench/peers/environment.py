"""A virtual environment for each peer, made by the benchmark: its own packages, pinned, beside the torch that is here.

Nothing but what is listed is installed, and torch is shared: every method then computes with the same build of it, and
no peer brings a second one of several GB.
"""

import fcntl
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import robot_wm
from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.errors import UserError

_MAKE_S, _INSTALL_S = 120, 900
_SHARED, _STAMP = "shared-with-robot-wm.pth", "installed.json"


@dataclass(frozen=True)
class Environment:
    """The packages of one peer.

    Attributes:
        name: of its folder.
        requirements: everything that is installed, pinned; what a package needs beyond that comes from ours.
        mib: about how much is downloaded [MiB].
    """

    name: str
    requirements: tuple[str, ...]
    mib: int

    @property
    def folder(self) -> Path:
        """Where it lives, in the user's cache."""
        return peers_folder() / self.name

    def python(self) -> Path:
        """Its interpreter; the environment is made if it is not there, which downloads packages from PyPI.

        Raises:
            UserError: it cannot be made or installed: the last line of what went wrong.
        """
        python, shared = self.folder / "bin" / "python", shared_paths()
        wanted = {"requirements": list(self.requirements), "shared": shared}
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self.folder.with_name(f"{self.name}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two parts may want it at once
            stamp = self.folder / _STAMP
            if not stamp.is_file() or files.read_json(stamp) != wanted:
                self._install(python, shared)
                files.write_json(stamp, wanted)
        return python

    def _install(self, python: Path, shared: list[str]) -> None:
        console.say(f"installing {self.requirements[0]} into {self.folder} (about {self.mib} MiB from PyPI)")
        _run([sys.executable, "-m", "venv", "--clear", str(self.folder)], _MAKE_S)
        packages = next((self.folder / "lib").glob("python3*/site-packages"))
        (packages / _SHARED).write_text("".join(f"{path}\n" for path in shared))
        words = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        _run([*words, "--no-deps", *self.requirements], _INSTALL_S)


def peers_folder() -> Path:
    """Where the environments of all peers lie."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "robot-wm" / "peers"


def shared_paths() -> list[str]:
    """Where this interpreter finds our own packages, torch and the rest."""
    installed = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    return [str(Path(robot_wm.__file__).parents[1]), *installed]


def _run(words: list[str], timeout_s: float) -> None:
    try:
        subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=True
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise UserError(f"not installed: {last_line(error.stderr, error.returncode)}", "Try again") from error
    except (subprocess.TimeoutExpired, OSError) as error:
        raise UserError(f"not installed: {str(error)[:400]}", "Try again") from error


def last_line(text: str | None, returncode: int) -> str:
    """The last line that says something, which in Python's and pip's output is the reason."""
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return lines[-1][:400] if lines else f"exit code {returncode}"


SEARCHES = Environment(
    "searches",
    (
        "pytorch-mppi==0.9.1", "pytorch-icem==0.1.0", "arm-pytorch-utilities==0.5.0", "colorednoise==2.2.0",
        "pytorch-seed==0.2.0",
    ),
    1,
)  # fmt: skip
STABLE_WORLDMODEL = Environment(
    "stable-worldmodel-0.1.1-shared",
    (
        "stable-worldmodel==0.1.1", "transformers==5.24.0", "torchvision==0.28.0", "huggingface-hub==2.4.0",
        "lancedb==0.40.0", "pylance==14.0.2", "regex==2026.11.19", "tokenizers==0.23.3", "tqdm==4.70.1",
        "einops==0.8.2", "loguru==0.7.3", "typer==0.29.2", "annotated-doc==0.0.7", "deprecation==2.1.0",
        "hf-xet==1.8.0", "httpx2==2.16.2", "httpcore2==2.16.2", "lance-namespace==0.13.0",
        "lance-namespace-urllib3-client==0.13.0", "overrides==7.7.0", "pydantic==2.14.4", "pydantic-core==2.50.5",
        "shellingham==1.5.4", "annotated-types==0.8.0", "anyio==4.16.0", "truststore==0.10.5",
        "typing-inspection==0.4.5", "h11==0.16.0", "h5py==3.16.0", "hdf5plugin==7.1.0",
    ),
    300,
)  # fmt: skip
