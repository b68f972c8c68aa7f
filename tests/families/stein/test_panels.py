"""What a report draws of a mixture, of predicted points and of known densities, from numbers made up."""

import re
from html import unescape

import numpy as np
import pytest

from fixtures.reports import page
from tightbound.families.stein.panels import component_panels, prediction_panels, target_panels
from tightbound.report.contents import read_contents
from tightbound.report.draw.charts import Curve, line_chart

HOSTILE = '<script>alert("x")</script>'


def components(step, *, num=3):
    """What a probe says of a mixture: the more steps, the further apart."""
    share = np.arange(1.0, num + 1)
    return {
        "components.entropy": np.full(4, np.log(num) / (1 + step)),
        "components.usage": share / share.sum(),
        "components.bound": -share,
        "components.gradient_norm": share,
        "components.attraction_norm": share,
        "components.repulsion_norm": 0.1 * share,
        "components.distance": np.abs(share[:, None] - share[None]),
        "components.update_ratio": share,
        "components.gains": np.zeros((2, 5)),
    }


@pytest.fixture
def evidence(tmp_path):
    """Files of two probes with three components, and one of before there was a mixture."""

    def write(*arrays):
        paths = [tmp_path / f"step-{step:08d}.npz" for step in range(len(arrays))]
        for path, of_step in zip(paths, arrays, strict=True):
            np.savez(path, step=np.array(0), **of_step)
        return paths

    return write


def curve():
    """Two inputs, two components."""
    part = {"mean": [0.0, 1.0], "spread": [0.5, None]}
    return {
        "kind": "curve",
        "step": 40,
        "split": HOSTILE,
        "train": {"inputs": [0.25], "target": [3.0]},
        "inputs": [0.0, 1.0],
        "all": part | {"target_spread": [0.5, 0.75]},
        "components": [part, part],
    }


def pairs():
    return {
        **{"kind": "pairs", "step": 40, "split": HOSTILE},
        **{"observed": [1.0, 2.0], "mean": [1.5, None], "spread": [0.1, 0.2]},
        **{"levels": [0.5, 1.0], "coverage": [0.25, 1.0]},
    }


def classes():
    return {
        **{"kind": "classes", "step": 40, "split": HOSTILE},
        **{"confidence": [0.6, 0.9], "accuracy": [0.5, 0.95], "points": [10, 20]},
    }


def density(dimension, **parts):
    axis = [-1.0, 0.0, 1.0]
    cells = 3**dimension
    values = (np.arange(cells) / cells).tolist()
    return {
        **{"kind": "density", "step": 40, "dimension": dimension, "axes": [axis] * dimension},
        **{"target": values, "proposal": values, "components": [values, values]},
        **parts,
    }


def moments():
    many = [1.0, 2.0, 3.0]
    return {
        **{"kind": "moments", "step": 40, "dimension": 3, "num_draws": 2000},
        "target": {"mean": [0.0, 0.0, 0.0], "variance": [1.0, 1.0, 1.0]},
        "proposal": {"mean": many, "variance": many, "variance_error": [0.1, 0.1, 0.1]},
        "components": [[0.5, 0.5, 0.5], [0.25, 0.25, 0.25]],
    }


def titles(charts):
    return [re.search(r"<strong>(.*?)</strong>", chart)[1] for chart in charts]


def test_components_are_drawn_from_the_files_that_have_them(evidence):
    charts = component_panels(evidence({}, components(1), components(2)))
    assert titles(charts) == [
        "Entropy of responsibilities",
        "Usage by component",
        "Bound of every component",
        "Gradient norm by component",
        "Stein force",
        "Distance between components",
    ]
    assert "log 3: all alike" in charts[0]
    assert "step 2" in charts[1]
    assert unescape(charts[1]).count("component ") == 3
    assert 'class="bar"' not in charts[1]  # no component is below a tenth of its share
    assert "component 2 3" in charts[3]  # at both steps its norm is 3


def test_a_component_below_a_tenth_of_its_share_is_grey(evidence):
    unused = components(1) | {"components.usage": np.array([0.98, 0.02, 0.0])}
    assert component_panels(evidence(unused))[1].count('<rect class="bar"') == 2


