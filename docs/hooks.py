"""Puts the generated reference into the site: pages of every command and key, written by deploy.reference."""

from typing import Any

from mkdocs.structure.files import File, Files

from deploy import cli, reference


def on_config(config: Any) -> Any:
    """Fill the entry `Commands` of the navigation, which mkdocs.yml leaves empty."""
    pages = [{name: f"reference/commands/{name}.md"} for name in (*cli.STAGES, *cli.OTHERS)]
    _fill(config.nav, [{"All of them": "reference/commands/index.md"}, *pages])
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    for path, text in reference.pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Commands that the tests run are marked in the source by a comment, for the reader by a sign."""
    return markdown.replace(
        "<!-- run -->", '<small title="run by the tests, at a tiny size">▸ run by the tests</small>\n'
    )


def _fill(nav: list[Any], pages: list[dict[str, str]]) -> None:
    for entry in nav:
        for title, below in entry.items() if isinstance(entry, dict) else ():
            if title == "Commands":
                entry[title] = pages
            elif isinstance(below, list):
                _fill(below, pages)
