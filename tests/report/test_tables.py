import csv
import io
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tightbound.estimators.estimate import Estimate
from tightbound.files.printed import printable
from tightbound.report.tables import (
    Table,
    as_csv,
    as_json,
    as_markdown,
    as_rich,
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
    """Oracle: the standard library's own readers, on any text; what a terminal or a spreadsheet would obey
    is changed in CSV alone."""
    table = Table("any", ("first", "second"), tuple(rows))
    read = [tuple(row) for row in csv.reader(io.StringIO(as_csv(table), newline=""))]
    shown = [tuple(map(printable, row)) for row in rows]
    assert [tuple(c.removeprefix("'") for c in row) for row in read[1:]] == [
        tuple(c.removeprefix("'") for c in row) for row in shown
    ]
    document = json.loads(as_json(table))
    assert (document["schema"], document["title"]) == (1, "any")
    assert [tuple(row) for row in document["rows"]] == rows


@pytest.mark.parametrize("cell", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3+cmd|'x'!A0", "-"])
def test_a_text_that_a_spreadsheet_would_compute_has_a_quotation_mark_before_it(cell):
    """Oracle: the four signs that begin a formula."""
    table = Table("", ("a", cell), ((cell, "b"),))
    [columns, row] = csv.reader(io.StringIO(as_csv(table)))
    assert (columns[1], row[0]) == (f"'{cell}", f"'{cell}")


@pytest.mark.parametrize(
    "cell", ["-1.5", "+0.25", "-1.50 ± 0.20", "-1e-05", "-inf", "-12.00 ± 0.10 (draws 0.01)"]
)
def test_a_number_stays_a_number_in_csv(cell):
    assert as_csv(Table("", ("a",), ((cell,),))) == f"a\n{cell}\n"


def test_what_a_terminal_obeys_is_written_out_in_every_format():
    """Oracle: no byte of the text is one that a terminal obeys; JSON reads back the same."""
    cell = "\x1b]0;title\x07\x9b2J\u202eabc\r\x7f"
    table = Table(cell, (cell,), ((cell,),))
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(as_rich(table))
    for text in (as_text(table), as_markdown(table), as_csv(table), as_json(table)):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "\x1b]" not in console.file.getvalue()
    assert json.loads(as_json(table))["rows"] == [[cell]]


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
