"""A page of `view`: a template of this folder in the house's frame."""

from pathlib import Path
from typing import Any

from robot_wm.page.page import write_page


def write(path: Path, template: str, script: str | None = None, **context: Any) -> Path:
    """Write the page; see robot_wm.page.page.write_page."""
    return write_page(path, "deploy.view", template, "view.css", script=script, **context)
