"""What a chart of curves and levels says, where it cannot show it."""

import re
from html import unescape
from itertools import pairwise

import numpy as np
import pytest

from tightbound.report.draw.charts import Curve, Level, line_chart
from tightbound.report.draw.scales import groups_of_near


def curve(name, y, x=None):
    y = np.array(y, float)
    x = np.arange(len(y), dtype=float) if x is None else np.array(x, float)
    return Curve(name, x, y, tuple(map(str, y)))


def drawn(*curves, **options):
    return line_chart("title", curves, y_label="nats", **options)


def note(chart):
    return unescape(re.sub("<[^>]*>", "", chart.partition("</figcaption>")[0]))


def names_of_levels(chart):
    """Of each name its height in pixels and its words."""
    found = re.findall(r'class="level-name" x="[\d.]+" y="([\d.]+)"[^>]*>([^<]*)<', chart)
    return [(float(y), unescape(words)) for y, words in found]


@pytest.mark.parametrize(
    "values",
    [
        [-17.14, -17.38, -17.80, -19.03, -39.0, -41.8],
        [-20.0, -20.0],
        [-20.0, -30.0, -40.0],
        list(np.linspace(-45, -15, 40)),
    ],
)
def test_names_of_levels_never_lie_over_each_other(values):
    """Law, for levels that are close, equal, apart and many: names are 20 pixels apart (a line of text on
    a narrow screen), every level has its line, and every level's name is in the drawing or the note."""
    levels = [Level(f"baseline-{i}", value) for i, value in enumerate(values)]
    chart = drawn(curve("held-out", [-50, -10]), levels=levels)
    heights = sorted(y for y, _ in names_of_levels(chart))
    assert all(b - a >= 20 for a, b in pairwise(heights))
    assert chart.count('<line class="level"') == len(values)
    written = " ".join([*(words for _, words in names_of_levels(chart)), note(chart)])
    assert all(re.search(rf"{level.name}\b", written) for level in levels)


def test_levels_that_are_close_together_are_named_by_their_best_with_all_values_in_the_note():
    levels = [Level(f"kneser-ney-{n}", -16.5 - 0.3 * n) for n in range(1, 5)]
    chart = drawn(curve("held-out", [-50, -10]), levels=levels)
    assert [words for _, words in names_of_levels(chart)] == ["kneser-ney-1 and 3 more"]
    assert "Close together: kneser-ney-1 (-16.8), kneser-ney-2 (-17.1)" in note(chart)


def test_without_groups_the_names_would_lie_over_each_other(monkeypatch):
    """The planted bug: every level by itself, as the law above finds."""
    alone = lambda heights, gap: [[i] for i in np.argsort(heights)]  # noqa: E731
    monkeypatch.setattr("tightbound.report.draw.charts.groups_of_near", alone)
    levels = [Level("a", -20.0), Level("b", -20.1)]
    heights = [y for y, _ in names_of_levels(drawn(curve("c", [-50, -10]), levels=levels))]
    assert abs(heights[0] - heights[1]) < 20
    assert groups_of_near(np.array([3.0, 4.0]), 20.0) == [[0, 1]]


@pytest.mark.parametrize(
    ("values", "sentences"),
    [
        ([-233.0, -30.0, -28.0], ["Below the frame: held-out (-233 at step 0)."]),
        ([-30.0, 1e12, -28.0], ["Above the frame: held-out (1e+12 at step 1)."]),
        ([-50, -30, 7], ["Below the frame: held-out (-50 at", "Above the frame: held-out (7 at"]),
        ([np.nan, -np.inf, -28.0], []),
        ([-31.0, -30.0, -28.0], []),
    ],
)
def test_a_curve_that_leaves_the_frame_is_said_to(values, sentences):
    """On either side, with how far and where; one inside, or with gaps alone, says nothing."""
    text = note(drawn(curve("held-out", values), y_range=(-35.0, -25.0)))
    assert text.count("the frame") == len(sentences)
    assert all(sentence in text for sentence in sentences)


def test_a_chart_of_one_step_has_that_step_for_its_only_tick():
    """Oracle: the numbers below the drawing, read from it."""
    chart = drawn(curve("held-out", [-30.0], x=[500]))
    assert re.findall(r'y="272" text-anchor="middle">([^<]*)<', chart) == ["500"]
