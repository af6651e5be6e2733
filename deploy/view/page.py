"""What all pages share: the template's surroundings, the house style, and a policy that lets nothing out."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from robot_wm.contracts import files
from robot_wm.page.page import STYLE, duration, with_policy

_HERE = Path(__file__).parent
_STYLES = (STYLE, _HERE / "view.css")


def write(path: Path, template: str, script: str | None = None, **context: Any) -> Path:
    """Render a template of this folder to `path`, atomically; returns `path`.

    Args:
        path: the page.
        template: its file name here.
        script: file name of the page's script here, if it has one.
        context: what the template shows.
    """
    environment = Environment(
        loader=PackageLoader("deploy.view", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["duration"] = duration
    page = environment.get_template(template).render(
        style=Markup("\n".join(style.read_text(encoding="utf-8") for style in _STYLES)),  # our own files
        script=Markup((_HERE / script).read_text(encoding="utf-8")) if script else "",
        **context,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, with_policy(page).encode("utf-8"))
    return path
