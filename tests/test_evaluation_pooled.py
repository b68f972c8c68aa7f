"""Points of one data set are one sequence, whatever the chunks; other points are predicted from it.

Oracles: SciPy by hand at the same draws; the closed forms of Bayesian linear regression.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

from tightbound.data.toys.points import linear_points
from tightbound.errors import UserError
from tightbound.evaluation import evaluate
from tightbound.families.stein.model_regression import BayesianLinearRegression
from tightbound.models.base import AbstractProposal
from tightbound.models.mean_field import MeanField
from tightbound.models.posterior import ExactPosterior
from tightbound.terms import Kind
from tightbound.train.run import held_out_report

KEY = jax.random.key(3)
SPLITS = linear_points(11, num_held_out=7, input_size=2)
MODEL = BayesianLinearRegression(2, noise_scale=0.5)
GUIDE = MeanField(MODEL.sample_prior, scale=0.3, key=jax.random.key(0))
LIMIT = norm.isf(1e-3 / 7 / 2)  # seven sampled statistics in this file, at level 1e-3 together


def draws(num_samples):
    """What `evaluate` draws: the keys of row 0, by number."""
    _, draw_key = jax.random.split(KEY)
    keys = jax.random.split(jax.random.fold_in(draw_key, 0), num_samples)
    return np.asarray(jax.vmap(GUIDE.proposal(jnp.zeros(1)).sample)(keys))


def features(name):
    inputs = SPLITS[name].x.inputs
    return np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)


def log_likelihoods(name, theta):
    """log p(y_i | x_i, theta_s), by hand, (draws, points)."""
    return norm.logpdf(SPLITS[name].x.target, theta @ features(name).T, 0.5)


@pytest.mark.parametrize(
    "max_draws", [4, 20, 1000]
)  # chunks of 1, of 5, which do not divide 11, all
def test_a_data_set_is_one_row_and_its_weight_is_that_of_all_points_together(max_draws):
    """Oracle: SciPy at the same draws, log p(theta) + sum_i log p(y_i | x_i, theta) - log q(theta), whatever
    the chunks. Planted: the mean over points, and chunks that stand for the whole as minibatches do."""
    found = evaluate(MODEL, GUIDE, SPLITS["train"], num_samples=4, key=KEY, max_draws=max_draws)
    theta = draws(4)
    prior = norm.logpdf(theta).sum(1)
    log_q = norm.logpdf(theta, np.asarray(GUIDE.mean), 0.3).sum(1)
    each = log_likelihoods("train", theta)
    assert_allclose(found.log_weights[:, 0], prior + each.sum(1) - log_q, rtol=1e-6)
    assert_allclose(found.log_p["theta"][:, 0], prior, rtol=1e-6)
    assert_array_equal(found.num_units, [11])
    assert_array_equal(found.rows, [0])
    assert np.abs(each.mean(1) - each.sum(1)).min() > 1
    assert np.abs(each[:, :5].sum(1) * 11 / 5 - each.sum(1)).min() > 0.1


@pytest.mark.parametrize("max_draws", [4, 20, 1000])
def test_predicted_points_are_rows_scored_under_the_guide_of_the_training_points(max_draws):
    """Oracle: SciPy at the same draws, point by point; theta costs nothing, as it was scored where it
    was fitted. Planted: its log p - log q, counted at every point."""
    found = evaluate(MODEL, GUIDE, SPLITS["valid"], num_samples=4, key=KEY, max_draws=max_draws)
    theta = draws(4)
    assert_allclose(found.log_weights, log_likelihoods("valid", theta), rtol=1e-5)
    assert found.log_q == {}
    assert found.kinds == {"theta": Kind.LATENT, "y": Kind.OBSERVED}
    assert found.split == "valid given train (line with noise 0.5)"
    assert_array_equal(found.num_units, np.ones(7))
    counted = norm.logpdf(theta).sum(1) - norm.logpdf(theta, np.asarray(GUIDE.mean), 0.3).sum(1)
    assert np.abs(counted).min() > 0.1


def test_with_the_posterior_the_one_weight_is_the_log_marginal_of_the_data_set():
    """Closed form: log p(D), for every draw. Planted: the guide, whose bound is lower."""
    split = SPLITS["train"]
    points = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), split.take(np.arange(11)).x)
    expected = float(jax.jit(MODEL.log_marginal)(points))
    found = evaluate(MODEL, ExactPosterior(MODEL), split, num_samples=4, key=KEY)
    assert_allclose(found.log_weights, np.full((4, 1), expected), rtol=1e-6)
    guided = evaluate(MODEL, GUIDE, split, num_samples=4, key=KEY)
    assert guided.log_weights.mean() < expected - 1


def test_a_proposal_that_reads_the_points_is_refused_in_chunks():
    """Every chunk would have a posterior of its own; their sum lies above log p(D)."""
    with pytest.raises(
        UserError, match=r"chunks of 5 points drew different latents.* to 44, for a"
    ):
        evaluate(
            MODEL, ExactPosterior(MODEL), SPLITS["train"], num_samples=4, key=KEY, max_draws=20
        )


class PosteriorOfTraining(AbstractProposal):
    """p(theta | training points), whatever x is asked about."""

    mean: jax.Array
    covariance: jax.Array

    def proposal(self, x):
        return dist.MultivariateNormal(self.mean, self.covariance)


def test_the_mean_density_of_a_predicted_point_is_the_posterior_predictive():
    """Closed form: N(f . m, f S f + s^2) with the posterior N(m, S) by the normal equations. The log of
    the mean over 4,000 draws is within its standard error at every point; the mean of the logs, a
    lower bound, is below by more than 8 of them at one."""
    design, target = features("train"), SPLITS["train"].x.target
    covariance = np.linalg.inv(np.eye(3) + design.T @ design / 0.25)
    mean = covariance @ design.T @ target / 0.25
    held_out = features("valid")
    scale = np.sqrt(np.einsum("pi,ij,pj->p", held_out, covariance, held_out) + 0.25)
    expected = norm.logpdf(SPLITS["valid"].x.target, held_out @ mean, scale)

    q = PosteriorOfTraining(jnp.array(mean), jnp.array(covariance))
    found = evaluate(MODEL, q, SPLITS["valid"], num_samples=4000, key=KEY)
    ratios = np.exp(found.log_weights - expected)
    errors = ratios.std(0) / np.sqrt(len(ratios))
    assert (np.abs(ratios.mean(0) - 1) / errors).max() < LIMIT
    assert (-(found.log_weights.mean(0) - expected) / errors).max() > 8


def test_the_record_of_a_run_counts_draws_that_all_points_share_once():
    """Oracle: the spread over draws of the mean over points, by hand. Planted: every point as if it had
    draws of its own."""
    found = evaluate(MODEL, GUIDE, SPLITS["test"], num_samples=50, key=KEY)
    of_draws = log_likelihoods("test", draws(50)).mean(1)
    error = held_out_report(found, True)["bound"]["monte_carlo_error"]
    assert_allclose(error, of_draws.std(ddof=1) / np.sqrt(50), rtol=1e-5)
    apart = found.log_weights.std(0, ddof=1) / np.sqrt(50)
    assert np.sqrt(np.square(apart).mean() / len(apart)) < 0.8 * error


def test_a_proposal_that_reads_the_points_it_predicts_is_refused():
    """In a single chunk too: its draws would be of the held-out points' own latents."""
    with pytest.raises(UserError, match="looks at the points it is given"):
        evaluate(MODEL, ExactPosterior(MODEL), SPLITS["test"], num_samples=2, key=KEY)
