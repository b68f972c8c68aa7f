"""Gaussian outputs agree with SciPy, respect their floors and bounds, and say what cannot be meant."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal, norm

from tightbound.nn.gaussian_outputs import (
    BivariateGaussianOutput,
    DiagonalGaussianOutput,
    FullGaussianOutput,
)

FLOOR = 0.05
X = np.array([0.4, -1.5])


def scale_of(raw):
    return FLOOR + np.log1p(np.exp(np.asarray(raw)))


@eqx.filter_jit
def described(output, features, x):
    """log p(x), mean and variance."""
    law = output(features)
    return law.log_prob(x), law.mean, law.variance


def test_a_diagonal_gaussian_has_its_means_first_and_its_scales_after_them():
    """Oracle: SciPy's normal density."""
    features = np.array([0.3, -1.2, 0.5, -2.0])
    log_p, mean, variance = described(DiagonalGaussianOutput(FLOOR), features, X)
    expected = norm.logpdf(X, features[:2], scale_of(features[2:])).sum()
    assert_allclose(log_p, expected, rtol=1e-12)
    assert_allclose(mean, features[:2])
    assert_allclose(variance, scale_of(features[2:]) ** 2, rtol=1e-12)


def test_a_constant_of_another_size_breaks_the_integral():
    """Quadrature. Planted: -1/2 n log 2 pi with n the number of features, not of entries. With n
    right the twin is the law, so nothing else in it is wrong."""
    features = np.array([0.3, -1.2, 0.5, -2.0])
    mean, scale = features[:2], scale_of(features[2:])
    x, y = np.arange(-8.0, 8.0, 0.1), np.arange(-3.5, 1.0, 0.025)
    points = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    output = DiagonalGaussianOutput(FLOOR)
    score = jax.jit(jax.vmap(lambda f, x: output(f).log_prob(x), (None, 0)))
    log_p = np.asarray(score(features, points))

    def twin(size):
        squares = ((points - mean) / scale) ** 2
        return -0.5 * (size * np.log(2 * np.pi) + squares.sum(1)) - np.log(scale).sum()

    assert_allclose(twin(2), log_p, rtol=1e-10)
    assert_allclose(np.exp(log_p).sum() * 0.1 * 0.025, 1.0, rtol=1e-10)
    assert_allclose(np.exp(twin(4)).sum() * 0.1 * 0.025, 1 / (2 * np.pi), rtol=1e-10)


@pytest.mark.parametrize("obs_size", [1, 4])
def test_a_full_gaussian_reads_its_cholesky_factor_row_by_row(obs_size):
    """Oracle: SciPy's multivariate normal, its covariance from loops."""
    output = FullGaussianOutput(FLOOR)
    size = output.num_features(obs_size)
    features = np.random.default_rng(obs_size).normal(size=size)
    factor = np.diag(scale_of(features[obs_size : 2 * obs_size]))
    rest = iter(features[2 * obs_size :])
    for row in range(obs_size):
        for column in range(row):
            factor[row, column] = next(rest)
    x = np.arange(1.0, obs_size + 1)
    log_p, mean, variance = described(output, features, x)
    expected = multivariate_normal.logpdf(x, features[:obs_size], factor @ factor.T)
    assert_allclose(log_p, expected, rtol=1e-10)
    assert_allclose(mean, features[:obs_size])
    assert_allclose(variance, np.diag(factor @ factor.T), rtol=1e-12)


@pytest.mark.parametrize("raw_correlation", [-3.0, 0.0, 0.7, 50.0])
def test_a_bivariate_gaussian_is_the_multivariate_one(raw_correlation):
    """Oracle: SciPy's multivariate normal with the covariance written out."""
    features = np.array([0.3, -1.2, 0.5, -2.0, raw_correlation])
    log_p, _, variance = described(BivariateGaussianOutput(FLOOR), features, X)
    first, second = scale_of(features[2:4])
    product = 0.999 * np.tanh(raw_correlation) * first * second
    covariance = np.array([[first**2, product], [product, second**2]])
    expected = multivariate_normal.logpdf(X, features[:2], covariance)
    assert_allclose(log_p, expected, rtol=1e-9)
    assert_allclose(variance, np.diag(covariance), rtol=1e-12)


def test_draws_of_a_bivariate_gaussian_are_correlated_as_stated():
    """Monte Carlo: the mean of the standardised product is r, within 4 standard errors. Planted: a
    correlation of the wrong sign."""
    features = jnp.array([0.3, -1.2, 0.5, -2.0, 0.7])
    law = BivariateGaussianOutput(FLOOR)(features)
    draws = np.asarray(law.sample(jax.random.key(3), (20_000,)))
    product = ((draws - np.asarray(law.mean)) / np.sqrt(np.asarray(law.variance))).prod(1)
    error = product.std() / np.sqrt(len(product))
    assert abs(product.mean() - law.correlation) < 4 * error
    assert abs(product.mean() + law.correlation) > 8 * error


@pytest.mark.parametrize("output", [DiagonalGaussianOutput(FLOOR), FullGaussianOutput(FLOOR)])
def test_the_density_is_largest_at_its_floor_and_stays_bounded(output):
    """Closed form: -log(sqrt(2 pi) floor) per entry, however far the raw scales are pushed down."""
    features = np.zeros(output.num_features(2))
    features[2:4] = -1e4
    log_p, _, _ = described(output, features, np.zeros(2))
    assert_allclose(log_p, 2 * norm.logpdf(0.0, 0.0, FLOOR), rtol=1e-12)


def test_the_bound_on_the_correlation_bounds_the_density():
    """Closed form, in 32 bits. Planted: Graves' bare tanh, which is 1 there, and nothing is finite."""
    features = np.array([0.0, 0.0, -1e4, -1e4, 50.0], np.float32)
    output = BivariateGaussianOutput(FLOOR)
    largest, _, _ = described(output, features, np.zeros(2, np.float32))
    bound = -np.log(2 * np.pi * FLOOR**2 * np.sqrt(1 - 0.999**2))
    assert_allclose(largest, bound, rtol=1e-4)
    assert 1 - jnp.tanh(features[4]) ** 2 == 0.0


def test_what_cannot_be_a_gaussian_is_refused():
    with pytest.raises(ValueError, match=r"floor of the output scale is 0.0, but .* Raise `min_sc"):
        DiagonalGaussianOutput(0.0)
    with pytest.raises(
        ValueError, match=r"largest correlation is 1.0, but it must lie in \[0, 1\)"
    ):
        BivariateGaussianOutput(FLOOR, max_correlation=1.0)
    with pytest.raises(ValueError, match=r"law of 2 entries, not of 3. `FullGaussianOutput` takes"):
        BivariateGaussianOutput(FLOOR).num_features(3)
