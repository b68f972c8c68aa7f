"""A table is a title, columns and rows of text; text, Markdown, CSV and JSON are ways to write it."""

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from tightbound.estimators.estimate import Estimate

TableFormat = Literal["text", "markdown", "csv", "json"]
_NUMBER = re.compile(r"[-+]?(\d|nan|inf)")


@dataclass(frozen=True)
class Table:
    """What a command prints. Cells are text already: numbers are formatted where their unit is known."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self):
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"The table {self.title!r} has {len(self.columns)} columns "
                    f"({', '.join(self.columns)}), but a row has {len(row)} cells: {row}."
                )


def short_form(estimate: Estimate) -> str:
    """The value with its errors, without unit and claim: `-102.31 ± 0.52 (draws 0.01)`."""
    return str(estimate).rpartition(f" {estimate.unit}, ")[0]


def unit_and_claim(estimate: Estimate) -> str:
    """What `short_form` leaves out: `nats per sequence, lower bound`."""
    return str(estimate).removeprefix(short_form(estimate)).strip()


def noun_of(unit: str) -> str:
    """What a figure is of: "sequence" of nats per sequence; "sequence" too where the unit names none."""
    return unit.partition(" per ")[2] or "sequence"


def how_made(estimate: Estimate) -> str:
    """`elbo, 4 draws per sequence`; of what is exact, that nothing was drawn."""
    if estimate.bound == "exact":
        return "log p(x) itself, nothing drawn"
    draws = "1 draw" if estimate.num_samples == 1 else f"{estimate.num_samples} draws"
    return f"{estimate.estimator}, {draws} per {noun_of(estimate.unit)}"


def estimate_column(name: str, estimates: Sequence[Estimate | None]) -> tuple[str, tuple[str, ...]]:
    """The heading and the cells of a column of estimates; None leaves a cell empty.

    Unit and claim stand in the heading where all rows share them, and in every cell where they
    do not, so that no number is ever read in another's unit.
    """
    shared = {unit_and_claim(estimate) for estimate in estimates if estimate is not None}
    write = short_form if len(shared) == 1 else str
    heading = f"{name} ({shared.pop()})" if len(shared) == 1 else name
    return heading, tuple("" if estimate is None else write(estimate) for estimate in estimates)


def render(table: Table, table_format: TableFormat) -> str:
    """The table as text that ends in a newline."""
    match table_format:
        case "text":
            return as_text(table)
        case "markdown":
            return as_markdown(table)
        case "csv":
            return as_csv(table)
        case "json":
            return as_json(table)


def print_table(table: Table, console: Console) -> None:
    """With rules and colour on a terminal; as plain aligned lines, never wrapped, elsewhere."""
    if console.is_terminal:
        console.print(as_rich(table))
    else:
        console.file.write(as_text(table))


def as_text(table: Table) -> str:
    """Columns aligned by spaces: numbers to the right, words to the left."""
    lines = [table.columns, *table.rows]
    widths = [max(len(line[c]) for line in lines) for c in range(len(table.columns))]
    lines.insert(1, tuple("-" * width for width in widths))
    right = [is_numeric(table, c) for c in range(len(table.columns))]
    text = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join([table.title, *text] if table.title else text) + "\n"


def as_markdown(table: Table) -> str:
    """A GitHub table; `|` inside a cell is escaped and a line break becomes a space."""

    def line(cells: Sequence[str]) -> str:
        escaped = (" ".join(cell.replace("|", "\\|").splitlines()) for cell in cells)
        return f"| {' | '.join(escaped)} |"

    rule = ["---:" if is_numeric(table, c) else "---" for c in range(len(table.columns))]
    head = [f"**{table.title}**", ""] if table.title else []
    body = [line(table.columns), line(rule), *map(line, table.rows)]
    return "\n".join([*head, *body]) + "\n"


def as_csv(table: Table) -> str:
    """Columns, then rows; the title is left out."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([table.columns, *table.rows])
    return text.getvalue()


def as_json(table: Table) -> str:
    """One document: {"schema", "title", "columns", "rows"}."""
    return json.dumps({"schema": 1} | asdict(table), indent=1, ensure_ascii=False) + "\n"


def as_rich(table: Table) -> RichTable:
    """For a terminal. Cells are shown as they are: brackets in them are no markup."""
    rich_table = RichTable(title=Text(table.title) if table.title else None, title_justify="left")
    for index, column in enumerate(table.columns):
        justify = "right" if is_numeric(table, index) else "left"
        rich_table.add_column(Text(column), justify=justify)
    for row in table.rows:
        rich_table.add_row(*map(Text, row))
    return rich_table


def is_numeric(table: Table, column: int) -> bool:
    """Whether every cell of the column that is not empty begins as a number does."""
    cells = [row[column] for row in table.rows if row[column]]
    return bool(cells) and all(_NUMBER.match(cell) for cell in cells)
