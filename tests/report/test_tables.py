import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tightbound.estimators.estimate import Estimate
from tightbound.report.tables import (
    Table,
    as_csv,
    as_json,
    as_markdown,
    as_text,
    estimate_column,
    print_table,
    render,
    short_form,
    unit_and_claim,
)

TABLE = Table("Runs", ("name", "bound"), (("a|b", "-1.50 ± 0.20"), ('c, "d"', "-12.00 ± 0.10")))


def an_estimate(value, unit="nats per sequence", bound="lower"):
    return Estimate(value, 0.52, 0.013, unit, bound, "elbo", 4, "test")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_csv_and_json_read_back_are_the_table(rows):
    """Oracle: the standard library's own readers, on any text."""
    rows = [tuple(cell.replace("\r", " ").replace("\0", " ") for cell in row) for row in rows]
    table = Table("any", ("first", "second"), tuple(rows))
    read = [tuple(row) for row in csv.reader(io.StringIO(as_csv(table), newline=""))]
    assert read == [table.columns, *table.rows]
    document = json.loads(as_json(table))
    assert (document["schema"], document["title"]) == (1, "any")
    assert [tuple(row) for row in document["rows"]] == rows


def test_markdown_keeps_one_line_per_row_and_its_columns():
    """A bar or a line break in a cell does not make another column or row."""
    table = Table("", ("a", "b"), (("x|y", "two\nlines"),))
    assert as_markdown(table) == "| a | b |\n| --- | --- |\n| x\\|y | two lines |\n"


def test_text_is_aligned_with_numbers_to_the_right():
    """Oracle: the page as a person would type it."""
    assert as_text(TABLE).splitlines() == [
        "Runs",
        "name            bound",
        "------  -------------",
        "a|b      -1.50 ± 0.20",
        'c, "d"  -12.00 ± 0.10',
    ]


def test_a_stream_that_is_no_terminal_gets_plain_unwrapped_lines():
    """Oracle: `as_text`, however narrow the console says it is."""
    stream = io.StringIO()
    print_table(TABLE, Console(file=stream, width=8))
    assert stream.getvalue() == as_text(TABLE)


def test_a_terminal_shows_cells_as_they_are_brackets_included():
    """Brackets in a cell are no markup: rich would swallow `[bold]`."""
    stream = io.StringIO()
    table = Table("[t]", ("[c]",), (("[bold]x[/bold]",),))
    print_table(table, Console(file=stream, width=80, force_terminal=True))
    assert all(text in stream.getvalue() for text in ("[t]", "[c]", "[bold]x[/bold]"))


def test_an_estimate_is_its_short_form_and_its_unit_and_claim():
    """Identity: joined, they are the estimate as it prints itself."""
    for estimate in (
        an_estimate(-102.3),
        an_estimate(float("nan")),
        an_estimate(2.0, "perplexity"),
    ):
        assert f"{short_form(estimate)} {unit_and_claim(estimate)}" == str(estimate)
    assert short_form(an_estimate(-102.3)) == "-102.30 ± 0.52 (draws 0.013)"


def test_a_unit_stands_in_the_heading_only_where_all_rows_share_it():
    """A column that mixes units or claims says them in every cell: none is read in another's unit."""
    same = [an_estimate(-1.0), None, an_estimate(-2.0)]
    heading, cells = estimate_column("bound", same)
    assert heading == "bound (nats per sequence, lower bound)"
    assert cells == (short_form(same[0]), "", short_form(same[2]))
    mixed = [an_estimate(-1.0), an_estimate(-1.0, bound="none")]
    assert estimate_column("bound", mixed) == ("bound", tuple(map(str, mixed)))


@pytest.mark.parametrize("table_format", ["text", "markdown", "csv", "json"])
def test_every_format_has_every_cell_and_ends_its_last_line(table_format):
    """Also of a table without rows."""
    text = render(TABLE, table_format)
    assert text.endswith("\n")
    assert all(cell in text for cell in ("bound", "-1.50 ± 0.20", "-12.00 ± 0.10"))
    assert "name" in render(Table("", ("name",), ()), table_format)


def test_a_row_of_another_length_is_refused():
    """The sentence names the table and the row."""
    with pytest.raises(ValueError, match=r"'Runs' has 2 columns \(a, b\), but a row has 1 cells"):
        Table("Runs", ("a", "b"), (("x",),))
