"""Oracles: SciPy's densities, quadrature, and the identity that a target is its own posterior."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal, norm

from tightbound.data.no_data import target_splits
from tightbound.families.stein.model_target import (
    CorrelatedGaussianTarget,
    GaussianMixtureTarget,
    GaussianTarget,
)
from tightbound.inference.weigh import weigh
from tightbound.models.base import AbstractModel
from tightbound.models.posterior import ExactPosterior
from tightbound.terms import Kind

ROW = jnp.zeros(1)
KEY = jax.random.key(3)
GRID = np.linspace(-12.0, 12.0, 2401)
TARGETS = {
    "gaussian": GaussianTarget(3, mean=(0.5, -1.0, 2.0), scale=(1.5, 0.4, 1.0)),
    "correlated": CorrelatedGaussianTarget(3, correlation=0.8),
    "mixture": GaussianMixtureTarget(3, weights=(0.25, 0.75)),
}


def expected_log_prob(name, z):
    """SciPy's log-density of each of `TARGETS`."""
    if name == "gaussian":
        return norm.logpdf(z, [0.5, -1.0, 2.0], [1.5, 0.4, 1.0]).sum(-1)
    if name == "correlated":
        covariance = [[1.0, 0.8, 0.64], [0.8, 1.0, 0.8], [0.64, 0.8, 1.0]]
        return multivariate_normal.logpdf(z, np.zeros(3), covariance)
    modes = [norm.logpdf(z, mean).sum(-1) for mean in (-3.0, 3.0)]
    return np.logaddexp(np.log(0.25) + modes[0], np.log(0.75) + modes[1])


@pytest.mark.parametrize("name", TARGETS)
def test_the_score_is_scipys_density_whatever_x_is(name):
    """Oracle: SciPy, with means, scales and covariance written out."""
    z = 2 * np.random.default_rng(0).normal(size=(6, 3))
    score = jax.jit(jax.vmap(lambda z, x: TARGETS[name].score(x, z)["z"]))
    assert_allclose(score(z, jnp.zeros((6, 1)))[:, 0], expected_log_prob(name, z), rtol=1e-12)
    assert_array_equal(score(z, jnp.full((6, 1), 7.0)), score(z, jnp.zeros((6, 1))))


class WithoutItsConstant(AbstractModel):
    """The planted bug: the density of N(0, s^2) without 1 / (s sqrt(2 pi))."""

    kinds = {"z": Kind.LATENT}
    inner: GaussianTarget

    def sample_prior(self, key):
        return self.inner.sample_prior(key)

    def score(self, x, z):
        return {"z": -0.5 * jnp.square(z / self.inner.scale[0])}

    def sample_likelihood(self, z, key):
        return self.inner.sample_likelihood(z, key)


def integral(target):
    log_p = jax.jit(jax.vmap(lambda z: target.score(ROW, z)["z"][0]))(GRID[:, None])
    return np.trapezoid(np.exp(log_p), GRID)


@pytest.mark.parametrize(
    "target",
    [
        GaussianTarget(1),
        GaussianTarget(1, mean=1.0, scale=0.5),
        CorrelatedGaussianTarget(1, correlation=0.9),
        GaussianMixtureTarget(),
    ],
    ids=lambda target: type(target).__name__,
)
def test_a_target_integrates_to_one(target):
    """Quadrature on a fine grid: log Z = 0, as `log_marginal` says."""
    assert_allclose(integral(target), np.exp(target.log_marginal(ROW)), rtol=1e-12)


def test_a_missing_constant_shows_in_the_integral():
    """Planted: without its constant the density integrates to s sqrt(2 pi)."""
    bad = WithoutItsConstant(GaussianTarget(1, scale=0.5))
    assert_allclose(integral(bad), 0.5 * np.sqrt(2 * np.pi), rtol=1e-12)


