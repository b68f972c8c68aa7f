"""Parts of the page that its own sections and those of families are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from tightbound.report.tables import Table, is_numeric


@dataclass(frozen=True)
class Sections:
    """What a family adds to a report, as HTML; "" where there is nothing to show."""

    charts: str = ""  # after the latents
    drawn: str = ""  # what was drawn from the model, in place of pictures of samples
    style: str = ""  # CSS that they need


def charts_section(title: str, charts: Sequence[str], reason: str) -> str:
    if not charts:
        return f'<h2>{escape(title)}</h2><p class="soft">Not drawn: {escape(reason)}.</p>'
    return f'<h2>{escape(title)}</h2><div class="charts">{"".join(charts)}</div>'


def folded(table: Table, *, is_open: bool = False) -> str:
    state = " open" if is_open else ""
    return f"<details{state}><summary>{escape(table.title)}</summary>{table_html(table)}</details>"


def table_html(table: Table) -> str:
    """A table's rows; numbers stand to the right."""
    kinds = [' class="number"' if is_numeric(table, c) else "" for c in range(len(table.columns))]

    def line(tag: str, cells: Sequence[str]) -> str:
        cell = (f"<{tag}{k}>{escape(c)}</{tag}>" for k, c in zip(kinds, cells, strict=True))
        return f"<tr>{''.join(cell)}</tr>"

    head = line("th", table.columns) if any(table.columns) else ""
    body = "".join(line("td", row) for row in table.rows)
    return f'<div class="table"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'
