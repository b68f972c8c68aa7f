"""Oracles: SciPy's dense Gaussian, and the identity p(x, z) = p(z | x) p(x)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.linalg import cho_solve
from numpy.testing import assert_allclose
from numpyro.distributions import MultivariateNormal
from scipy.stats import multivariate_normal

from tightbound.data.batch import Batch
from tightbound.inference.weigh import weigh
from tightbound.models.base import AbstractProposal
from tightbound.models.posterior import ExactPosterior
from tightbound.models.ppca import ProbabilisticPCA


@pytest.fixture(scope="module")
def model():
    model = ProbabilisticPCA(5, 2, key=jax.random.key(0))
    bias = jax.random.normal(jax.random.key(1), (5,))
    return eqx.tree_at(lambda m: (m.bias, m.log_scale), model, (bias, jnp.array(-0.4)))


@pytest.fixture(scope="module")
def batch():
    x = jax.random.normal(jax.random.key(2), (3, 5))
    return Batch(x, jnp.ones((3, 1), bool), jnp.ones(3, int), jnp.arange(3))


def test_log_marginal_is_the_dense_gaussian(model, batch):
    """Oracle: SciPy, with the covariance W W^T + s^2 I written out."""
    weight = np.asarray(model.weight)
    covariance = weight @ weight.T + np.exp(2 * model.log_scale) * np.eye(5)
    expected = multivariate_normal.logpdf(batch.x, model.bias, covariance)
    assert_allclose(jax.vmap(model.log_marginal)(batch.x), expected, rtol=1e-12)


@pytest.mark.parametrize("num_samples", [1, 7])
def test_every_weight_is_the_marginal_when_the_proposal_is_the_posterior(model, batch, num_samples):
    """Identity: if q = p(z | x), every weight is p(x), for any number of draws and any key."""
    key = jax.random.key(3)
    terms = eqx.filter_jit(weigh)(
        model, ExactPosterior(model), batch, num_samples=num_samples, key=key
    )
    expected = jnp.broadcast_to(jax.jit(jax.vmap(model.log_marginal))(batch.x), (num_samples, 3))
    assert_allclose(terms.log_weights, expected, rtol=1e-10)


class PosteriorWithoutItsScale(AbstractProposal):
    """The planted bug: covariance M^-1 where s^2 M^-1 is right."""

    model: ProbabilisticPCA

    def proposal(self, x):
        weight = self.model.weight
        factor = self.model._factor()
        mean = cho_solve((factor, True), weight.T @ (x - self.model.bias))
        return MultivariateNormal(mean, precision_matrix=factor @ factor.T)


def test_a_posterior_with_a_wrong_scale_shows_in_the_weights(model, batch):
    """The identity above must fail when the noise variance is left out of the covariance."""
    terms = eqx.filter_jit(weigh)(
        model, PosteriorWithoutItsScale(model), batch, num_samples=7, key=jax.random.key(3)
    )
    assert jnp.ptp(terms.log_weights, axis=0).min() > 0.1


def test_draws_have_the_covariance_of_the_marginal(model):
    """Oracle: W W^T + s^2 I; Monte Carlo, every entry within 4.5 of its standard error (25
    entries, level 1e-3 in all)."""

    def draw(key):
        z_key, x_key = jax.random.split(key)
        return model.sample_likelihood(model.sample_prior(z_key), x_key) - model.bias

    x = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(4), 20_000))
    products = np.asarray(x[:, :, None] * x[:, None, :])
    weight = np.asarray(model.weight)
    expected = weight @ weight.T + np.exp(2 * model.log_scale) * np.eye(5)
    errors = products.std(0) / np.sqrt(len(products))
    assert (np.abs(products.mean(0) - expected) / errors).max() < 4.5
