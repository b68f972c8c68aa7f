"""The commands on runs of mixtures: evaluate, compare and sample say of them what they are.

Oracle: identities between the numbers of two commands, or of one document. The runs are not trained:
what is said of a run does not depend on how good it is.
"""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fixtures.reports import write_report
from tightbound.families.lookup import find_recipe
from tightbound.families.settings import settings_of, with_changes
from tightbound.train.checkpoint import save_checkpoint
from tightbound.train.folder import RunFolder
from tightbound.train.run import first_state

DIGITS = ("stein/digits", "model.latent-size=2", "model.hidden-size=8", "mixture.num-components=2")
WAVE = ("stein/wave",)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """The folder of a run that has not made a step, once for each recipe, its changes and seed."""
    parent, found = tmp_path_factory.mktemp("stein"), {}

    def make(name, *changes, seed=0):
        if (name, *changes, seed) not in found:
            recipe = with_changes(find_recipe(name), changes)
            folder = RunFolder(parent / f"run-{len(found)}")
            settings = settings_of(recipe)
            document = {"name": name, "recipe": name, "seed": seed, "settings": settings}
            folder.write_json("recipe.json", document)
            state = first_state(recipe.build(seed))
            save_checkpoint(folder.checkpoints, state, step=0, progress={})
            found[name, *changes, seed] = folder.path
        return found[name, *changes, seed]

    return make


def test_evaluating_a_mixture_says_who_answers_for_what(tightbound, untrained):
    document = tightbound("evaluate", untrained(*DIGITS), "--max-rows", "20", "--json").document
    [bound] = document["estimates"]
    assert (bound["estimator"], bound["num_samples"], bound["bound"]) == ("elbo", 2, "lower")
    figures = document["figures"]
    assert list(figures) == [
        "reconstruction",
        "KL",
        "entropy of responsibilities (at most 0.693)",
        "usage of component 0",
        "usage of component 1",
    ]
    assert_allclose(sum(figures[f"usage of component {i}"]["value"] for i in (0, 1)), 1.0)
    assert_allclose(-document["sites"]["z"]["value"], figures["KL"]["value"])
    assert document["notes"] == []


def test_a_mixture_and_a_single_guide_are_compared_on_the_same_rows(tightbound, untrained):
    """Identity: the difference is that of the two figures it prints, which are those of `evaluate`."""
    runs = untrained(*DIGITS), untrained("vae/digits", *DIGITS[1:3])
    options = ("--max-rows", "30", "--num-samples", "4", "--json")
    document = tightbound("compare", *runs, *options).document
    found = document["comparison"]
    first, second = (found[name]["value"] for name in ("first", "second"))
    assert_allclose(found["difference"], first - second, atol=1e-9)
    alone = tightbound("evaluate", runs[0], "--bound", "iwae", *options).document
    assert_allclose(first, alone["estimates"][0]["value"], rtol=1e-9)
    assert found["num_sequences"] == 30
    assert set(document["sites"]) == {"z", "x"}


def test_two_runs_on_points_are_compared_point_by_point(tightbound, untrained):
    runs = [untrained(*WAVE, seed=seed) for seed in (0, 1)]
    document = tightbound("compare", *runs, "--num-samples", "10", "--json").document
    found = document["comparison"]
    assert found["num_sequences"] == 200  # the points of test
    assert found["standard_error"] > 0
    over_draws = [found[name]["monte_carlo_error"] for name in ("first", "second")]
    assert_allclose(document["draws_error"], np.hypot(*over_draws))
    alone = tightbound("compare", runs[0], "linear-gaussian", "--num-samples", "10", "--json")
    assert_allclose(alone.document["draws_error"], over_draws[0])


def test_evaluating_points_says_what_is_predicted_and_from_what(tightbound, untrained):
    """Identity: the log predictive is the IWAE figure of the same draws, with both its errors."""
    document = tightbound("evaluate", untrained(*WAVE), "--bound", "iwae", "--json").document
    [bound] = document["estimates"]
    assert bound["num_samples"] == 100
    nats = document["figures"]["log predictive"]
    for name in ("value", "standard_error", "monte_carlo_error"):
        assert_allclose(nats[name], bound[name], rtol=1e-6)
    assert set(document["figures"]) == {"log predictive", "RMSE"}
    printed = tightbound("evaluate", untrained(*WAVE)).out
    assert "RMSE: " in printed
    assert "Points of test are predicted from the train split" in printed


def test_evaluating_the_training_points_is_of_one_data_set(tightbound, untrained):
    run = untrained(*WAVE)
    document = tightbound("evaluate", run, "--split", "train", "--json").document
    assert "log p(D)" in document["notes"][0]
    assert "RMSE" not in document["figures"]
    assert "usage of component 4" in document["figures"]


@pytest.mark.parametrize(
    ("run", "kind", "heading"),
    [
        (WAVE, "curve", "Predictions"),
        (("stein/line",), "pairs", "Predictions"),
        (("stein/two-classes",), "classes", "Predictions"),
        (("stein/gaussian", "target.latent-size=3"), "moments", "Against the target"),
        (
            ("stein/two-modes", "mixture.method=svgd", "target.latent-size=2"),
            "density",
            "Against the target",
        ),
    ],
)
def test_samples_of_points_and_targets_are_what_the_report_draws(
    tightbound, untrained, run, kind, heading
):
    folder = untrained(*run)
    result = tightbound("sample", folder, "--num", "50", "--json")
    assert result.code == 0, result.err
    [file] = result.document["files"]
    with open(file) as stream:
        assert json.load(stream)["kind"] == kind
    assert f"<h2>{heading}</h2>" in write_report(RunFolder(folder)).read_text()


def test_a_density_on_its_grid_is_the_mean_of_its_components_and_integrates_to_one(
    tightbound, untrained
):
    """Identities of a mixture; the grid leaves out a thousandth at either end."""
    run = untrained("stein/two-modes", "mixture.num-components=3", "guide.start-scale=1.0")
    assert tightbound("sample", run, "--num", "500").code == 0
    document = RunFolder(run).read_json("samples/target-step-00000000.json")
    axis = np.array(document["axes"][0])
    components = np.array(document["components"])
    assert_allclose(components.mean(0), document["proposal"], rtol=2e-3, atol=1e-5)
    for name in ("target", "proposal"):
        assert_allclose(np.trapezoid(document[name], axis), 1.0, atol=5e-3)


def test_components_have_a_sheet_of_their_own(tightbound, untrained):
    run = untrained(*DIGITS)
    files = tightbound("sample", run, "--num", "4", "--json").document["files"]
    assert [file.rpartition("/")[2].partition("-step")[0] for file in files] == [
        "prior",
        "reconstructions",
        "components",
    ]
    text = write_report(RunFolder(run)).read_text()
    assert "what every component makes of them" in text


def test_options_of_other_families_are_refused_with_the_family_of_the_run(tightbound, untrained):
    run = untrained(*WAVE)
    result = tightbound("sample", run, "--temperature", "2")
    assert result.code == 2
    assert f"{run} is one on Stein mixtures" in result.err
