"""Oracles: SciPy's dense Gaussian of the targets, the normal equations, quadrature, Bayes' rule."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpyro.distributions import MultivariateNormal
from scipy.stats import bernoulli, gamma, multivariate_normal, norm, t

from tightbound.data.batch import rows
from tightbound.data.points import Points, PointSet
from tightbound.families.edits.exact import quadrature_log_marginal
from tightbound.families.stein.model_regression import (
    BayesianLinearRegression,
    BayesianLogisticRegression,
    LogisticParameters,
)
from tightbound.families.stein.precision import FixedPrecision
from tightbound.inference.weigh import weigh
from tightbound.models.base import AbstractProposal
from tightbound.models.posterior import ExactPosterior

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(6, 2))
TARGET = RANDOM.normal(size=6)
WEIGHT = np.array([1.0, 2.0, 1.0, 3.0, 1.0, 1.0])
TWICE = np.repeat(np.arange(6), WEIGHT.astype(int))  # each point as often as its weight says
LABELS = np.array([1, 0, 1, 1, 0, 1], np.int32)
PRIOR_SCALE, NOISE_SCALE = 1.5, 0.4


def point_set(inputs=INPUTS, target=TARGET, weight=None):
    weight = np.ones(len(inputs)) if weight is None else weight
    return PointSet(Points(inputs, target), weight)


@pytest.fixture(scope="module")
def model():
    return BayesianLinearRegression(2, prior_scale=PRIOR_SCALE, noise_scale=NOISE_SCALE)


def dense_log_marginal(inputs, target):
    """SciPy's log N(y; 0, s0^2 F F^T + s^2 I), the bias a column of ones in F."""
    features = np.column_stack([inputs, np.ones(len(inputs))])
    covariance = PRIOR_SCALE**2 * features @ features.T + NOISE_SCALE**2 * np.eye(len(inputs))
    return multivariate_normal.logpdf(target, np.zeros(len(inputs)), covariance)


def test_log_marginal_is_the_dense_gaussian_of_the_targets(model):
    """Oracle: SciPy. Planted: one point less."""
    found = eqx.filter_jit(model.log_marginal)(point_set())
    assert_allclose(found, dense_log_marginal(INPUTS, TARGET), rtol=1e-11)
    assert abs(found - dense_log_marginal(INPUTS[1:], TARGET[1:])) > 0.1


def test_the_posterior_solves_the_normal_equations(model):
    """Oracle: NumPy's least squares on the points with the prior appended as one more point per
    latent (target 0, noise s0): its solution is the mean, its inverse Gram matrix the covariance."""
    posterior = model.posterior(point_set())
    features = np.column_stack([INPUTS, np.ones(6)])
    rows = np.concatenate([features / NOISE_SCALE, np.eye(3) / PRIOR_SCALE])
    values = np.concatenate([TARGET / NOISE_SCALE, np.zeros(3)])
    assert_allclose(posterior.mean, np.linalg.lstsq(rows, values)[0], rtol=1e-10)
    assert_allclose(posterior.covariance_matrix, np.linalg.inv(rows.T @ rows), rtol=1e-10)


def test_bayes_rule_holds_at_any_theta(model):
    """Identity: log p(theta) + log p(D | theta) - log p(D) = log p(theta | D)."""
    x = point_set(weight=WEIGHT)
    posterior, log_marginal = model.posterior(x), model.log_marginal(x)
    for theta in np.random.default_rng(1).normal(size=(4, 3)):
        log_joint = sum(site.sum() for site in model.score(x, jnp.asarray(theta)).values())
        assert_allclose(log_joint - log_marginal, posterior.log_prob(theta), rtol=1e-10)


def test_the_weight_of_a_point_is_a_power_of_its_likelihood(model):
    """Identity: weight w is the point w times. Planted: weights of 1 give another posterior."""
    weighted, repeated = point_set(weight=WEIGHT), point_set(INPUTS[TWICE], TARGET[TWICE])
    assert_allclose(model.log_marginal(weighted), model.log_marginal(repeated), rtol=1e-11)
    means = [model.posterior(x).mean for x in (weighted, repeated, point_set())]
    assert_allclose(means[0], means[1], rtol=1e-10)
    assert np.abs(means[0] - means[2]).max() > 1e-3
    assert_allclose(model.log_marginal(repeated), dense_log_marginal(INPUTS[TWICE], TARGET[TWICE]))


def test_padding_leaves_the_posterior_and_the_marginal_alone(model):
    """Identity, with NaN in the padding. Planted: the same points with the weight of real ones."""
    inputs = np.concatenate([INPUTS, np.full((2, 2), np.nan)])
    target = np.concatenate([TARGET, np.full(2, np.nan)])
    padded = point_set(inputs, target, np.array([1.0] * 6 + [0.0] * 2))
    assert_allclose(model.log_marginal(padded), model.log_marginal(point_set()), rtol=1e-12)
    assert_allclose(model.posterior(padded).mean, model.posterior(point_set()).mean, rtol=1e-12)
    assert np.isnan(eqx.filter_jit(model.log_marginal)(point_set(inputs, target)))


def test_log_marginal_is_the_integral_over_one_latent():
    """Oracle: the referee's quadrature, exact for a Gaussian. Planted: another noise scale."""
    x = jax.tree.map(jnp.asarray, point_set(INPUTS[:, :1]))
    one, other = (
        BayesianLinearRegression(1, bias=False, prior_scale=PRIOR_SCALE, noise_scale=scale)
        for scale in (NOISE_SCALE, 2 * NOISE_SCALE)
    )
    quadrature = jax.jit(lambda: quadrature_log_marginal(one, x))()
    assert_allclose(one.log_marginal(x), quadrature, rtol=1e-9)
    assert abs(other.log_marginal(x) - quadrature) > 0.1


