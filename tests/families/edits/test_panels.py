import json
import re
from html import unescape
from typing import Any

import numpy as np
import pytest

from fixtures.reports import write_report
from tightbound.estimators.estimate import Estimate
from tightbound.families.edits.model import EditModel
from tightbound.families.edits.panels import (
    DECISIONS,
    HEADS,
    WORDS,
    decision_panels,
    string_panels,
    together,
)


@pytest.fixture
def added():
    """What every site of the family adds over three records: random numbers."""
    values = np.random.default_rng(0).normal(size=(len(EditModel.kinds), 3))
    return dict(zip(EditModel.kinds, values, strict=True))


def records(added):
    """The same as records of a run."""
    return [
        {
            "step": 10 * i,
            "held_out": {"sites": {name: {"log_p": float(v[i])} for name, v in added.items()}},
        }
        for i in range(3)
    ]


def by_step(num_strings=3) -> dict[str, Any]:
    def estimate(value):
        return Estimate(value, 0.5, None, "nats per sequence", "none", "elbo", 1, "valid").to_json()

    classes = {"first word": -2.0, "other words": 1.0, "end": -0.25}
    strings = [
        {
            "string": i + 1,
            "rows": 4,
            "total": estimate(sum(classes.values())),
            "classes": {name: estimate(value) for name, value in classes.items()},
        }
        for i in range(num_strings)
    ]
    document = {"schema": 1, "step": 7, "num_rows": 4, "strings": strings}
    return document | {"proposal": estimate(3.0)}


def told(chart):
    [data] = re.findall(r'data-points="([^"]*)"', chart)
    return [point[2] for point in json.loads(unescape(data))]


def test_the_classes_sum_to_the_bound_and_words_to_their_class(added):
    """Identity: every site of the family is in one class; of the words, in one head too."""
    bound = sum(added.values())
    classes = together(added, DECISIONS)
    np.testing.assert_allclose(sum(classes.values()), bound, rtol=1e-12)
    words = together(added, WORDS)
    np.testing.assert_allclose(sum(words.values()), classes["words"], rtol=1e-12)
    heads = sum(together(added, HEADS).values())
    np.testing.assert_allclose(heads + words["choice"], classes["words"], rtol=1e-12)


def test_runs_of_other_families_have_no_decisions(added, made_records):
    """Sites of another name, one site missing, no evaluation."""
    assert len(decision_panels(records(added))) == 3
    assert decision_panels(made_records) == []
    assert decision_panels(records({n: v for n, v in added.items() if n != "end"})) == []
    assert decision_panels([]) == []


def test_the_parts_of_a_bar_are_its_classes_and_its_dot_their_sum():
    """Oracle: the numbers put in. Losses lie left of zero, gains right of it."""
    [chart] = string_panels(by_step())
    points = told(chart)
    assert points[:4] == [
        "string 1, first word\n-2",
        "string 1, other words\n1",
        "string 1, end\n-0.25",
        "string 1, sum\n-1.25 ± 0.5",
    ]
    assert len(points) == 12
    bars = re.findall(r'<rect class="bar c(\d)" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', chart)
    lost, gained, more_lost = [(float(x), float(width)) for _, x, width in bars[:3]]
    zero = gained[0]
    assert lost[0] + lost[1] == pytest.approx(zero, abs=0.2)
    assert more_lost[0] + more_lost[1] == pytest.approx(lost[0], abs=0.2)
    assert lost[1] / gained[1] == pytest.approx(2, rel=0.01)


def test_strings_without_a_finite_value_are_said():
    """Nothing to draw is said where the chart would be."""
    document = by_step(1)
    for estimate in document["strings"][0]["classes"].values():
        estimate["value"] = "nan"
    [chart] = string_panels(document)
    assert "no finite value" in chart
    assert string_panels(None) == []
    assert string_panels(by_step(0)) == []


def test_the_page_of_a_text_has_its_decisions(make_run, added, made_records):
    """Oracle: counted by hand. Three charts over training, one by string."""
    for record, values in zip(made_records[-3:], records(added), strict=True):
        record["held_out"] = {**made_records[-1]["held_out"], **values["held_out"]}
    folder = make_run(steps=made_records[-3:])
    folder.write_json("samples/by_step.json", by_step())
    page = write_report(folder).read_text()
    assert page.count("<h2>Decisions</h2>") == 1
    titles = ["Bound by class of decision", "Words: first", "Words by head", "Bound by string"]
    assert all(page.count(f"<strong>{title}") == 1 for title in titles)
