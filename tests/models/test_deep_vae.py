"""The two-layer VAE is a probability model, scored layer by layer."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit
from scipy.stats import bernoulli, norm

from tightbound.models.deep_vae import DeepProposal, DeepVAE, TwoLayers
from tightbound.nn.outputs import BernoulliOutput
from tightbound.terms import Kind

EVERY_X = jnp.array(list(itertools.product([0.0, 1.0], repeat=6)))
Z = TwoLayers(z1=jnp.array([0.7, -1.3, 0.2]), z2=jnp.array([0.4, -0.8]))
SIZES = {"hidden_size": 5, "top_hidden_size": 4}


@pytest.fixture(scope="module")
def model():
    return DeepVAE(6, 3, 2, BernoulliOutput(), **SIZES, key=jax.random.key(0))


@pytest.fixture(scope="module")
def proposal():
    """Weights larger than the initial ones, so that z2 follows z1."""
    proposal = DeepProposal(6, 3, 2, **SIZES, key=jax.random.key(1))
    return jax.tree.map(lambda leaf: 2 * leaf if eqx.is_array(leaf) else leaf, proposal)


def halves(features):
    mean, log_scale = np.split(np.asarray(features), 2)
    return mean, np.exp(log_scale)


def test_the_likelihood_sums_to_one_over_every_image_of_six_bits(model):
    """Enumeration."""
    log_p = jax.jit(jax.vmap(lambda x: model.score(x, Z)["x"][0]))(EVERY_X)
    assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-13)


def test_every_site_is_scipys_density_given_the_layer_above(model):
    """Oracle: SciPy at the networks' outputs. Planted: z1 scored by the standard normal."""
    scores = eqx.filter_jit(model.score)(EVERY_X[13], Z)
    mean, scale = halves(model.prior(Z.z2))
    probability = expit(model.decoder(Z.z1))
    assert_allclose(scores["z2"], [norm.logpdf(Z.z2).sum()], rtol=1e-13)
    assert_allclose(scores["z1"], [norm.logpdf(Z.z1, mean, scale).sum()], rtol=1e-12)
    assert_allclose(scores["x"], [bernoulli.logpmf(EVERY_X[13], probability).sum()], rtol=1e-12)
    assert_allclose(model.residual(EVERY_X[13], Z), EVERY_X[13] - probability, rtol=1e-13)
    assert abs(scores["z1"][0] - norm.logpdf(Z.z1).sum()) > 0.01


def test_the_proposal_scores_every_latent_site_of_the_model(model, proposal):
    """Its sites are the model's latent ones, and each is SciPy's density: z1 given x, z2 given z1.
    Planted: z2 given the mean of z1."""
    log_q = proposal.proposal(EVERY_X[5]).log_prob(Z)
    latents = {name for name, kind in model.kinds.items() if kind is Kind.LATENT}
    assert set(log_q) == latents
    low_mean, low_scale = halves(proposal.low(EVERY_X[5]))
    top_mean, top_scale = halves(proposal.top(Z.z1))
    assert_allclose(log_q["z1"], [norm.logpdf(Z.z1, low_mean, low_scale).sum()], rtol=1e-12)
    assert_allclose(log_q["z2"], [norm.logpdf(Z.z2, top_mean, top_scale).sum()], rtol=1e-12)
    wrong_mean, wrong_scale = halves(proposal.top(low_mean))
    assert abs(log_q["z2"][0] - norm.logpdf(Z.z2, wrong_mean, wrong_scale).sum()) > 1e-3


def standardised(draws, mean, scale):
    """Mean and mean square of (draws - mean) / scale, in standard errors from 0 and 1."""
    standard = (np.asarray(draws) - mean) / scale
    count = len(standard)
    means = np.abs(standard.mean(0)) * np.sqrt(count)
    squares = np.abs(np.square(standard).mean(0) - 1.0) * np.sqrt(count / 2)
    return max(means.max(), squares.max())


def test_the_prior_is_drawn_from_the_densities_it_is_scored_with(model):
    """Standardised by their own networks, both layers are standard normal (10 statistics within
    4.5 standard errors; 1e-3 together: 3.9). Planted: z1 left as it is, beyond 8."""
    z = jax.jit(jax.vmap(model.sample_prior))(jax.random.split(jax.random.key(8), 4000))
    mean, log_scale = np.split(np.asarray(jax.jit(jax.vmap(model.prior))(z.z2)), 2, axis=1)
    assert standardised(z.z1, mean, np.exp(log_scale)) < 4.5
    assert standardised(z.z2, 0.0, 1.0) < 4.5
    assert standardised(z.z1, 0.0, 1.0) > 8.0


def test_the_proposal_is_drawn_from_the_densities_it_is_scored_with(proposal):
    """As for the prior. Planted: z2 standardised as if it depended on the mean of z1 only."""
    q = proposal.proposal(EVERY_X[5])
    z = jax.jit(jax.vmap(q.sample))(jax.random.split(jax.random.key(9), 4000))
    low_mean, low_scale = halves(proposal.low(EVERY_X[5]))
    top_mean, log_scale = np.split(np.asarray(jax.jit(jax.vmap(proposal.top))(z.z1)), 2, axis=1)
    assert standardised(z.z1, low_mean, low_scale) < 4.5
    assert standardised(z.z2, top_mean, np.exp(log_scale)) < 4.5
    fixed_mean, fixed_scale = halves(proposal.top(low_mean))
    assert standardised(z.z2, fixed_mean, fixed_scale) > 8.0


def test_sampled_images_have_the_likelihoods_frequencies(model):
    """Within 4.5 standard errors of each pixel's probability. Planted: another z1, beyond 8."""
    draw = jax.jit(jax.vmap(lambda key: model.sample_likelihood(Z, key)))
    frequency = np.mean(draw(jax.random.split(jax.random.key(10), 4000)), axis=0)

    def errors_from(z1):
        p = expit(np.asarray(model.decoder(z1)))
        return np.abs(frequency - p).max() / np.sqrt(0.25 / 4000)

    assert errors_from(Z.z1) < 4.5
    assert errors_from(-3 * Z.z1) > 8.0


def test_the_mean_of_the_proposal_is_a_deterministic_pass(proposal):
    """Identity: the networks' means, one after the other."""
    mean = proposal.proposal(EVERY_X[5]).mean
    low_mean, _ = halves(proposal.low(EVERY_X[5]))
    assert_allclose(mean.z1, low_mean, rtol=1e-13)
    assert_allclose(mean.z2, halves(proposal.top(low_mean))[0], rtol=1e-12)