def test_without_a_repulsion_no_force_is_drawn_and_one_component_has_no_distances(evidence):
    found = components(1, num=1) | {"components.repulsion_norm": np.zeros(1)}
    assert not {"Stein force", "Distance between components"} & set(
        titles(component_panels(evidence(found)))
    )


def test_a_run_without_a_mixture_has_no_such_charts(evidence):
    assert component_panels(evidence({}, {})) == []
    assert prediction_panels(None) == []
    assert target_panels(None) == []


def test_of_many_components_one_stands_for_all_in_the_legend(evidence):
    found = component_panels(evidence(components(1, num=20)))[2]
    legend = re.search(r'<ul class="legend">(.*?)</ul>', found)[1]
    assert legend == '<li class="c1">20 components</li>'
    assert found.count('<path class="line quiet') == 20


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (curve(), ["What is predicted", "What every component predicts"]),
        (pairs(), ["Predicted and observed", "Coverage of central intervals"]),
        (classes(), ["Confidence and accuracy"]),
    ],
)
def test_predictions_are_drawn_and_what_they_hold_is_escaped(document, expected):
    charts = prediction_panels(document)
    assert titles(charts) == expected
    assert "<script>" not in "".join(charts)
    assert HOSTILE in unescape("".join(charts))


def test_training_points_are_dots_that_no_line_joins():
    """One dot in each chart of a curve. Planted: the same points as a line."""
    charts = prediction_panels(curve())
    assert [chart.count('class="dot') for chart in charts] == [1, 1]
    x = np.array([0.0, 1.0])
    joined = line_chart("", [Curve("", x, x, ("", ""))], y_label="")
    apart = line_chart("", [Curve("", x, x, ("", ""), dots=True)], y_label="")
    assert ('class="line' in joined, 'class="line' in apart) == (True, False)


@pytest.mark.parametrize("places", [None, [[0.0, 0.5], [0.9, 0.5], [0.9, 0.4]]])
def test_two_dimensions_are_maps_with_the_second_axis_upwards(places):
    """The last cell of the target is the largest: first axis to the right, second up, so it is drawn at
    the right of the top row."""
    document = density(2) if places is None else density(2, points=places)
    [chart] = target_panels(document)
    names = ["target", "components, points"] if places else ["target", "proposal", "component 0"]
    assert all(name in chart for name in names)
    first_map = re.search(r'<g class="cells c1">(.*?)</g>', chart)[1]
    cells = re.findall(r'x="([\d.]+)" y="([\d.]+)".*?fill-opacity="([\d.]+)"', first_map)
    largest = max(cells, key=lambda cell: float(cell[2]))
    assert float(largest[0]) == max(float(cell[0]) for cell in cells)
    assert float(largest[1]) == min(float(cell[1]) for cell in cells)


def test_one_dimension_has_the_target_the_proposal_and_the_components_share():
    [chart] = target_panels(density(1))
    legend = re.findall(r"<li class=.*?>(.*?)</li>", chart)
    assert legend == ["target", "components", "proposal"]
    [points] = target_panels(density(1, points=[[0.5]]))
    assert points.count('class="dot') == 1


def test_many_dimensions_show_the_average_variance_against_the_targets():
    """(1 + 2 + 3) / 3 = 2 against 1."""
    variance, mean = target_panels(moments())
    assert "Average over dimensions 2, of the target 1." in unescape(variance)
    assert "inside components, mean 0.375" in unescape(variance)
    assert titles([variance, mean]) == ["Variance by dimension", "Mean by dimension"]


def test_the_page_has_a_section_for_each_part_that_the_run_has(make_run):
    folder = make_run()
    assert "Components of the mixture" not in page(read_contents(folder))
    folder.write_json("samples/prediction-step-00000040.json", curve())
    folder.write_json("samples/target-step-00000040.json", density(1))
    newest = sorted(folder.evidence.glob("*.npz"))[-1]
    with np.load(newest) as file:
        np.savez(newest, **dict(file), **components(1))
    found = page(read_contents(folder))
    sections = ["Against the target", "Predictions", "Components of the mixture"]
    assert [name for name in sections if f"<h2>{name}</h2>" in found] == sections
