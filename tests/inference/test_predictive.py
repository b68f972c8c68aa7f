"""Oracles: closed forms of a linear regression and of probabilistic PCA, and identities of axes.

Sampled tests: their keys were fixed beforehand; 4 means and variances are compared in all, at 4.1
standard errors each (Bonferroni, 1e-3 for the file). What is planted moves them by 8 or more.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tightbound.data.batch import Batch, rows
from tightbound.data.point_splits import point_splits
from tightbound.data.points import Points
from tightbound.families.stein.model_regression import (
    BayesianLinearRegression,
    BayesianLogisticRegression,
)
from tightbound.inference.predictive import posterior_draws, predicted, predictive_draws
from tightbound.models.mean_field import MeanField
from tightbound.models.mixture import mixture
from tightbound.models.posterior import ExactPosterior
from tightbound.models.ppca import ProbabilisticPCA

NUM = 20_000
ERRORS = 4.1
RANDOM = np.random.default_rng(0)
TRAIN = Points(RANDOM.normal(size=(8, 2)), RANDOM.normal(size=8))
NEW = RANDOM.normal(size=(3, 2))
MEANS = np.array([[-2.0, 1.0, 0.0], [0.5, 0.0, 1.0], [3.0, -1.0, 0.5]])  # of three components


@pytest.fixture(scope="module")
def regression():
    return BayesianLinearRegression(2, prior_scale=1.5, noise_scale=0.4)


@pytest.fixture(scope="module")
def data_set():
    return point_splits({"train": TRAIN})["train"].take(np.arange(8))


def three_components(means=MEANS, scale=1e-9):
    """Normals so narrow that a draw is its component's mean."""
    many = mixture(
        lambda key: MeanField(lambda key: jnp.zeros(means.shape[1]), scale=scale, key=key),
        len(means),
        key=jax.random.key(0),
    )
    return eqx.tree_at(lambda m: m.components.mean, many, jnp.asarray(means))


def standard_errors_off(draws, mean, variance):
    """How far the draws' mean and variance lie from theirs, in their own standard errors."""
    off_mean = (draws.mean(0) - mean) / (draws.std(0) / np.sqrt(len(draws)))
    square = np.square(draws - mean)
    off_variance = (square.mean(0) - variance) / (square.std(0) / np.sqrt(len(draws)))
    return np.abs(off_mean), np.abs(off_variance)


def closed_form(regression, batch):
    """Mean and variance of y at NEW: f . m and f . C f + s^2, and the latter without the noise."""
    x = jax.tree.map(lambda leaf: leaf[0], batch.x)
    posterior = regression.posterior(x)
    features = np.column_stack([NEW, np.ones(len(NEW))])
    covariance = np.asarray(posterior.covariance_matrix)
    of_mean = np.einsum("pf,fg,pg->p", features, covariance, features)
    return features @ np.asarray(posterior.loc), of_mean, of_mean + 0.4**2


def test_predictions_are_the_closed_form_of_a_linear_regression(regression, data_set):
    """Oracle: the Gaussian integral of the posterior. Planted: targets without the noise."""
    found = jax.jit(
        lambda key: predicted(
            regression, ExactPosterior(regression), data_set, jnp.asarray(NEW),
            num_samples=NUM, key=key,
        )
    )(jax.random.key(1))  # fmt: skip
    mean, of_mean, of_target = closed_form(regression, data_set)
    expected, target = np.asarray(found.expected)[0], np.asarray(found.target)[0]
    for draws, variance in ((expected, of_mean), (target, of_target)):
        assert np.max(standard_errors_off(draws, mean, variance)) < ERRORS
    assert np.min(standard_errors_off(expected, mean, of_target)[1]) > 8


def test_replicates_of_an_observation_have_the_closed_form_of_probabilistic_pca():
    """x* ~ N(W m + b, W C W^T + s^2 I), with p(z | x) = N(m, C). Planted: draws of the mean alone."""
    model = ProbabilisticPCA(3, 1, key=jax.random.key(2))
    x = jnp.array([[0.5, -1.0, 2.0]])
    batch = rows("test", np.asarray(x)).take(np.arange(1))
    draw = jax.jit(
        lambda key: predictive_draws(model, ExactPosterior(model), batch, num_samples=NUM, key=key)
    )
    found = np.asarray(draw(jax.random.key(3)))[0, :, 0]
    posterior = model.posterior(x[0])
    weight, scale = np.asarray(model.weight), float(jnp.exp(model.log_scale))
    mean = weight @ np.asarray(posterior.loc) + np.asarray(model.bias)
    spread = weight @ np.asarray(posterior.covariance_matrix) @ weight.T
    variance = np.diag(spread) + scale**2
    assert np.max(standard_errors_off(found, mean, variance)) < ERRORS
    assert np.min(standard_errors_off(found, mean, np.diag(spread))[1]) > 8


