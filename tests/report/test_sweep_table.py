"""A sweep's document as tables, as a chart and as a display. Oracle: other readers (csv, a LaTeX-free
check of every cell, an XML parser, a PNG's pixels), and sentences written out."""

import csv
import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from matplotlib.image import imread
from rich.console import Console

from tightbound.estimators.estimate import Estimate
from tightbound.report.sweep_chart import plot_sweep
from tightbound.report.sweep_progress import RunLine, SweepDisplay, run_lines
from tightbound.report.sweep_table import (
    as_latex,
    escape_latex,
    render_sweep,
    sweep_table,
    sweep_verdict,
)
from tightbound.report.tables import Table


def an_arm(name, value, ranks, ties=(), difference=None, **changes):
    estimate = Estimate(value, 0.0213, None, "nats per unit", "upper", "iwae", 5, "test")
    return {
        "arm": name,
        "estimate": estimate.to_json(),
        "seed_error": 0.0047,
        "num_seeds": 3,
        "by_seed": {"0": value - 0.004, "1": value, "2": value + 0.004},
        "over_best": difference
        and {
            "difference": difference,
            "standard_error": 0.0062,
            "adjusted_p_value": 0.00001 if difference > 0.1 else 0.4321,
            "num_seeds": 3,
        },
        "ranks": ranks,
        "tied_with": list(ties),
        "faults": [],
        **changes,
    }


@pytest.fixture
def document():
    """Two arms tied at the top, one behind them."""
    return {
        "recipe": "vae/digits",
        "split": "test",
        "level": 0.05,
        "num_sequences": 1000,
        "num_groups": None,
        "not_ranked": None,
        "unfinished": [],
        "arms": [
            an_arm("model.m=[0,4]", 3.2, [1, 2], ["model.m=[]"]),
            an_arm("model.m=[]", 3.205, [1, 2], ["model.m=[0,4]"], 0.005),
            an_arm("model.m=[9]", 4.0, [3, 3], [], 0.8),
        ],
    }


def test_a_row_says_mean_both_errors_difference_p_rank_and_ties(document):
    """Oracle: the cells, rounded by hand to two digits of the smaller error."""
    table = sweep_table(document)
    head = ["#", "arm", "seeds", "nats per unit (upper bound)", "± seeds", "± sequences"]
    assert table.columns == (*head, "over best", "±", "p", "rank", "tied with")
    means = ("3.2000", "0.0047", "0.021")
    assert table.rows[0] == ("1", "model.m=[0,4]", "3", *means, "", "", "", "1 to 2", "2")
    assert table.rows[1][6:] == ("+0.0050", "0.0062", "0.4321", "1 to 2", "1")
    assert table.rows[2][6:] == ("+0.8000", "0.0062", "<0.0001", "3", "")


def test_a_tie_is_called_a_tie(document):
    verdict = sweep_verdict(document)
    assert verdict.startswith(
        "A tie at the top: model.m=[0,4] has the best mean, but is not told apart from model.m=[]."
    )
    assert "p values adjusted for 3 pairs (Holm), told apart at 5%" in verdict
    document["arms"] = document["arms"][:2]
    assert "is not told apart from any other arm." in sweep_verdict(document)


def test_a_best_arm_is_called_the_best_only_if_it_is_told_apart_from_all(document):
    document["arms"] = [an_arm("a", 1.0, [1, 1]), an_arm("b", 2.0, [2, 2], [], 1.0)]
    assert sweep_verdict(document).startswith("a is the best. Paired by seed and over 1000 ")


def test_one_seed_clusters_and_unranked_arms_are_said(document):
    document["arms"][0]["num_seeds"] = 1
    document["num_groups"] = 7
    verdict = sweep_verdict(document)
    assert "One seed: the errors are over sequences alone" in verdict
    assert "clustered by 7 groups" in verdict
    document["not_ranked"] = "The arms are not ranked: different data."
    assert sweep_verdict(document) == document["not_ranked"]
    for arm in document["arms"]:
        arm["ranks"] = arm["over_best"] = None
    assert sweep_table(document).rows[0][6:] == ("", "", "", "", "2")


def test_one_arm_and_none_have_nothing_to_be_compared_with(document):
    document["arms"] = document["arms"][:1]
    assert sweep_verdict(document) == "model.m=[0,4] is the only arm with a finished run."
    document["arms"] = []
    assert sweep_verdict(document) == "No arm has a finished run yet."
    assert sweep_table(document).rows == ()


def test_faults_have_a_column_where_there_are_any(document):
    document["arms"][2]["faults"] = ["TB104", "TB603"]
    table = sweep_table(document)
    assert table.columns[-1] == "faults"
    assert [row[-1] for row in table.rows] == ["", "", "TB104 TB603"]


def test_csv_reads_back_as_the_table_and_text_and_markdown_end_with_the_verdict(document):
    """Oracle: the standard library's reader."""
    table = sweep_table(document)
    read = list(csv.reader(io.StringIO(render_sweep(document, "csv"))))
    assert [tuple(row) for row in read] == [table.columns, *table.rows]
    for style in ("text", "markdown"):
        assert render_sweep(document, style).endswith(f"\n\n{sweep_verdict(document)}\n")