@pytest.mark.parametrize("name", TARGETS)
def test_every_weight_is_one_when_the_proposal_is_the_target(name):
    """Identity: log p(z) - log q(z) = log Z = 0 at every draw. Planted: another target as q."""
    batch = target_splits()["train"].take(np.arange(1))
    weights = eqx.filter_jit(lambda q: weigh(TARGETS[name], q, batch, num_samples=5, key=KEY))
    terms = weights(ExactPosterior(TARGETS[name]))
    assert_allclose(terms.log_weights, np.zeros((5, 1)), atol=1e-10)
    assert_array_equal(terms.log_likelihood, np.zeros((5, 1)))
    other = weights(ExactPosterior(GaussianTarget(3, scale=2.0)))
    assert np.ptp(other.log_weights) > 0.1


@pytest.mark.parametrize("name", TARGETS)
def test_draws_have_the_mean_and_the_covariance_of_the_target(name):
    """Closed form; Monte Carlo, 12 entries of each of 3 targets within 4.8 of their standard errors
    (level 1e-3 in all). Planted: a covariance of twice, and of half the size."""
    mean, covariance = {
        "gaussian": (np.array([0.5, -1.0, 2.0]), np.diag([1.5**2, 0.4**2, 1.0])),
        "correlated": (np.zeros(3), 0.8 ** np.abs(np.subtract.outer(range(3), range(3)))),
        # About its mean 1.5 the mode at -3 lies 4.5 below, the mode at 3 lies 1.5 above.
        "mixture": (np.full(3, 1.5), np.eye(3) + 0.25 * 4.5**2 + 0.75 * 1.5**2),
    }[name]
    keys = jax.random.split(jax.random.key(5), 4000)
    z = np.asarray(jax.jit(jax.vmap(TARGETS[name].sample_prior))(keys))
    away = z - mean
    moments = np.concatenate([away, (away[:, :, None] * away[:, None, :]).reshape(-1, 9)], axis=1)
    errors = moments.std(0) / np.sqrt(len(z))

    def distance(mean_error, covariance):
        shift = np.concatenate([mean_error, covariance.ravel()])
        return (np.abs(moments.mean(0) - shift) / errors).max()

    assert distance(np.zeros(3), covariance) < 4.8
    assert distance(np.zeros(3), 2 * covariance) > 8.0
    assert distance(np.zeros(3), 0.5 * covariance) > 8.0


def test_the_best_diagonal_gaussian_of_the_chain_is_as_narrow_as_stated():
    """KL(q || N(0, C)) is smallest at the variances 1 / (C^-1)_ii: NumPy inverts C."""
    rho = 0.8
    covariance = rho ** np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    expected = np.full(5, (1 - rho**2) / (1 + rho**2))
    expected[[0, -1]] = 1 - rho**2
    assert_allclose(1 / np.diag(np.linalg.inv(covariance)), expected, rtol=1e-12)
    factor = CorrelatedGaussianTarget(5, correlation=rho)._factor()
    assert_allclose(factor @ factor.T, covariance, rtol=1e-12)


def test_a_target_has_no_parameter_to_learn():
    """By hand: nothing of a target is an array, so no optimiser can move it."""
    for target in TARGETS.values():
        assert jax.tree.leaves(target) == []


def test_the_splits_hold_one_row_each_and_say_that_they_hold_nothing():
    """By hand."""
    splits = target_splits()
    assert [len(split) for split in splits.values()] == [1, 1, 1]
    assert splits["test"].description == "test (no data)"
    drawn = GaussianTarget(2).sample_likelihood(jnp.zeros(2), KEY)
    assert drawn.shape == splits["train"].x.shape[1:]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianTarget(0), "dimension 0; give at least 1"),
        (lambda: GaussianTarget(2, scale=0.0), "scale of the target is 0.0, but .* positive"),
        (lambda: GaussianTarget(2, mean=(1.0,)), "dimension 2 was given 1 numbers"),
        (lambda: CorrelatedGaussianTarget(2, correlation=1.0), "is 1.0, but it must lie between"),
        (lambda: GaussianMixtureTarget(weights=(0.5, 0.4)), "positive numbers that sum to 1"),
        (lambda: GaussianMixtureTarget(means=(1.0,)), "1 means and 2 weights"),
    ],
)
def test_a_law_that_cannot_be_says_what_to_give(make, message):
    """The sentence a person reads."""
    with pytest.raises(ValueError, match=message):
        make()
