"""Run folders: one per stage execution, found again by what went in, whole only with a manifest."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from robot_wm.contracts import config as contract_config
from robot_wm.contracts import files
from robot_wm.contracts.errors import UserError

MANIFEST = "manifest.json"
SCHEMA = 1
CONFIG = "config.json"
_OWN_FILES = {".lock", CONFIG, "metrics.jsonl"}  # nothing can be resumed from these alone
_NAME = re.compile(r"[\w. -]{1,100}")
_DISTRIBUTIONS = ("robot-wm", "numpy", "torch", "mujoco", "gymnasium-robotics", "onnx", "opencv-python", "av")


@dataclass(frozen=True)
class Artifact:
    """A file or folder that went in or came out, with its SHA-256 fingerprint."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a finished run declares; written last."""

    schema: int
    stage: str
    name: str
    created_utc: str
    wall_s: float
    command: str
    config: dict[str, Any]
    seed: int | None
    inputs: dict[str, Artifact]
    outputs: dict[str, Artifact]
    gates: dict[str, Any]
    metrics: dict[str, Any]
    versions: dict[str, str]
    git_revision: str | None
    machine: str
    embodiment_sha256: str | None = None

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise UserError(
                f"manifest schema is {self.schema}", f"This version reads {SCHEMA}; remove the run, run again"
            )


@dataclass
class Run:
    """A run folder that is open for writing, or one that was already complete.

    Attributes:
        path: the folder.
        complete: a run with the same stage, config and inputs had finished; nothing is left to do.
        resumed: an interrupted run with the same identity was found, with whatever it had saved.
    """

    path: Path
    stage: str
    name: str
    config: dict[str, Any]
    inputs: dict[str, Artifact]
    complete: bool
    resumed: bool
    _started_s: float = field(default_factory=time.monotonic)

    def log(self, **values: Any) -> None:
        """Append one line to metrics.jsonl (flushed; a line that a kill tore is dropped when the run is resumed)."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def add_input(self, name: str, path: Path) -> None:
        """Note a run that was made on the way, from the inputs that this one is known by."""
        self.inputs[name] = Artifact(str(path), files.fingerprint(path))

    def finish(
        self,
        outputs: list[str],
        metrics: Mapping[str, Any] | None = None,
        gates: Mapping[str, Any] | None = None,
        embodiment_sha256: str | None = None,
    ) -> None:
        """Write the manifest: from here on the run counts. `outputs` are paths inside the run folder."""
        manifest = Manifest(
            schema=SCHEMA,
            stage=self.stage,
            name=self.name,
            created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            wall_s=round(time.monotonic() - self._started_s, 3),
            command=shlex.join(["robot-wm", *sys.argv[1:]]),
            config=self.config,
            seed=self.config.get("seed"),
            inputs=self.inputs,
            outputs={o: Artifact(o, files.fingerprint(files.confine(self.path, o))) for o in outputs},
            gates=dict(gates or {}),
            metrics=dict(metrics or {}),
            versions=versions(),
            git_revision=git_revision(),
            machine=machine(),
            embodiment_sha256=embodiment_sha256,
        )
        files.write_json(self.path / MANIFEST, contract_config.to_mapping(manifest))
        self.complete = True


@contextlib.contextmanager
def open_run(
    root: Path, stage: str, name: str, config: Any, inputs: Mapping[str, Path] | None = None, shared: bool = False
) -> Iterator[Run]:
    """Open the run folder `root/<stage>/<utc>-<name>-<hash>/` for the given work.

    The hash covers stage, config (a frozen dataclass or mapping) and the fingerprints of all inputs, so that the same
    work finds its own folder again: finished (`run.complete`) or interrupted (`run.resumed`). A folder from which
    nothing can be resumed is removed when the work fails.

    With `shared`, several processes may hold the folder at a time, each for its part of the work; who finishes the run
    then holds it alone.

    Raises:
        UserError: a name that is no file name, a seed out of range, an input that does not exist, or another process
            holds the folder.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"name is {name!r}", "Give 1 to 100 letters, digits, spaces or any of . _ -")
    values = contract_config.to_mapping(config)
    seed = values.get("seed") or 0
    if not 0 <= seed < 1 << 32:
        raise UserError(f"seed is {seed}", "Give 0 to 4294967295")
    artifacts = {k: Artifact(str(p), files.fingerprint(p)) for k, p in (inputs or {}).items()}
    named = {key.rstrip("0123456789") for key in artifacts}  # data0, data1 are the entries of data
    identity = {
        "stage": stage,
        "config": {k: v for k, v in values.items() if k not in ("out", "name", *named)},
        "inputs": {k: a.sha256 for k, a in artifacts.items()},
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]
    folder = root / stage
    folder.mkdir(parents=True, exist_ok=True)
    creating = _lock_folder(folder)  # or two processes at once make a folder each for the same work
    found = sorted(folder.glob(f"*-{digest}"), key=lambda p: (not (p / MANIFEST).is_file(), p.name))
    path = found[0] if found else folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{name}-{digest}"
    path.mkdir(exist_ok=True)
    os.close(creating)
    lock = _lock(path, shared)
    try:
        complete = (path / MANIFEST).is_file()
        if found and not complete and not shared:
            files.sweep(path)
        if not complete:  # a finished run keeps what it says of itself, such as the name it was made under
            files.write_json(path / CONFIG, values)
            files.drop_torn_line(path / "metrics.jsonl")
        yield Run(path, stage, name, values, artifacts, complete, bool(found))
    except BaseException:
        if not shared:
            _remove_unless_resumable(path)
        raise
    finally:
        os.close(lock)