def test_latex_has_every_cell_and_no_character_that_means_something_else(document):
    r"""Oracle: cells read back by a reader of our own, which knows `&`, `\\` and the escapes."""
    text = render_sweep(document, "latex")
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0].strip()
    back = {r"\_": "_", r"\%": "%", r"\#": "#", r"\$": "$", r"\&": "&", "$<$": "<"}
    unescaped = re.sub(r"\\[_%#$&]|\$<\$", lambda found: back[found[0]], body)
    rows = [
        tuple(re.split(r" ?& ?", line.removesuffix(r"\\").strip()))
        for line in unescaped.split("\n")
    ]
    assert [tuple(cell.strip() for cell in row) for row in rows] == list(sweep_table(document).rows)
    assert text.count("{") == text.count("}")
    assert r"\begin{tabular}{rlrrrrrrrll}" in text


def test_latex_writes_every_special_character_as_itself():
    """Oracle: LaTeX's own names for its ten special characters, written out."""
    assert escape_latex(r"a_b{c}#%&$~^\ ±") == (
        r"a\_b\{c\}\#\%\&\$\textasciitilde{}\textasciicircum{}\textbackslash{} $\pm$"
    )
    assert r"50\% & x\_y \\" in as_latex(Table("", ("a", "b"), (("50%", "x_y"),)), "")


def test_the_chart_shows_every_arm_and_is_the_same_file_for_the_same_table(document, tmp_path):
    """Oracle: an XML parser for the SVG, the PNG's own pixels, the bytes of a second drawing."""
    paths = [tmp_path / "chart.svg", tmp_path / "chart.png"]
    plot_sweep(document, paths)
    first = paths[0].read_bytes()
    root = ET.fromstring(first)
    assert root.tag.endswith("svg")
    assert [arm["arm"].encode() in first for arm in document["arms"]] == [True] * 3
    blue = abs(imread(paths[1])[..., :3] - (0x1F / 255, 0x5F / 255, 0xA8 / 255)).max(-1) < 0.01
    grey = abs(imread(paths[1])[..., :3] - (0x7A / 255, 0x7F / 255, 0x87 / 255)).max(-1) < 0.01
    assert blue.sum() > 1.2 * grey.sum() > 0  # two arms at the top, one behind
    plot_sweep(document, paths)
    assert paths[0].read_bytes() == first


def bars(path):
    """The middle and half the length of every horizontal error bar, in the SVG's pixels."""
    ends = re.findall(
        r'id="LineCollection_\d+">\s*<path d="M ([\d.]+) [\d.]+\s*L ([\d.]+)', path.read_text()
    )
    return [((float(a) + float(b)) / 2, (float(b) - float(a)) / 2) for a, b in ends]


def test_error_bars_are_two_errors_long_on_both_sides(document, tmp_path):
    """Oracle: the whiskers in the SVG against the distances of the dots on the same axis."""
    path = tmp_path / "chart.svg"
    plot_sweep(document, [path])
    first, _, third, second_over, third_over = bars(path)
    pixels_per_nat = (third[0] - first[0]) / 0.8
    both_errors = (0.0213**2 + 0.0047**2) ** 0.5
    assert first[1] / pixels_per_nat == pytest.approx(2 * both_errors, rel=1e-3)
    pixels_per_nat = (third_over[0] - second_over[0]) / 0.795
    assert second_over[1] / pixels_per_nat == pytest.approx(2 * 0.0062, rel=1e-2)


def test_arms_that_are_not_ranked_have_no_differences_to_draw(document, tmp_path):
    for arm in document["arms"]:
        arm["over_best"] = None
    plot_sweep(document, [tmp_path / "chart.svg"])
    assert len(bars(tmp_path / "chart.svg")) == 3


def test_without_a_terminal_every_change_is_a_line():
    text = io.StringIO()
    with SweepDisplay({"a": 10, "b": 10}, Console(file=text)) as display:
        display.change("a", "running")
        display.observe("a", [])
        display.change("a", "finished")
        display.change("b", "failed", "ValueError: too deep")
    assert text.getvalue().splitlines() == [
        "0/2  a running",
        "1/2  a finished",
        "1/2  b failed: ValueError: too deep",
    ]


def test_on_a_terminal_every_run_that_is_on_has_a_line_with_its_step():
    bound = Estimate(-3.0, 0.1, None, "nats per sequence", "lower", "elbo", 1, "valid").to_json()
    record = {"step": 5, "seconds": 1.0, "train": {"bound": bound}}
    record["held_out"] = {"bound": bound, "sites": {}}
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    with SweepDisplay({"a": 10, "b": 10, "c": 10}, console) as display:
        display.observe("a", [record])
        display.change("b", "failed", "ValueError: too deep")
    for words in ("step 5/10", "held-out -3.00", "ValueError: too deep", "1 waiting"):
        assert words in text.getvalue()
    lines = {name: RunLine(10, "finished") for name in "abc"}
    shown = io.StringIO()
    Console(file=shown).print(run_lines(replace_one(lines, "a", status="stopped")))
    assert "2 finished, 1 stopped" in shown.getvalue()


def replace_one(lines, name, **changes):
    return lines | {name: replace(lines[name], **changes)}