@pytest.fixture(scope="module")
def batch():
    """The points as a pooled split gives them: one sequence."""
    split = replace(rows("train", Points(INPUTS, TARGET)), pooled=True)
    return split.take(np.arange(6))


class PosteriorWithoutItsPrior(AbstractProposal):
    """The planted bug: the prior's precision left out of the posterior's."""

    model: BayesianLinearRegression

    def proposal(self, x):
        posterior = self.model.posterior(x)
        precision = posterior.precision_matrix - jnp.eye(3) / self.model.prior_scale**2
        return MultivariateNormal(posterior.mean, precision_matrix=precision)


def test_every_weight_is_the_marginal_when_the_proposal_is_the_posterior(model, batch):
    """Identity: if q = p(theta | D), every weight is p(D), for any draw. Planted: a posterior whose
    precision lacks the prior's."""
    weights = eqx.filter_jit(
        lambda q: weigh(model, q, batch, num_samples=5, key=jax.random.key(2)).log_weights
    )
    expected = np.full((5, 1), dense_log_marginal(INPUTS, TARGET))
    assert_allclose(weights(ExactPosterior(model)), expected, rtol=1e-10)
    assert np.ptp(weights(PosteriorWithoutItsPrior(model))) > 1e-3


def parameters(weights, log_precision=None):
    return LogisticParameters(
        jnp.asarray(weights), None if log_precision is None else jnp.asarray(log_precision)
    )


def test_logistic_sites_are_scipys_densities():
    """Oracle: SciPy's Bernoulli, normal and Gamma, with the Jacobian e^l of l = log alpha."""
    weights, log_precision = np.array([0.7, -1.2, 0.3]), -0.8
    theta = parameters(weights, log_precision)
    model = BayesianLogisticRegression(2)
    scores = eqx.filter_jit(model.score)(point_set(target=LABELS, weight=WEIGHT), theta)
    logits = np.column_stack([INPUTS, np.ones(6)]) @ weights
    probability = 1 / (1 + np.exp(-logits))
    expected = WEIGHT * bernoulli.logpmf(LABELS, probability)
    assert_allclose(scores["y"], expected, rtol=1e-11)
    prior = (
        norm.logpdf(weights, scale=np.exp(0.4)).sum()
        + gamma.logpdf(np.exp(-0.8), 1.0, scale=100.0)
        - 0.8
    )
    assert_allclose(scores["theta"], [prior], rtol=1e-12)
    assert_allclose(model.predict(INPUTS, theta), probability, rtol=1e-12)


def test_the_logistic_prior_without_its_precision_is_a_student_t():
    """Closed form: a normal whose precision is Gamma(1, 0.01) is a Student t with 2 degrees of
    freedom and scale 0.1. Planted: alpha's density without the Jacobian."""
    model = BayesianLogisticRegression(1, bias=False)
    grid = np.linspace(-40.0, 12.0, 4001)

    def log_prior(l):
        return model.log_prior(parameters([0.3], l))

    density = np.exp(jax.jit(jax.vmap(log_prior))(jnp.asarray(grid)))
    expected = t.pdf(0.3, df=2, scale=0.1)
    assert_allclose(np.trapezoid(density, grid), expected, rtol=1e-9)
    assert abs(np.trapezoid(density * np.exp(-grid), grid) - expected) > 0.5 * expected


def test_logistic_marginals_of_all_targets_sum_to_one():
    """Enumeration of 2^3 targets and quadrature over one latent, the prior a known N(0, 1 / 4).
    Planted: weights of 2, which make no law of the targets."""
    model = BayesianLogisticRegression(1, bias=False, precision=FixedPrecision(4.0))
    grid = jnp.linspace(-6.0, 6.0, 401)
    targets = np.array(np.meshgrid(*[[0, 1]] * 3)).reshape(3, -1).T

    def joint(target, w, weight):
        x = point_set(INPUTS[:3, :1], target, np.full(3, 1.0) * weight)
        scores = model.score(x, parameters(w[None]))
        return jnp.exp(scores["theta"].sum() + scores["y"].sum())

    by_grid = jax.vmap(joint, in_axes=(None, 0, None))
    every = jax.jit(jax.vmap(by_grid, in_axes=(0, None, None)))
    assert_allclose(np.trapezoid(every(targets, grid, 1.0), grid, axis=1).sum(), 1.0, rtol=1e-10)
    assert np.trapezoid(every(targets, grid, 2.0), grid, axis=1).sum() < 0.7


def test_a_drawn_theta_is_one_that_the_prior_scores():
    """Shapes, and the spread of w sqrt(alpha): standard normal, so its mean square is 1 within 4.5
    standard errors. Planted: w divided by alpha itself."""
    model = BayesianLogisticRegression(2)
    drawn = jax.jit(jax.vmap(model.sample_prior))(jax.random.split(jax.random.key(0), 2000))

    def error(power):
        alpha = np.exp(np.asarray(drawn.log_precision))[:, None]
        squares = (np.asarray(drawn.weights) * alpha**power).ravel() ** 2
        return abs(squares.mean() - 1) / (squares.std() / np.sqrt(squares.size))

    assert error(0.5) < 4.5
    assert error(1.0) > 8.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BayesianLinearRegression(0), "on 0 inputs .* at least 1 of each"),
        (lambda: BayesianLogisticRegression(2, num_points=0), "data sets of 0 points"),
        (lambda: BayesianLinearRegression(1, noise_scale=0.0), "noise scale 0.0; both must be"),
    ],
)
def test_a_regression_that_cannot_be_says_what_to_give(make, message):
    """The sentence a person reads."""
    with pytest.raises(ValueError, match=message):
        make()
