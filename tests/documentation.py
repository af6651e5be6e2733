"""The documentation as tests see it: fenced blocks, the commands in them, and what runs them.

A comment on the line before a block of commands says what runs it; the site shows it to the reader (docs/hooks.py):

- `<!-- run -->`: the tests, at a tiny size;
- `<!-- make docs-run -->`: that target, likewise; after a colon, what is different there;
- `<!-- not run: REASON -->`: nothing, because it needs what a test has not.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.request import command

REPOSITORY = Path(__file__).resolve().parents[1]
TESTS, DOCS_RUN, NOT_RUN = "run", "make docs-run", "not run"
_MARK = re.compile(rf"^<!-- (?P<by>{TESTS}|{DOCS_RUN}|{NOT_RUN})(?:: (?P<note>.+))? -->$")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\s*$")
_ASSIGNED = re.compile(r"^(?P<name>[A-Z]+)=\$\((?P<command>.*)\)$")
_LITERAL = re.compile(r"^(?P<name>[A-Z]+)=\"(?P<value>[^\"]*)\"$")


@dataclass(frozen=True)
class Block:
    """A fenced block: where, in which language, under which file name, and what runs it (with which remark)."""

    page: str
    line: int
    language: str
    title: str
    by: str
    note: str
    text: str

    @property
    def holds_commands(self) -> bool:
        """Whether a reader would type it into a shell."""
        return self.language in ("", "bash", "sh")


@dataclass(frozen=True)
class Line:
    """One command: its words, and the shell variable that takes what it prints."""

    page: str
    words: tuple[str, ...]
    variable: str


def pages() -> list[Path]:
    """Every page that a user reads, but the log and decisions, which tell of what was once done."""
    found = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("examples/*/README.md"))]
    return found + [
        page
        for page in sorted((REPOSITORY / "docs").rglob("*.md"))
        if page.name not in ("log.md", "results.md") and page.parent.name != "decisions"
    ]


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, dedented."""
    opened: tuple[int, re.Match[str], re.Match[str] | None] | None = None
    lines: list[str] = []
    before = ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None and fence:
            opened, lines = (number, fence, _MARK.match(before.strip())), []
        elif opened is not None and line.strip() == "```":
            number, start, mark = opened
            name = page.relative_to(REPOSITORY).as_posix()
            by, note = (mark["by"], mark["note"] or "") if mark else ("", "")
            yield Block(name, number, start["language"], start["title"] or "", by, note, "\n".join(lines))
            opened = None
        elif opened is not None:
            lines.append(line.removeprefix(opened[1]["indent"]))
        if line.strip():
            before = line


def commands(block: Block, known: dict[str, str]) -> Iterator[Line]:
    """The `robot-wm` and `make` lines of a shell block; `known` are shell variables, and gains those that it sets."""
    if not block.holds_commands:
        return
    for line in block.text.replace("\\\n", " ").splitlines():
        literal = _LITERAL.match(line.strip())
        if literal:
            known[literal["name"]] = literal["value"]
            continue
        text, variable = line.strip(), ""
        assigned = _ASSIGNED.match(text)
        if assigned:
            text, variable = assigned["command"], assigned["name"]
        for name in sorted(known, key=len, reverse=True):
            text = text.replace(f"${name}", known[name])
        if not text.startswith(("robot-wm ", "make ")):
            continue
        text = text.replace("...", "x").replace("…", "x")
        words = shlex.split(text.partition(" > ")[0], comments=True)
        if variable:
            known[variable] = f"runs/{command(words[1:])[0]}/RUN"
        yield Line(block.page, tuple(words), variable)
