"""Puts the generated reference into the site: pages of every command and key, written by deploy.reference."""

import re
from typing import Any

from mkdocs.structure.files import File, Files

from deploy import cli, reference
from deploy.request import typed

_MARK = re.compile(r"<!-- (?P<by>run|make docs-run|not run)(?:: (?P<note>.+?))? -->")
_SHOWN = {
    "run": '<small title="at a tiny size">▸ run by the tests{}</small>\n',
    "make docs-run": '<small title="at a tiny size">▸ run by make docs-run{}</small>\n',
    "not run": "<small>▹ not run{}</small>\n",
}


def on_config(config: Any) -> Any:
    """Fill the entry `Commands` of the navigation, which mkdocs.yml leaves empty."""
    pages = [{typed(name): f"reference/commands/{name}.md"} for name in (*cli.STAGES, *cli.OTHERS)]
    _fill(config.nav, [{"All of them": "reference/commands/index.md"}, *pages])
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    for path, text in reference.pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What runs a block of commands is a comment in the source (tests/documentation.py); the reader sees a line."""
    return _MARK.sub(lambda mark: _SHOWN[mark["by"]].format(f": {mark['note']}" if mark["note"] else ""), markdown)


def _fill(nav: list[Any], pages: list[dict[str, str]]) -> None:
    for entry in nav:
        for title, below in entry.items() if isinstance(entry, dict) else ():
            if title == "Commands":
                entry[title] = pages
            elif isinstance(below, list):
                _fill(below, pages)