def test_draws_have_an_axis_of_components_in_their_order(regression, data_set):
    """Identity: a component without width draws its mean. Planted: component 0 for all."""
    found = posterior_draws(
        regression, three_components(), data_set, num_samples=2, key=jax.random.key(4)
    )
    assert found.shape == (3, 2, 1, 3)
    expected = np.broadcast_to(MEANS[:, None, None], found.shape)
    assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found[:1] - expected).max() > 1


def test_predictions_are_those_of_every_component_alone(regression, data_set):
    """Identity: a component without width predicts w . x + b. Planted: component 0 alone, which is
    another predictive mean."""
    found = predicted(
        regression, three_components(), data_set, jnp.asarray(NEW),
        num_samples=2, key=jax.random.key(5),
    )  # fmt: skip
    features = np.column_stack([NEW, np.ones(len(NEW))])
    by_component = MEANS @ features.T
    assert found.expected.shape == found.target.shape == (3, 2, 3)
    assert_allclose(found.expected, np.repeat(by_component[:, None], 2, axis=1), atol=1e-5)
    assert_allclose(found.expected.mean((0, 1)), by_component.mean(0), atol=1e-5)
    assert np.abs(found.expected[0].mean(0) - by_component.mean(0)).max() > 0.1


def test_draws_of_the_same_component_and_of_others_differ(regression, data_set):
    """Every component and every sample has a key of its own."""
    draws = posterior_draws(
        regression, three_components(np.zeros((3, 3)), scale=1.0), data_set,
        num_samples=4, key=jax.random.key(6),
    )  # fmt: skip
    assert len(np.unique(np.asarray(draws))) == draws.size


def test_a_sequences_draws_come_from_its_row_and_not_from_its_neighbours():
    """Identity, to rounding. Planted: rows told by their place in the batch."""
    model = ProbabilisticPCA(3, 2, key=jax.random.key(7))
    split = rows("test", np.random.default_rng(1).normal(size=(4, 3)))

    def draws(batch):
        return posterior_draws(
            model, ExactPosterior(model), batch, num_samples=2, key=jax.random.key(8)
        )

    together, alone = draws(split.take(np.arange(4))), draws(split.take(np.array([2])))
    assert_allclose(together[:, :, 2], alone[:, :, 0], rtol=1e-12)
    misplaced = split.take(np.array([2]))
    misplaced = Batch(misplaced.x, misplaced.mask, misplaced.num_units, np.zeros(1, np.int32))
    assert np.abs(draws(misplaced)[:, :, 0] - together[:, :, 2]).max() > 1e-3


def test_classes_are_predicted_by_probabilities_and_draws_of_them(data_set):
    """Identity: the expectation of a class that is 0 or 1 is its probability, sigmoid(w . x + b)."""
    model = BayesianLogisticRegression(2)
    proposal = ExactPosterior(model=_Fixed(model.sample_prior(jax.random.key(9))))
    found = predicted(
        model, proposal, data_set, jnp.asarray(NEW), num_samples=3, key=jax.random.key(10)
    )
    weights = np.asarray(proposal.model.theta.weights)
    logits = NEW @ weights[:2] + weights[2]
    assert_allclose(found.expected[0, 0], 1 / (1 + np.exp(-logits)), rtol=1e-10)
    assert set(np.unique(found.target)) <= {0, 1}


class _Fixed:
    """A posterior that is one theta."""

    def __init__(self, theta):
        self.theta = theta

    def posterior(self, x):
        return self

    def sample(self, key):
        return self.theta

    def log_prob(self, value):
        return jnp.zeros(())


def test_rows_that_are_no_single_data_set_are_refused(regression):
    batch = rows("test", np.zeros((2, 3))).take(np.arange(2))
    with pytest.raises(ValueError, match="one data set, but the batch holds 2 sequences"):
        predicted(
            regression, ExactPosterior(regression), batch, jnp.asarray(NEW),
            num_samples=1, key=jax.random.key(0),
        )  # fmt: skip


@pytest.mark.parametrize("draw", [posterior_draws, predictive_draws])
def test_no_draws_are_refused(regression, data_set, draw):
    with pytest.raises(ValueError, match="every component draws at least once"):
        draw(regression, ExactPosterior(regression), data_set, num_samples=0, key=jax.random.key(0))
