"""Numbers of a sequence run: filtering bounds, baselines row by row, and figures of strokes.

Oracle: the library functions the commands stand for, and identities between their numbers.
"""

import json
import shutil

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tightbound.runs.opened import open_run

FEW = ("--split", "valid", "--max-rows", "24")


@pytest.fixture(scope="module")
def run(tightbound, tmp_path_factory):
    """Two steps of a small network on made-up strokes."""
    folder = tmp_path_factory.mktemp("runs") / "strokes"
    sizes = [f"--model.{name}-size=4" for name in ("latent", "hidden", "network")]
    settings = (*sizes, "--run.steps", "2", "--run.batch-size", "8", "--data.max-rows", "64")
    done = tightbound(
        "train", "vrnn/toy-strokes", "--run-dir", folder, *settings, "--no-doctor", "--json"
    )
    assert done.code == 0, done
    return folder


def test_a_filter_of_one_particle_is_the_elbo_and_its_sites_sum_to_it(tightbound, run):
    """Identity: the same estimator under two names, up to the draws."""
    fivo = tightbound(
        "evaluate", run, "--bound", "fivo", "--num-particles", "1", *FEW, "--json"
    ).document
    estimate, sites = fivo["estimates"][0], fivo["sites"]
    assert estimate["estimator"] == "fivo-1"
    assert_allclose(sum(s["value"] for s in sites.values()), estimate["value"], rtol=1e-5)
    assert_allclose(sites["reweighting"]["value"], 0.0, atol=1e-4)
    elbo = tightbound("evaluate", run, *FEW, "--num-samples", "8", "--json").document
    one = elbo["estimates"][0]
    assert abs(estimate["value"] - one["value"]) < 6 * one["standard_error"]


def test_runs_with_the_same_sites_on_other_rows_are_no_pair(tightbound, run, tmp_path):
    """Planted: a copy of the run that reads fewer words."""
    other = tmp_path / "other"
    shutil.copytree(run, other)
    document = json.loads((other / "recipe.json").read_text())
    document["settings"]["data"]["max_rows"] = 16
    (other / "recipe.json").write_text(json.dumps(document))
    few = ("--split", "valid", "--bound", "elbo", "--num-samples", "1")
    compared = tightbound("compare", run, other, *few)
    assert compared.code == 2
    assert "the second alone 0" in compared.err
    assert "Evaluate both on the same rows" in compared.err


def test_figures_of_strokes_stand_beside_those_of_a_pen_that_knows_nothing(tightbound, run):
    """Oracle: the pen's cross-entropy is minus its site per step; the reference is predicting the
    training mean. A network fresh from its start is no better than that by much."""
    document = tightbound("evaluate", run, *FEW, "--json").document
    figures, sites = document["figures"], document["sites"]
    setup = open_run(run).build()
    steps = setup.data["valid"].num_units[:24]
    assert_allclose(figures["pen"]["value"], -sites["pen"]["value"] * 24 / steps.sum(), rtol=1e-5)
    assert figures["pen"]["unit"] == "nats per step"
    error, reference = (
        figures[name]["value"] for name in ("reconstructed offsets", "predict-the-mean")
    )
    assert 0.3 * reference < error < 3 * reference


def test_a_baseline_is_compared_row_by_row(tightbound, run):
    """Oracle: the baseline's rows as the setup gives them."""
    document = tightbound(
        "compare", run, "ar1-gaussian", "--bound", "elbo", "--num-samples", "2", *FEW, "--json"
    ).document
    comparison = document["comparison"]
    setup = open_run(run).build()
    rows = setup.baseline_rows(setup.data["valid"])["ar1-gaussian"][:24]
    assert_allclose(comparison["second"]["value"], rows.mean(), rtol=1e-6)
    assert comparison["second"]["bound"] == "exact"
    assert_allclose(
        comparison["difference"],
        comparison["first"]["value"] - comparison["second"]["value"],
        rtol=1e-6,
    )
    assert np.isfinite(comparison["standard_error"])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (("compare", "ar2-gaussian", "--bound", "elbo"), "iid-gaussian"),
        (("evaluate", "--bound", "fivo", "--num-particles", "0"), "at least one particle"),
        (("evaluate", "--bound", "fivo", "--threshold", "2"), "fraction of `num_particles`"),
    ],
)
def test_calls_that_cannot_be_meant_are_answered_in_a_sentence(tightbound, run, call, sentence):
    command, *options = call
    done = tightbound(command, run, *options, *FEW)
    assert done.code == 2
    assert sentence in done.err


def test_a_family_without_steps_has_no_filtering_bound(tightbound, trained):
    done = tightbound("evaluate", trained, "--bound", "fivo")
    assert done.code == 2
    assert "has no steps at which particles could be resampled" in done.err
