"""The referee judged by closed forms, by its own other methods, and by a fine sum."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm
from numpy.testing import assert_allclose
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from tightbound.families.edits.exact import (
    all_sequences,
    dense_gaussian,
    enumerate_log_marginal,
    forward_backward,
    quadrature_log_marginal,
)
from tightbound.models.base import AbstractModel
from tightbound.models.ppca import ProbabilisticPCA
from tightbound.terms import Kind


class LogisticModel(AbstractModel):
    """z ~ N(0, I), x_d | z ~ Bernoulli(sigmoid(W z + b)): a VAE's decoder, shrunken."""

    kinds = {"z": Kind.LATENT, "x": Kind.OBSERVED}

    weight: jax.Array
    bias: jax.Array

    def sample_prior(self, key):
        return jax.random.normal(key, (self.weight.shape[1],))

    def score(self, x, z):
        logits = self.weight @ z + self.bias
        log_likelihood = (x * logits - jnp.logaddexp(0.0, logits)).sum(keepdims=True)
        return {"z": norm.logpdf(z).sum(keepdims=True), "x": log_likelihood}

    def sample_likelihood(self, z, key):
        return jax.random.bernoulli(key, jax.nn.sigmoid(self.weight @ z + self.bias)).astype(float)


@pytest.mark.parametrize("latent_size", [1, 2])
@pytest.mark.parametrize("log_scale", [0.0, -3.0])
def test_quadrature_is_exact_for_a_gaussian_model(latent_size, log_scale):
    """Oracle: the closed form of probabilistic PCA; with log_scale -3 the posterior is far from
    the prior and narrow, so nodes that stay at the prior miss it."""
    model = ProbabilisticPCA(4, latent_size, key=jax.random.key(0))
    model = eqx.tree_at(lambda m: m.log_scale, model, jnp.array(log_scale))
    x = model.weight @ jnp.full(latent_size, 1.5) + 0.1
    expected = model.log_marginal(x)
    found = jax.jit(lambda x: quadrature_log_marginal(model, x, num_nodes=24))(x)
    assert_allclose(found, expected, rtol=1e-9)
    if log_scale == -3.0:
        still = quadrature_log_marginal(model, x, num_nodes=24, num_moves=0)
        assert abs(float(still - expected)) > 0.1


@pytest.mark.parametrize("latent_size", [1, 2])
def test_quadrature_of_a_nonlinear_model_is_a_fine_sum(latent_size):
    """Oracle: the trapezoidal rule in NumPy, which converges exponentially on such integrands."""
    weight = 2.0 * jax.random.normal(jax.random.key(1), (6, latent_size))
    model = LogisticModel(weight, jnp.linspace(-1.0, 1.0, 6))
    x = jnp.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    line = np.linspace(-9.0, 9.0, 361)
    z = np.stack(np.meshgrid(*[line] * latent_size), -1).reshape(-1, latent_size)
    logits = z @ np.asarray(weight).T + np.asarray(model.bias)
    log_joint = (np.asarray(x) * logits - np.logaddexp(0.0, logits)).sum(-1)
    log_joint += -0.5 * (z**2).sum(-1) - 0.5 * latent_size * np.log(2 * np.pi)
    expected = logsumexp(log_joint) + latent_size * np.log(line[1] - line[0])
    found = jax.jit(lambda x: quadrature_log_marginal(model, x, num_nodes=48))(x)
    assert_allclose(found, expected, rtol=1e-8)


def test_quadrature_has_the_gradient_of_the_marginal():
    """Oracle: the gradient of the closed form of probabilistic PCA."""
    model = ProbabilisticPCA(4, 1, key=jax.random.key(0))
    x = jnp.array([0.5, -1.0, 2.0, 0.0])
    found = jax.jit(jax.grad(lambda m: quadrature_log_marginal(m, x, num_nodes=24)))(model)
    expected = jax.grad(lambda m: m.log_marginal(x))(model)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-7, atol=1e-9), found, expected)


def test_quadrature_refuses_what_it_cannot_cover():
    model = ProbabilisticPCA(4, 3, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"size 1 or 2, but that of ProbabilisticPCA is .*\(3,\)"):
        quadrature_log_marginal(model, jnp.zeros(4))


def test_forward_backward_is_the_sum_over_every_path():
    """Oracle: enumeration, for log p(x) and for the marginal of every position."""
    rng = np.random.default_rng(0)
    initial, transition = np.log(rng.dirichlet(np.ones(3))), np.log(rng.dirichlet(np.ones(3), 3))
    emission = rng.normal(size=(4, 3))
    found, marginals = forward_backward(initial, transition, emission)
    paths = all_sequences(3, 4)
    parts = np.hstack(
        [
            initial[paths[:, :1]],
            transition[paths[:, :-1], paths[:, 1:]],
            emission[np.arange(4), paths],
        ]
    )
    expected = enumerate_log_marginal(lambda part: {"joint": part}, jnp.asarray(parts))
    assert_allclose(found, expected, rtol=1e-12)
    posterior = np.exp(parts.sum(1) - found)
    by_position = [np.bincount(paths[:, t], posterior, minlength=3) for t in range(4)]
    assert_allclose(marginals, np.array(by_position), rtol=1e-12)


def test_dense_gaussian_is_the_product_of_its_conditionals():
    """Oracle: Bayes' rule at one point, log p(x) = log p(z) + log p(x | z) - log p(z | x), with the
    first two multiplied step by step and the last for a single step in SciPy."""
    rng = np.random.default_rng(1)
    mean, transition, emission = (
        rng.normal(size=2),
        rng.normal(size=(2, 2)),
        rng.normal(size=(3, 2)),
    )
    covs = [(lambda a: a @ a.T + np.eye(len(a)))(rng.normal(size=(n, n))) for n in (2, 2, 3)]
    x = rng.normal(size=(1, 3))
    found, z_mean, z_cov = dense_gaussian(mean, covs[0], transition, covs[1], emission, covs[2], x)
    z = rng.normal(size=2)
    log_joint = multivariate_normal.logpdf(z, mean, covs[0])
    log_joint += multivariate_normal.logpdf(x[0], emission @ z, covs[2])
    assert_allclose(found, log_joint - multivariate_normal.logpdf(z, z_mean[0], z_cov[0]))


def test_dense_gaussian_follows_the_chain():
    """Oracle: the moments of the last step, propagated by hand through an uninformative past."""
    rng = np.random.default_rng(2)
    mean, transition = rng.normal(size=2), rng.normal(size=(2, 2))
    blind, seeing = 1e12 * np.eye(2), np.eye(2)
    x = rng.normal(size=(3, 2))
    _, z_mean, z_cov = dense_gaussian(mean, seeing, transition, seeing, seeing, blind, x)
    power = np.linalg.matrix_power
    cov = sum(power(transition, t) @ power(transition, t).T for t in range(3))
    assert_allclose(z_mean[2], power(transition, 2) @ mean, rtol=1e-6)
    assert_allclose(z_cov[2], cov, rtol=1e-6)
