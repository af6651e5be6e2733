"""Files that appear whole or not at all, and paths that stay where they belong."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from robot_wm.contracts import limits
from robot_wm.contracts.errors import UserError

_SAMPLE_BYTES = 1 << 20
_PART = ".part"


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` through a temporary file in the same folder, flushed before the rename."""
    descriptor, temporary = tempfile.mkstemp(_PART, f".{path.name}.", path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sweep(folder: Path) -> None:
    """Remove what writes that were killed have left in a folder that nobody else writes to."""
    for part in folder.rglob(f".*{_PART}"):
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON (no NaN) atomically, floats at full precision."""
    write_atomic(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON; raises UserError when the file is missing, is not JSON, or is larger than JSON ever gets here."""
    try:
        limits.refuse_over(f"the size of {path} in bytes", path.stat().st_size, limits.JSON_BYTES)
        return limits.parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist", "Check the path, or run the stage that writes it") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error})", "Restore it, or run the stage again") from None


def drop_torn_line(path: Path) -> None:
    """Cut off what follows the last line break of a file of lines: a write that was interrupted. No file, no change."""
    if path.is_file():
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(path, whole)


def confine(root: Path, relative: str) -> Path:
    """Join a path found in a file to `root`; raises UserError when it would leave that folder."""
    candidate = (root / relative).resolve()
    if not candidate.is_relative_to(root.resolve()):
        raise UserError(f"path {relative!r} leaves the folder {root}", "Use a relative path inside that folder")
    return candidate


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: Path) -> str:
    """Identity of an input: a file by content, a finished run by its manifest, a folder by what it holds.

    Files over 2 MiB inside a folder count by size, first and last MiB, so that a large dataset is named in seconds.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist", "Check the path")
    if path.is_file():
        return sha256(path)
    if (path / "manifest.json").is_file():
        return sha256(path / "manifest.json")
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path).as_posix()}\0{size}\0".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_SAMPLE_BYTES if size > 2 * _SAMPLE_BYTES else size))
            if size > 2 * _SAMPLE_BYTES:
                stream.seek(-_SAMPLE_BYTES, os.SEEK_END)
                digest.update(stream.read())
    return digest.hexdigest()
