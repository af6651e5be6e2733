"""What every page that we write shares: its frame, its style, and a policy that lets no request leave it."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from robot_wm.contracts import files

STYLE = Path(__file__).parent / "style.css"


def write_page(
    path: Path, package: str, template: str, *beside: str, script: str | None = None, **context: Any
) -> Path:
    """Render a template that extends `base.html` to `path`, atomically; returns `path`.

    Args:
        path: the page; its folder is made.
        package: the Python package whose folder holds the template, and the files below.
        template: its file name.
        beside: file names of style sheets that the page adds to the house style.
        script: file name of the page's script, if it has one.
        context: what the template shows. It cannot hold markup unless it says so (markupsafe).
    """
    own = PackageLoader(package, ".")
    environment = Environment(
        loader=ChoiceLoader([own, PackageLoader("robot_wm.page", ".")]), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["duration"] = duration

    def text(name: str) -> str:
        return own.get_source(environment, name)[0]

    page = environment.get_template(template).render(
        style=Markup("\n".join([STYLE.read_text(encoding="utf-8"), *map(text, beside)])),  # our own files
        script=Markup(text(script)) if script else "",
        **context,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, with_policy(page).encode("utf-8"))
    return path


def duration(seconds: float) -> str:
    """Seconds as people say them, in one piece (the spaces do not break)."""
    if seconds < 120:
        return f"{seconds:.1f}\u00a0s" if seconds < 10 else f"{seconds:.0f}\u00a0s"
    return f"{int(seconds // 60)}\u00a0min {int(seconds % 60):02d}\u00a0s"


def with_policy(page: str) -> str:
    """Allow what is inside the page and nothing else: no request can leave it, whatever a dataset's name may hold."""
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(s.encode("utf-8")).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{d}'" for d in digests)
    policy = (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'"
    )
    return page.replace("POLICY", policy, 1)
