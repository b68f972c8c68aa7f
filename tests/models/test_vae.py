"""The VAE is a probability model: its laws sum to one, are SciPy's, and are what it samples from."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit
from scipy.stats import bernoulli, norm

from tightbound.models.vae import VAE, GaussianProposal
from tightbound.nn.outputs import BernoulliOutput, GaussianOutput

EVERY_X = jnp.array(list(itertools.product([0.0, 1.0], repeat=6)))
Z = jnp.array([0.7, -1.3])
NUM_DRAWS = 4000


@pytest.fixture(scope="module")
def bernoulli_vae():
    return VAE(6, 2, BernoulliOutput(), hidden_size=5, key=jax.random.key(0))


@pytest.fixture(scope="module")
def gaussian_vae():
    output = GaussianOutput(scale=0.6, min_scale=0.1)
    return VAE(1, 2, output, hidden_size=5, depth=2, key=jax.random.key(1))


@pytest.fixture(scope="module")
def proposal():
    return GaussianProposal(6, 2, hidden_size=5, key=jax.random.key(2))


def test_the_likelihood_sums_to_one_over_every_image_of_six_bits(bernoulli_vae):
    """Enumeration. Planted: a likelihood averaged over pixels instead of summed."""
    log_p = jax.jit(jax.vmap(lambda x: bernoulli_vae.score(x, Z)["x"][0]))(EVERY_X)
    assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-13)
    assert np.exp(log_p / 6).sum() > 2.0


def test_the_sites_of_a_binary_image_are_scipys_densities(bernoulli_vae):
    """Oracle: SciPy, at the decoder's logits."""
    scores = eqx.filter_jit(bernoulli_vae.score)(EVERY_X[13], Z)
    probability = expit(bernoulli_vae.decoder(Z))
    assert_allclose(scores["z"], [norm.logpdf(Z).sum()], rtol=1e-13)
    assert_allclose(scores["x"], [bernoulli.logpmf(EVERY_X[13], probability).sum()], rtol=1e-12)
    assert_allclose(bernoulli_vae.residual(EVERY_X[13], Z), EVERY_X[13] - probability, rtol=1e-13)


def test_a_gaussian_output_is_scipys_density_and_integrates_to_one(gaussian_vae):
    """SciPy at one value, the midpoint rule over all."""
    x = jnp.arange(-10.0, 10.0, 0.05)[:, None]
    log_p = jax.jit(jax.vmap(lambda x: gaussian_vae.score(x, Z)["x"][0]))(x)
    mean = gaussian_vae.decoder(Z)
    assert_allclose(log_p, norm.logpdf(x, mean, 0.6)[:, 0], rtol=1e-11)
    assert_allclose(np.exp(log_p).sum() * 0.05, 1.0, rtol=1e-12)
    assert_allclose(gaussian_vae.residual(x[3], Z), x[3] - mean, rtol=1e-13)


def test_sampled_images_have_the_likelihoods_frequencies(bernoulli_vae):
    """Monte Carlo within 4.5 standard errors of each pixel's probability (6 pixels at 1e-3
    together: 3.8). Planted: the probabilities of another z, beyond 8."""
    draw = jax.jit(jax.vmap(lambda key: bernoulli_vae.sample_likelihood(Z, key)))
    frequency = np.mean(draw(jax.random.split(jax.random.key(8), NUM_DRAWS)), axis=0)

    def errors_from(z):
        p = expit(np.asarray(bernoulli_vae.decoder(z)))
        return np.abs(frequency - p).max() / np.sqrt(0.25 / NUM_DRAWS)

    assert errors_from(Z) < 4.5
    assert errors_from(-3 * Z) > 8.0


def test_the_prior_is_drawn_from_the_density_it_is_scored_with(bernoulli_vae):
    """Monte Carlo: E[-log N(z)] is the entropy log 2 pi e of two standard normals, with variance
    1. Planted: a prior of twice the scale, whose cross-entropy is higher by 3."""
    z = jax.jit(jax.vmap(bernoulli_vae.sample_prior))(
        jax.random.split(jax.random.key(9), NUM_DRAWS)
    )
    assert z.shape == (NUM_DRAWS, 2)
    score = jax.jit(jax.vmap(lambda z: bernoulli_vae.score(EVERY_X[0], z)["z"][0]))

    def errors_from_entropy(z):
        return abs(-score(z).mean() - np.log(2 * np.pi * np.e)) * np.sqrt(NUM_DRAWS)

    assert errors_from_entropy(z) < 4.5
    assert errors_from_entropy(2 * z) > 8.0


def test_the_proposal_is_the_gaussian_of_its_networks_halves(proposal):
    """Oracle: SciPy at the mean and exp(log-scale). Planted: the second half taken for a variance."""
    mean, log_scale = np.split(np.asarray(proposal.encoder(EVERY_X[5])), 2)
    found = proposal.proposal(EVERY_X[5]).log_prob(Z)
    assert_allclose(found, norm.logpdf(Z, mean, np.exp(log_scale)).sum(), rtol=1e-12)
    assert abs(found - norm.logpdf(Z, mean, np.exp(log_scale / 2)).sum()) > 0.01


def test_a_floor_is_added_to_the_proposals_scale():
    """Closed form, and what is left when the network says minus infinity."""
    proposal = GaussianProposal(6, 2, hidden_size=5, min_scale=0.25, key=jax.random.key(2))
    _, log_scale = np.split(np.asarray(proposal.encoder(EVERY_X[5])), 2)
    scale = proposal.proposal(EVERY_X[5]).base_dist.scale
    assert_allclose(scale, np.exp(log_scale) + 0.25, rtol=1e-13)
    bias = lambda p: p.encoder.layers[-1].bias  # noqa: E731
    pushed = eqx.tree_at(bias, proposal, jnp.full(4, -1e4))
    assert_allclose(pushed.proposal(EVERY_X[5]).base_dist.scale, 0.25)


def test_a_fixed_scale_is_not_learned():
    """The scale is the number given, and the half of the network that made it has no gradient."""
    proposal = GaussianProposal(6, 2, hidden_size=5, fixed_scale=0.5, key=jax.random.key(2))

    def log_prob(proposal):
        return proposal.proposal(EVERY_X[5]).log_prob(Z)

    mean, _ = np.split(np.asarray(proposal.encoder(EVERY_X[5])), 2)
    assert_allclose(log_prob(proposal), norm.logpdf(Z, mean, 0.5).sum(), rtol=1e-12)
    gradient = eqx.filter_grad(log_prob)(proposal).encoder.layers[-1].bias
    assert_allclose(gradient[:2], (np.asarray(Z) - mean) / 0.25, rtol=1e-12)
    assert_allclose(gradient[2:], 0.0)
