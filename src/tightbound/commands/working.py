"""What every slow command shows while it works: one bar, on a terminal only."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from tightbound.report.progress import WorkDisplay


@contextmanager
def working(command: str, console: Console | None = None) -> Iterator[None]:
    """A bar on stderr until the block ends, gone before anything is printed; nothing where stderr is no
    terminal, and nothing more where a command that calls this one already shows its bar."""
    console = console or Console(stderr=True)
    if not console.is_terminal or WorkDisplay.is_shown():
        yield
        return
    with WorkDisplay(command, console):
        yield
