"""Figures of predicted points. Oracles: the closed-form predictive of a conjugate regression, and
scikit-learn on probabilities worked out in NumPy."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm
from sklearn.metrics import accuracy_score, brier_score_loss

from tightbound.data.point_tables import TargetScale
from tightbound.estimators.bounds import bound_estimate
from tightbound.evaluation import evaluate
from tightbound.families.lookup import find_recipe
from tightbound.families.stein.details import Details
from tightbound.families.stein.figures_points import point_figures, predictions
from tightbound.families.stein.model_regression import LogisticParameters
from tightbound.models.mean_field import FullRank, MeanField
from tightbound.models.mixture import mixture
from tightbound.runs.evaluated import what_is_measured, with_shared_draws
from tightbound.train.run import first_state

NUM = 4000
SCALE = TargetScale(mean=7.0, scale=3.0)


def at_the_posterior(setup):
    """A normal of full rank with the posterior's own mean and covariance, which does not look at x."""
    train = setup.data["train"]
    x = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), train.take(np.arange(len(train))).x)
    posterior = setup.model.posterior(x)
    lower = jnp.linalg.cholesky(posterior.covariance_matrix)
    factor = lower - jnp.diag(jnp.diag(lower)) + jnp.diag(jnp.log(jnp.diag(lower)))
    made = FullRank(lambda key: posterior.loc, key=jax.random.key(0))
    return eqx.tree_at(lambda q: q.factor, made, factor), posterior


@pytest.fixture(scope="module")
def line():
    """A setup, its state at the exact posterior, its test points and their evaluation."""
    setup = replace(find_recipe("stein/line").build(0), details=Details(target_scale=SCALE))
    proposal, posterior = at_the_posterior(setup)
    state = replace(first_state(setup), proposal=proposal)
    test = setup.data["test"]
    evaluation = evaluate(setup.model, proposal, test, num_samples=NUM, key=jax.random.key(1))
    return setup, state, test, evaluation, posterior


def test_a_conjugate_regressions_figures_are_its_closed_forms(line):
    """log N(y; f . m, f . C f + s^2) and y - f . m; within 4 of their errors over draws. Planted: the
    mean over draws of log p, the ELBO, for the log of the mean."""
    setup, state, test, evaluation, posterior = line
    found = point_figures(setup, state, test, evaluation, seed=2)
    features = np.column_stack([test.x.inputs, np.ones(len(test))])
    mean, covariance = np.asarray(posterior.loc), np.asarray(posterior.covariance_matrix)
    residual = test.x.target - features @ mean
    noise = setup.model.noise_scale**2
    spread = np.sqrt(np.einsum("pf,fg,pg->p", features, covariance, features) + noise)
    exact = norm.logpdf(residual, scale=spread).mean()
    nats, error = found["log predictive"], found["RMSE"]
    assert abs(nats.value - exact) < 4 * nats.monte_carlo_error
    assert abs(error.value - np.sqrt(np.square(residual).mean())) < 4 * error.monte_carlo_error
    planted = evaluation.log_p["y"].mean()
    assert abs(nats.value - planted) > 8 * nats.monte_carlo_error


def test_the_datas_own_units_are_scaled_and_shifted(line):
    """Identity: densities lose log 3 nats, errors are 3 times as large; planted: the mean is added."""
    setup, state, test, evaluation, _ = line
    found = point_figures(setup, state, test, evaluation, seed=2)
    nats, own = found["log predictive"], found["log predictive, data units"]
    assert_allclose(own.value, nats.value - np.log(3.0))
    assert own.standard_error == nats.standard_error
    error, own = found["RMSE"], found["RMSE, data units"]
    for name in ("value", "standard_error", "monte_carlo_error"):
        assert_allclose(getattr(own, name), 3 * getattr(error, name))
    assert (error.unit, own.unit) == ("normalised units", "data units")
    without = point_figures(replace(setup, details=None), state, test, evaluation, seed=2)
    assert without["RMSE"].unit == "data units"
    assert "RMSE, data units" not in without


def test_training_points_have_no_predictive_figures(line):
    setup, state, _, evaluation, _ = line
    assert point_figures(setup, state, setup.data["train"], evaluation, seed=0) == {}
    assert "bound is on log p(D)" in what_is_measured(setup.data["train"])
    assert "Points of test are predicted from the train" in what_is_measured(setup.data["test"])


def test_an_error_over_shared_draws_is_not_that_of_points_apart(line):
    """Closed form: a draw that adds the same to all 100 points leaves sd / sqrt(K). Planted: points
    added up as if each had draws of its own, a tenth of that."""
    _, _, test, evaluation, _ = line
    offset = np.random.default_rng(0).normal(size=(50, 1))
    made = replace(evaluation, log_p={"y": np.repeat(offset, 100, axis=1)}, log_q={})
    apart = bound_estimate(made.log_weights, bound="elbo", split=test.description)
    shared = with_shared_draws(apart, made, "elbo", None)
    expected = offset.std(ddof=1) / np.sqrt(50)
    assert_allclose(shared.monte_carlo_error, expected, rtol=1e-6)
    assert_allclose(apart.monte_carlo_error, expected / 10, rtol=1e-6)
    bits = with_shared_draws(replace(apart, unit="bits per unit"), made, "elbo", None)
    assert_allclose(bits.monte_carlo_error, expected / np.log(2), rtol=1e-6)


def test_classes_are_judged_by_the_mean_of_all_components(line):
    """Oracle: scikit-learn on the mean of sigmoid(w . x + b) over two components without width.
    Planted: component 0 alone."""
    setup = find_recipe("stein/two-classes").build(0)
    weights = np.array([[2.0, 1.0, 0.5], [-0.5, 2.0, -1.0]])

    def start(key):
        return LogisticParameters(jnp.zeros(3), jnp.zeros(()))

    many = mixture(lambda key: MeanField(start, scale=1e-9, key=key), 2, key=jax.random.key(0))
    many = eqx.tree_at(lambda q: q.components.mean.weights, many, jnp.asarray(weights))
    state, test = replace(first_state(setup), proposal=many), setup.data["test"]
    evaluation = evaluate(setup.model, many, test, num_samples=4, key=jax.random.key(1))
    found = point_figures(setup, state, test, evaluation, seed=0)
    logits = np.column_stack([test.x.inputs, np.ones(len(test))]) @ weights.T
    by_component = 1 / (1 + np.exp(-logits))
    share = by_component.mean(1)
    target = test.x.target
    assert found["accuracy"].value == accuracy_score(target, share > 0.5)
    brier = brier_score_loss(target, share, scale_by_half=False)
    assert_allclose(found["Brier score"].value, brier, rtol=1e-5)
    right = np.where(target == 1, share, 1 - share)
    assert_allclose(found["log predictive"].value, np.log(right).mean(), rtol=1e-5)
    assert abs(brier_score_loss(target, by_component[:, 0], scale_by_half=False) - brier) > 0.01
    expected, drawn = predictions(setup, state, test.x.inputs, num_samples=6, key=jax.random.key(0))
    assert expected.shape == drawn.shape == (2, 3, len(test))
