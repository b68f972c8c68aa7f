"""The laws of a sequence's latents sum to one, are SciPy's, and are drawn from what they score."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import softmax
from scipy.stats import multivariate_normal, norm

from tightbound.families.language.sequence_latents import Prior, SharedScaleOutput, TernaryOutput
from tightbound.nn.gaussian_outputs import DiagonalGaussianOutput, FullGaussianOutput
from tightbound.nn.outputs import BernoulliOutput

EVERY_Z = np.array(list(itertools.product([-1, 0, 1], repeat=3)))
FEATURES = jnp.array([0.3, -1.2, 0.8, 2.0, 0.0, -0.5, -0.7, 0.1, 0.4])


def test_ternary_units_sum_to_one_and_have_the_moments_of_their_enumeration():
    """Enumeration of 27 values. Planted: values taken for places, without the shift by one, in
    which -1 stands for the last logit."""
    q = TernaryOutput()(FEATURES)
    probability = np.exp(jax.jit(jax.vmap(q.log_prob))(EVERY_Z))
    assert_allclose(probability.sum(), 1.0, rtol=1e-13)
    mean = probability @ EVERY_Z
    assert_allclose(q.mean, mean, rtol=1e-12)
    assert_allclose(q.variance, probability @ (EVERY_Z - mean) ** 2, rtol=1e-12)
    table = softmax(FEATURES.reshape(3, 3), axis=1)
    expected = [np.prod(table[np.arange(3), z + 1]) for z in EVERY_Z]
    assert_allclose(probability, expected, rtol=1e-12)
    unshifted = [np.prod(table[np.arange(3), z]) for z in EVERY_Z]
    assert np.abs(np.array(unshifted) - probability).max() > 0.01


def test_ternary_draws_have_the_frequencies_of_their_scores():
    """Monte Carlo: 27 frequencies within 5 standard errors each (1e-3 together: 4.2). Planted: the
    scores of the negated draws."""
    num_draws = 4000
    q = TernaryOutput()(FEATURES)
    draws = np.asarray(q.sample(jax.random.key(3), (num_draws,)))
    frequency = (draws[:, None] == EVERY_Z).all(-1).mean(0)
    probability = np.exp(jax.jit(jax.vmap(q.log_prob))(EVERY_Z))

    def errors_from(probability):
        error = np.sqrt(probability * (1 - probability) / num_draws)
        return (np.abs(frequency - probability) / error).max()

    assert errors_from(probability) < 5.0
    assert errors_from(probability[::-1]) > 8.0


def test_a_shared_scale_is_scipys_normal_with_one_scale_for_all_features():
    """Oracle: SciPy, at the means of two sequences. Planted: a scale that grows with the mean."""
    law = SharedScaleOutput(2, min_scale=0.1)
    z = np.array([0.4, -1.1])
    for mean in (np.array([0.0, 1.0]), np.array([-3.0, 0.2])):
        scale = 1.0  # where it starts
        found = law(jnp.asarray(mean)).log_prob(z)
        assert_allclose(found, norm.logpdf(z, mean, scale).sum(), rtol=1e-12)
        assert abs(found - norm.logpdf(z, mean, scale * (1 + mean**2)).sum()) > 0.01


@pytest.mark.parametrize("law", [DiagonalGaussianOutput(0.01), FullGaussianOutput(0.01)])
def test_a_gaussian_prior_starts_at_the_standard_normal(law):
    """Oracle: SciPy. Planted: features of 0, whose scale is not 1."""
    z = np.array([0.4, -1.1, 2.0])
    expected = multivariate_normal.logpdf(z, np.zeros(3))
    prior = Prior(law, 3)
    assert_allclose(jax.jit(lambda z: prior().log_prob(z))(z), expected, rtol=1e-12)
    at_zero = jax.jit(lambda features: law(features).log_prob(z))
    assert abs(at_zero(jnp.zeros(law.num_features(3))) - expected) > 0.1


@pytest.mark.parametrize(("law", "num_values"), [(BernoulliOutput(), 2), (TernaryOutput(), 3)])
def test_a_discrete_prior_starts_with_all_values_alike(law, num_values):
    """Closed form: -3 log of the number of values."""
    found = Prior(law, 3)().log_prob(jnp.array([1, 0, 1]))
    assert_allclose(found, -3 * np.log(num_values), rtol=1e-13)
