import copy
import json
import re
from html import unescape

import numpy as np
import pytest
from matplotlib.image import imread

from fixtures.reports import write_report
from tightbound.estimators.estimate import Estimate
from tightbound.families.sequences.panels import (
    latents_in_use,
    panels,
    sequence_panels,
    write_profile,
)
from tightbound.report.draw.pictures import image_sheet

LENGTHS = (5, 3)


def kl(value):
    return Estimate(value, 0.1, None, "nats per sequence", "none", "kl", 1, "valid").to_json()


def row(index):
    def numbers(first):
        return [first + t for t in range(LENGTHS[index])]

    return {
        "row": index,
        "latents": [
            {"latent": d, "mean": numbers(d / 10), "variance": numbers(d + 0.5)} for d in (2, 0)
        ],
        "outputs": [
            {"mean": numbers(0.0), "scale": numbers(1.0), "observed": numbers(0.25)}
            for _ in ("dx", "dy", "pen")
        ],
    }


@pytest.fixture
def profile():
    """Two rows of 5 and 3 steps, 4 on average; three latents, of which two are worth more than 0.01
    nats a step."""
    return {
        "schema": 1,
        "step": 7,
        "split": "valid",
        "num_rows": 2,
        "kl": kl(1.539),
        "kl_by_latent": [kl(0.5), kl(0.039), kl(1.0)],
        "kl_by_step": {
            "mean": [0.5, 0.25, 0.125, 0.0625, 0.03],
            "error": [0.01, 0.02, 0.03, None, None],
            "rows": [2, 2, 2, 1, 1],
        },
        "entries": ["dx", "dy", "pen"],
        "rows": [row(0), row(1)],
    }


def told(chart):
    [data] = re.findall(r'data-points="([^"]*)"', chart)
    return [point[2] for point in json.loads(unescape(data))]


def test_charts_tell_what_the_profile_says(profile):
    """Oracle: the numbers put in. One chart by latent, one by step, and of every row two of its latents
    and one of each entry."""
    charts = sequence_panels(profile)
    assert len(charts) == 2 + 2 * (2 + 3)
    assert told(charts[0]) == ["latent 2\n1", "latent 0\n0.5", "latent 1\n0.039"]
    assert "2 of 3 latents are in use" in charts[0]
    assert told(charts[1])[1] == "step of x 1\nKL(q || p) 0.25 ± 0.02, 2 rows"
    assert told(charts[1])[3] == "step of x 3\nKL(q || p) 0.0625 ± nan, 1 rows"
    assert told(charts[2])[0] == "step of x 0\nlatent 2 0.2\nlatent 0 0"
    assert told(charts[3])[1] == "step of x 1\nlatent 2 3.5\nlatent 0 1.5"
    by_title = {panel.title: panel for panel in panels(profile)}
    output, observed = by_title["Output dx, held-out row 0"].curves
    np.testing.assert_allclose(output.high - output.low, 4 * (1.0 + np.arange(5)))
    np.testing.assert_allclose(observed.y, 0.25 + np.arange(5))
    assert by_title["Output pen, held-out row 1"].curves[0].low is None  # a probability


def test_a_latent_is_in_use_from_a_hundredth_of_a_nat_per_step(profile):
    """Counted by hand: 8 steps in 2 rows are 4 per sequence, so 0.04 nats are enough."""
    assert latents_in_use(profile) == [True, False, True]
    profile["kl_by_latent"][1] = kl(0.04)
    assert latents_in_use(profile) == [True, True, True]


def test_a_model_without_latents_has_outputs_alone(profile, tmp_path):
    """No KL is drawn as zero where there is none; nor where dimensions have none of their own."""
    for one in profile["rows"]:
        one["latents"] = []
    profile["kl_by_latent"] = []
    assert len(sequence_panels(profile)) == 2 * 3
    write_profile(profile, tmp_path / "a.png")
    assert imread(tmp_path / "a.png").std() > 0.01
    assert sequence_panels(None) == []


def test_what_is_not_finite_is_a_gap(profile):
    """None stands for it in the document, and nothing is drawn there."""
    profile["rows"][0]["outputs"][0]["mean"][2] = None
    [panel] = [p for p in panels(profile) if p.title == "Output dx, held-out row 0"]
    assert np.isnan(panel.curves[0].y).tolist() == [False, False, True, False, False]
    joint = copy.deepcopy(profile) | {"kl_by_latent": None}
    assert len(sequence_panels(joint)) == len(sequence_panels(profile)) - 1


def test_the_page_of_a_run_on_sequences_has_its_steps(make_run, profile):
    """The newest profile alone; its picture is not shown a second time."""
    folder = make_run(probes=False)
    folder.samples.mkdir()
    folder.write_json("samples/profile-step-00000003.json", profile | {"rows": []})
    folder.write_json("samples/profile-step-00000007.json", profile)
    image_sheet(np.zeros((1, 4, 4)), folder.samples / "profile-step-00000007.png", 1)
    page = write_report(folder).read_text()
    assert page.count("<h2>Sequences, step by step</h2>") == 1
    assert page.count("<strong>Output ") == 6
    assert page.count("<figcaption>profile") == 0
