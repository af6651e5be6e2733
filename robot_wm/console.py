"""What people see while a stage runs: short lines, progress with rate and time left, tables. Everything on stderr."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

T = TypeVar("T")
_console = Console(stderr=True, highlight=False)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f}/s" if speed else "", style="dim")


class Bar:
    """A running progress bar."""

    def __init__(self, progress: Progress, task: Any):
        self._progress, self._task = progress, task

    def advance(self, count: int = 1, note: str = "") -> None:
        """Move on by `count`; `note` is shown at the end of the line (a loss, say)."""
        self._progress.update(self._task, advance=count, note=note)


@contextlib.contextmanager
def shown(quiet: bool = False, color: bool = True) -> Iterator[None]:
    """How much is shown meanwhile: `quiet` leaves out all but errors; without `color` it is as under NO_COLOR."""
    before = _console.quiet, _console.no_color
    _console.quiet, _console.no_color = before[0] or quiet, before[1] or not color
    try:
        yield
    finally:
        _console.quiet, _console.no_color = before


def is_quiet() -> bool:
    """Whether nothing but errors is shown."""
    return _console.quiet


def terminal() -> Console | None:
    """The console, where a person looks at it: None if it is no terminal, or is to be quiet."""
    return _console if _console.is_terminal and not _console.quiet else None


def say(text: str) -> None:
    """One line for the user."""
    _console.print(text, markup=False, soft_wrap=True)


@contextlib.contextmanager
def progress(description: str, total: int | None, done: int = 0) -> Iterator[Bar]:
    """A progress bar with rate and time left; `done` counts what an earlier run had finished."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=_console, refresh_per_second=4) as bar:  # drawn by the cores that work
        yield Bar(bar, bar.add_task(description, total=total, completed=done, note=""))


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a progress bar."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress(description, total) as bar:
        for item in items:
            yield item
            bar.advance()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table of already formatted values."""
    say(title)
    shown = Table()
    for column in columns:
        shown.add_column(Text(column), overflow="fold")  # as text, or a unit in brackets is taken for markup
    for row in rows:
        shown.add_row(*(Text(str(value)) for value in row))
    _console.print(shown)