def read_run(path: Path, stage: str | None = None) -> Manifest:
    """Read a finished run's manifest.

    Raises:
        UserError: not a run, an unfinished run, or a run of another stage.
    """
    if not (path / MANIFEST).is_file():
        raise UserError(f"{path} is not a finished run (no {MANIFEST})", f"Run the stage {stage or ''} to its end")
    manifest = contract_config.from_mapping(Manifest, files.read_json(path / MANIFEST), str(path / MANIFEST))
    if stage is not None and manifest.stage != stage:
        raise UserError(f"{path} is a {manifest.stage} run", f"Give a {stage} run")
    return manifest


def artifact(path: Path, name: str, stage: str) -> Path:
    """The path of an output of a finished run, checked against the manifest's SHA-256."""
    manifest = read_run(path, stage)
    if name not in manifest.outputs:
        raise UserError(f"{path} has no output {name!r}", f"It has: {', '.join(manifest.outputs)}")
    found = files.confine(path, name)
    if files.fingerprint(found) != manifest.outputs[name].sha256:
        raise UserError(
            f"{found} is truncated or altered (SHA-256 differs)", f"Remove {path} and run the stage {stage} again"
        )
    return found


def dataset_folder(path: Path) -> Path:
    """A dataset given directly, or as the run that wrote it (its `dataset/` folder)."""
    return path / "dataset" if (path / MANIFEST).is_file() and (path / "dataset").is_dir() else path


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on."""
    found = {"python": platform.python_version()}
    for distribution in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[distribution] = importlib.metadata.version(distribution)
    return found


def git_revision() -> str | None:
    """Revision of the source tree, with `+` when it has uncommitted changes; None outside a checkout."""
    source = Path(__file__).resolve().parents[2]
    git = ["git", "-C", str(source)]
    try:
        revision = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return revision.stdout.strip() + ("+" if status.stdout.strip() else "")


def machine() -> str:
    """One line that names the machine a number was measured on."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def in_progress(path: Path) -> bool:
    """Whether a process is writing the run folder right now."""
    if not (path / ".lock").is_file():
        return False
    try:
        os.close(_lock(path, shared=True))
    except UserError:
        return True
    return False


def _lock_folder(folder: Path) -> int:
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _lock(path: Path, shared: bool) -> int:
    import fcntl  # absent on Windows, where a robot reads runs and writes none

    descriptor = os.open(path / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"another process is writing {path}", "Wait for it, or change name or seed") from None
    return descriptor


def _remove_unless_resumable(path: Path) -> None:
    saved = (p for p in path.rglob("*") if p.is_file() and p.relative_to(path).as_posix() not in _OWN_FILES)
    if next(saved, None) is None:
        shutil.rmtree(path, ignore_errors=True)
