"""Append-only files of JSON lines: what was appended stays, what was cut off in the middle never counts."""

import json
import os
from pathlib import Path
from typing import Any

from robot_wm.contracts import files, limits
from robot_wm.contracts.errors import UserError


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines; a torn last line is removed from the file. Empty if there is no file.

    Raises:
        UserError: a line that is not JSON.
    """
    if not path.is_file():
        return []
    files.drop_torn_line(path)
    try:
        return [limits.parse_json(line) for line in path.read_bytes().splitlines()]
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error})", "Remove its folder and start again") from None


def append(path: Path, *lines: dict[str, Any]) -> None:
    """Add lines, all or none; they are on disk when this returns."""
    with path.open("ab") as file:
        end = file.tell()
        try:
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, end)
            raise
