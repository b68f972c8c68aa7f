"""Mixtures: the logarithm of a sum, of components weighted by probabilities and not by their logs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp
from numpy.testing import assert_allclose
from scipy.special import softmax
from scipy.stats import norm

from tightbound.nn.gaussian_outputs import BivariateGaussianOutput, DiagonalGaussianOutput
from tightbound.nn.mixture_output import MixtureOutput

FLOOR = 0.1
OUTPUT = MixtureOutput(DiagonalGaussianOutput(FLOOR), 3)
# Three raw weights, then mean and raw scale of each component in turn.
FEATURES = np.array([0.2, -1.0, 1.5, -2.0, 0.3, 0.5, -1.0, 3.0, 0.8])


def by_hand(x):
    """SciPy's densities, weighted and added."""
    weights = softmax(FEATURES[:3])
    means, raw_scales = np.asarray(FEATURES[3:]).reshape(3, 2).T
    scales = FLOOR + np.log1p(np.exp(raw_scales))
    return np.log((weights * norm.pdf(x[:, None], means, scales)).sum(1))


def test_a_mixture_is_the_weighted_sum_of_its_components():
    """Oracle: SciPy, component by component."""
    x = np.linspace(-4, 6, 11)
    found = jax.jit(jax.vmap(lambda x: OUTPUT(jnp.asarray(FEATURES)).log_prob(x)))(x[:, None])
    assert_allclose(found, by_hand(x), rtol=1e-10)


def test_probabilities_in_place_of_their_logs_do_not_integrate_to_one():
    """Quadrature. Planted: log sum exp(pi + log p), whose integral is the sum of e^pi, above K."""
    x = np.arange(-15.0, 18.0, 0.02)[:, None]

    def wrong(law, x):
        log_p = jax.vmap(lambda component: component.log_prob(x))(law.components)
        return logsumexp(jnp.exp(law.log_weights) + log_p)

    @jax.jit
    def integrals(features):
        law = OUTPUT(features)
        densities = jax.vmap(lambda x: jnp.exp(jnp.stack([law.log_prob(x), wrong(law, x)])))(x)
        return densities.sum(0) * 0.02

    right, planted = integrals(FEATURES)
    assert_allclose(right, 1.0, rtol=1e-10)
    assert_allclose(planted, np.exp(softmax(FEATURES[:3])).sum(), rtol=1e-10)
    assert planted > 3


def test_one_component_is_the_component_itself():
    """Identity, whatever the one raw weight is."""
    component = BivariateGaussianOutput(FLOOR)
    features = np.random.default_rng(0).normal(size=6)

    @eqx.filter_jit
    def described(output, features):
        law = output(features)
        return law.log_prob(jnp.array([0.4, -1.5])), law.mean, law.variance

    mixture = described(MixtureOutput(component, 1), features)
    alone = described(component, features[1:])
    for found, expected in zip(mixture, alone, strict=True):
        assert_allclose(found, expected, rtol=1e-12)


def test_components_are_drawn_as_often_as_they_weigh():
    """Monte Carlo: shares of draws near three means far apart, within 4 standard errors. Planted:
    the component chosen by softmaxed weights passed as logits, as if they were raw."""
    features = FEATURES.copy()
    features[3::2] = [-100.0, 0.0, 100.0]
    sample = jax.jit(lambda features: OUTPUT(features).sample(jax.random.key(1), (2_000, 2)))
    draws = np.asarray(sample(features)).ravel()
    shares = np.array([(np.abs(draws - m) < 50).mean() for m in (-100, 0, 100)])
    weights = softmax(FEATURES[:3])
    errors = np.sqrt(weights * (1 - weights) / len(draws))
    assert len(draws) == 4_000
    assert (np.abs(shares - weights) < 4 * errors).all()
    assert (np.abs(shares - softmax(weights)) > 8 * errors).any()


def test_a_mixture_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"mixture of 0 components is none. Give at least 1"):
        MixtureOutput(DiagonalGaussianOutput(FLOOR), 0)
