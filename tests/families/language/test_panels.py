"""What a report draws of a language model, from numbers made up for it."""

import re
from html import unescape

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fixtures.reports import page
from tightbound.families.language.panels import (
    alternatives_table,
    language_panels,
    language_tables,
    position_panel,
)
from tightbound.families.language.token_strips import SHADES, in_words, shade, strip, visible
from tightbound.report.contents import read_contents
from tightbound.report.draw.heat_map import Facet, heat_map

HOSTILE = '<script>alert("x")</script>'
LOWER = [[1.0, 0.0], [0.25, 0.75]]


def profile(**parts):
    """A language model of two symbols and no parts, or with these."""
    alternatives = [[["a", 0.5], [HOSTILE, 0.25]], [["a", 0.001], [" ", None]]]
    return {
        "schema": 1,
        "step": 40,
        "split": "valid (words)",
        "family": "language model",
        "num_rows": 3,
        "num_classes": 100,
        "by_position": {
            "position": [1, 2],
            "mean": [2.0, 1.0],
            "error": [0.1, None],
            "rows": [3, 1],
        },
        "sentences": [
            {"row": 7, "tokens": [HOSTILE, "b"], "nats": [1.5, None], "alternatives": alternatives}
        ],
        "worst": [
            {
                **{"row": 7, "position": 1, "before": [], "token": HOSTILE, "nats": 9.0},
                "alternatives": alternatives[0],
            }
        ],
        **parts,
    }


PARTS = {
    "Alignment prior of the parent": {
        "alignments": [{"step": s, "name": "parent", "values": LOWER} for s in (0, 40)]
    },
    "Attention, layer 2": {
        "attention": {
            **{"row": 7, "tokens": [HOSTILE, "b"], "read": ["begin", HOSTILE]},
            "maps": [{"name": f"layer {n}, head 1", "values": LOWER} for n in (1, 2)],
        }
    },
    "Slots": {
        "slots": {
            **{"row": 7, "tokens": ["a", "b"], "read": ["begin", "a"]},
            "maps": [{"name": "slot 1", "values": LOWER}],
        }
    },
    "Prior distance of each slot": {"distances": [{"step": 0, "values": [[0.5, 0.5]]}]},
    "Mixture usage": {
        "usage": {
            **{"entropy": float(np.log(2)), "expected": [0.5, 0.5, 0.0]},
            **{"answerable": [0.5, 0.5, 0.0], "components": [2, 0, 1]},
            "words": [[["a", 0.9]], [[HOSTILE, 0.8]], [["b", 1.0]]],
        }
    },
    "State transitions": {
        "transitions": {
            **{"before": [0, 1], "after": [1, 0], "num_states": 2, "values": LOWER},
            **{"share_before": [0.6, 0.4], "share_after": [0.5, 0.5]},
            "words": [[["a", 0.9]], [[HOSTILE, 0.8]]],
        }
    },
    "Embedding norms over training": {
        "embedding_norms": {
            **{"bands": ["seen 1 to 9 times"], "probabilities": [0.1, 0.5, 0.9]},
            "steps": [{"step": s, "quantiles": [[0.9, 1.0, 1.1]]} for s in (0, 40)],
        }
    },
}


def titles(charts):
    return [unescape(re.search("<strong>(.*?)</strong>", chart)[1]) for chart in charts]


def test_a_cell_is_as_strong_as_its_share_of_the_largest():
    """Oracle: every opacity is the share over the largest of all facets; a share of 0 has no cell."""
    facets = [Facet("one", np.array([[0.2, 0.0], [0.1, 0.05]])), Facet("two", np.full((2, 2), 0.4))]
    chart = heat_map("t", facets, ["a", "b"], ["c", "d"], x_label="x", y_label="y")
    drawn = [float(o) for o in re.findall('fill-opacity="(.*?)"', chart)]
    assert_allclose(drawn, np.array([0.2, 0.1, 0.05, 0.4, 0.4, 0.4, 0.4]) / 0.4, atol=0.01)
    assert "Strongest cell: 0.4." in chart
    assert "one\\nb ← d\\n0.05" in unescape(chart)


