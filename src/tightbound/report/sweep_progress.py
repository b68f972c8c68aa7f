"""The display of a sweep: one line per run on a terminal, one line per change elsewhere."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as RichTable
from rich.text import Text

from tightbound.report.progress import Standing, observe, standing_entries

Status = Literal["waiting", "running", "finished", "failed", "stopped"]
_STYLES: Mapping[Status, str] = {"running": "bold", "failed": "bold red"}  # a line of their own


@dataclass(frozen=True)
class RunLine:
    """What is shown of one run."""

    last_step: int
    status: Status = "waiting"
    standing: Standing = field(default_factory=Standing)
    says: str = ""  # why it failed


class SweepDisplay:
    """Shows what it is told:

    with SweepDisplay({"a-seed-0": 1000}, Console(stderr=True)) as display:
        display.change("a-seed-0", "running")
        display.observe("a-seed-0", records)
    """

    def __init__(self, last_steps: Mapping[str, int], console: Console):
        self._lines = {name: RunLine(last_step) for name, last_step in last_steps.items()}
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> "SweepDisplay":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def change(self, name: str, status: Status, says: str = "") -> None:
        """A run began or ended."""
        self._lines[name] = replace(self._lines[name], status=status, says=says)
        if self._live is not None:
            self._refresh()
            return
        done = sum(line.status == "finished" for line in self._lines.values())
        told = f": {says}" if says else ""
        self._console.file.write(f"{done}/{len(self._lines)}  {name} {status}{told}\n")
        self._console.file.flush()

    def observe(self, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Take in the records of a run so far; shown on a terminal only."""
        if self._live is None:
            return
        standing = Standing()
        for record in records:
            standing = observe(standing, record)
        line = self._lines[name]
        status = "running" if line.status == "waiting" and standing.step else line.status
        self._lines[name] = replace(line, standing=standing, status=status)
        self._refresh()

    def _refresh(self) -> None:
        assert self._live is not None
        self._live.update(run_lines(self._lines), refresh=True)


def run_lines(lines: Mapping[str, RunLine]) -> RichTable:
    """Every run that is on, or has failed; the others are counted."""
    grid = RichTable.grid(padding=(0, 2))
    for name, line in lines.items():
        if line.status in _STYLES:
            grid.add_row(
                Text(name),
                ProgressBar(total=line.last_step, completed=line.standing.step, width=20),
                Text(line.status, style=_STYLES[line.status]),
                Text(line.says or line_text(line)),
            )
    counted = ("finished", "stopped", "waiting")
    counts = {status: sum(line.status == status for line in lines.values()) for status in counted}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    grid.add_row(Text(told, style="dim"))
    return grid


def line_text(line: RunLine) -> str:
    """How far it is and what it reaches, as `train` says it."""
    entries = dict(standing_entries(line.standing, line.last_step, None))
    shown = ("step", "held-out", "left")
    return "  ".join(f"{name} {entries[name]}" for name in shown if name in entries)
