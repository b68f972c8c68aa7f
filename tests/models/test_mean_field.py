"""Proposals that do not look at x are the normals they say. Oracle: SciPy's densities, and moments."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal, norm

from tightbound.models.mean_field import FullRank, MeanField, PointMass

X = jnp.zeros(1)
MEAN = {"bias": jnp.array(0.5), "weight": jnp.array([[1.0, -2.0, 0.3], [0.1, 4.0, -1.0]])}
LOG_SCALE = {"bias": jnp.array(-0.3), "weight": jnp.linspace(-1, 0.5, 6).reshape(2, 3)}
VALUE = jax.tree.map(lambda mean: 0.7 * mean + 0.1, MEAN)
KEY = jax.random.key(0)


def independent():
    proposal = MeanField(lambda key: MEAN, key=KEY)
    return eqx.tree_at(lambda q: q.log_scale, proposal, LOG_SCALE).proposal(X)


def correlated():
    proposal = FullRank(lambda key: MEAN, key=KEY)
    factor = 0.5 * jax.random.normal(jax.random.key(1), (7, 7))
    lower = np.tril(factor, -1) + np.diag(np.exp(np.diag(factor)))
    return eqx.tree_at(lambda q: q.factor, proposal, factor).proposal(X), lower @ lower.T


def test_a_mean_field_is_scipys_normal_at_every_latent():
    """Oracle: SciPy, array by array. Planted: the unit scale."""
    found = independent().log_prob(VALUE)
    per_leaf = jax.tree.map(
        lambda v, mean, log_scale: norm.logpdf(v, mean, np.exp(log_scale)).sum(),
        VALUE,
        MEAN,
        LOG_SCALE,
    )
    assert_allclose(found, sum(per_leaf.values()), rtol=1e-12)
    assert abs(found - norm.logpdf(*(ravel_pytree(t)[0] for t in (VALUE, MEAN))).sum()) > 0.1


def test_a_full_rank_proposal_is_scipys_multivariate_normal():
    """Oracle: SciPy over the flattened latents. Planted: its diagonal alone."""
    q, covariance = correlated()
    value, mean = (np.asarray(ravel_pytree(tree)[0]) for tree in (VALUE, MEAN))
    assert_allclose(
        q.log_prob(VALUE), multivariate_normal.logpdf(value, mean, covariance), rtol=1e-10
    )
    diagonal = norm.logpdf(value, mean, np.sqrt(np.diag(covariance))).sum()
    assert abs(q.log_prob(VALUE) - diagonal) > 0.1


def drawn(q, num_draws):
    draws = jax.jit(jax.vmap(q.sample))(jax.random.split(jax.random.key(2), num_draws))
    return np.asarray(jax.vmap(lambda z: ravel_pytree(z)[0])(draws))


@pytest.mark.parametrize("kind", ["mean-field", "full-rank"])
def test_draws_have_the_mean_and_the_covariance_of_the_law(kind):
    """Closed form: whitened by the law's own Cholesky factor, 20,000 draws have mean 0 and covariance
    1, each of the 35 moments within its standard error (both kinds together at level 1e-3). Planted:
    the transposed factor; for independent latents, one noise for all arrays."""
    if kind == "mean-field":
        q = independent()
        covariance = np.diag(np.exp(2 * np.asarray(ravel_pytree(LOG_SCALE)[0])))
    else:
        q, covariance = correlated()
    factor = np.linalg.cholesky(covariance)
    residual = (drawn(q, 20_000) - np.asarray(ravel_pytree(MEAN)[0])).T

    def worst(factor, residual):
        white = np.linalg.solve(factor, residual)
        rows, columns = np.tril_indices(7)
        products = white[rows] * white[columns] - (rows == columns)[:, None]
        moments = np.concatenate([white, products])
        return np.abs(moments.mean(1) / moments.std(1) * np.sqrt(moments.shape[1])).max()

    limit = norm.isf(1e-3 / 70 / 2)
    assert worst(factor, residual) < limit
    if kind == "mean-field":
        one_noise = residual.copy()
        one_noise[0] = residual[1] * factor[0, 0] / factor[1, 1]
        assert worst(factor, one_noise) > 8
    else:
        assert worst(factor.T, residual) > 8


def test_a_point_has_no_noise_and_no_density():
    """Every draw is its value, whatever the key; its log q is 0 everywhere."""
    q = PointMass(lambda key: MEAN, key=KEY).proposal(X)
    for key in jax.random.split(KEY, 2):
        for name in MEAN:
            assert_array_equal(q.sample(key)[name], MEAN[name])
    assert float(q.log_prob(VALUE)) == 0.0


@pytest.mark.parametrize("kind", [MeanField, FullRank])
def test_first_scales_are_what_was_asked_for(kind):
    """By hand: at the mean, the density of 7 latents of scale 0.2; a draw of the key is the mean."""
    proposal = kind(lambda key: jax.random.normal(key, (7,)), scale=0.2, key=KEY)
    assert_array_equal(proposal.mean, jax.random.normal(KEY, (7,)))
    assert_allclose(
        proposal.proposal(X).log_prob(proposal.mean), 7 * norm.logpdf(0, 0, 0.2), rtol=1e-12
    )


@pytest.mark.parametrize("kind", [MeanField, FullRank])
@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_is_not_positive_is_refused(kind, scale):
    with pytest.raises(ValueError, match="but it multiplies noise: give a number above 0"):
        kind(lambda key: MEAN, scale=scale, key=KEY)