def test_a_heat_map_of_nothing_finite_says_so():
    """Identity: without a share there is nothing to hold others against."""
    for values in (np.zeros((2, 2)), np.full((2, 2), np.nan), np.zeros((0, 0))):
        names = ["a"] * len(values)
        chart = heat_map("t", [Facet("f", values)], names, names, x_label="x", y_label="y")
        assert "no finite value was recorded" in chart


def test_names_are_left_out_where_cells_are_too_small_for_them():
    """Identity: 12 tokens are named in the drawing, 60 are not; a pointer is told both."""
    for size, is_named in ((12, True), (60, False)):
        names = [f"word{i}" for i in range(size)]
        chart = heat_map("t", [Facet("f", np.eye(size))], names, names, x_label="x", y_label="y")
        assert (">word3</text>" in chart) == is_named
        assert "word3 ← word3" in unescape(chart)


@pytest.mark.parametrize("title", PARTS)
def test_a_part_has_its_panel_and_a_model_without_it_has_none(title):
    """Identity: each part adds the panel of its name to those that every model has."""
    without = titles(language_panels(profile()))
    assert without == ["Loss by position"]
    assert title in titles(language_panels(profile(**PARTS[title])))


def test_the_loss_by_position_says_when_it_is_given_a_latent():
    """Identity: the loss of a sequence VAE leaves its KL out, and the caption says so."""
    assert "without its KL" in position_panel(profile(family="sequence VAE"))
    assert "without its KL" not in position_panel(profile())


def test_a_token_is_as_dark_as_its_cost_beside_a_blind_guess():
    """Oracle: nats over log(classes) in `SHADES` steps, no more than all of them."""
    assert shade(0.0, 100) == 0
    assert shade(np.log(100), 100) == SHADES
    assert shade(50.0, 100) == SHADES
    assert shade(np.log(10), 100) == round(SHADES / 2)


def test_a_strip_shows_every_token_its_cost_and_what_was_given():
    """Identity: the total is the sum of the costs; a token of which nothing was predicted has none."""
    tokens, nats = ["<bos>", " ", "cat"], [None, 1.25, 0.5]
    shown = strip("row", tokens, nats, num_classes=100, num_given=2)
    assert "1.75 nats" in shown
    assert ["␣" in shown, "1.2" in shown, "0.5" in shown] == [True] * 3
    assert shown.count("given") == 1  # the space: the begin symbol is no prediction
    assert visible("\n") == "⏎"
    assert in_words([["a", 0.314], ["b", 0.0004], ["c", None]]) == "a 0.31, b 4e-04, c "


def test_tables_name_worst_tokens_components_and_choices():
    """Identity: a row for each; alternatives beside the token they could have been."""
    choice = {
        **{"choice": "start", "alternatives": ["start 1", "start 2"]},
        **{"expected": [0.5, 0.5], "answerable": [0.9, 0.1]},
    }
    worst, components, choices = language_tables(
        profile(**PARTS["Mixture usage"], choices=[choice])
    )
    assert worst.rows == (("7", "begin", HOSTILE, "9.00", f"a 0.50, {HOSTILE} 0.25"),)
    assert [row[0] for row in components.rows] == ["2", "0", "1"]
    assert choices.rows == (("start 1", "0.500", "0.900"), ("start 2", "0.500", "0.100"))
    others = alternatives_table(profile()["sentences"][0])
    assert [row[1] for row in others.rows] == ["1.50", "given"]


def test_a_page_shows_texts_and_tokens_and_runs_none_of_their_script(make_run):
    """Identity: hostile tokens are shown as text, in strips, tables, charts and texts alike."""
    parts = {name: value for part in PARTS.values() for name, value in part.items()}
    text = {"name": "drawn", "tokens": [HOSTILE], "nats": [1.0], "num_given": 0}
    texts = {"schema": 1, "step": 40, "notes": [HOSTILE], "texts": [text]}
    folder = make_run()
    folder.samples.mkdir(exist_ok=True)
    folder.write_json("samples/language-step-00000040.json", profile(**parts))
    folder.write_json("samples/texts-step-00000040.json", texts)
    shown = page(read_contents(folder))
    assert HOSTILE not in shown
    assert "&lt;script&gt;alert" in shown
    for heading in ("Token by token", "Language model", "Texts"):
        assert f"<h2>{heading}</h2>" in shown
    assert not re.search(r'\sstyle="', shown)  # the page's policy would not apply it
