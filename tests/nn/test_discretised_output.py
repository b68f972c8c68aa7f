"""The discretised logistic: probabilities of levels that sum to one, tails included."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import logistic

from tightbound.nn.discretised_output import DiscretisedLogisticOutput

FLOOR = 1e-3


def scale_of(raw):
    return FLOOR + np.log1p(np.exp(np.asarray(raw)))


@eqx.filter_jit
def masses(output, features, values):
    return jnp.exp(jax.vmap(output(features).log_prob)(values))


@eqx.filter_jit
def moments(output, features):
    law = output(features)
    return law.mean, law.variance


def bins(num_levels):
    """The inner edges of the levels on the scale of u, with the tails beyond the outermost."""
    inner = (2 * np.arange(num_levels - 1) + 1) / (num_levels - 1) - 1
    return np.concatenate([[-np.inf], inner, [np.inf]])


@pytest.mark.parametrize("num_levels", [2, 256])
def test_the_levels_sum_to_one_and_agree_with_scipy(num_levels):
    """Oracle: differences of SciPy's distribution function between neighbouring edges. Planted: the
    outermost levels as narrow as the others, without the tails."""
    features = np.array([0.3, -0.5])
    output = DiscretisedLogisticOutput(num_levels)
    levels = np.arange(num_levels, dtype=float)
    mass = np.asarray(masses(output, features, levels[:, None]))
    assert_allclose(mass.sum(), 1.0, rtol=1e-13)
    scale = scale_of(features[1])
    assert_allclose(mass, np.diff(logistic.cdf(bins(num_levels), 0.3, scale)), rtol=1e-10)
    mean, variance = moments(output, features)
    assert_allclose(mean, [levels @ mass], rtol=1e-12)
    assert_allclose(variance, [(levels - levels @ mass) ** 2 @ mass], rtol=1e-12)
    half = 1 / (num_levels - 1)
    narrow = logistic.cdf(1 + half, 0.3, scale) - logistic.cdf(-1 - half, 0.3, scale)
    assert narrow < 0.99


def test_two_entries_sum_to_one_over_all_pairs_of_levels():
    """Enumeration."""
    features = np.array([0.3, -0.8, -1.5, 0.2])
    pairs = np.array(list(itertools.product(range(4), repeat=2)), float)
    assert_allclose(masses(DiscretisedLogisticOutput(4), features, pairs).sum(), 1.0, rtol=1e-13)


def test_a_level_far_out_keeps_its_log_probability():
    """Oracle: SciPy's log survival functions in 64 bits. Planted: the logarithm of a difference of
    sigmoids in the same 32 bits, which is -inf."""
    features = jnp.array([-0.9, -50.0], jnp.float32)
    output = DiscretisedLogisticOutput(256, min_scale=0.01)
    found = jax.jit(lambda f, x: output(f).log_prob(x))(features, jnp.array([200.0], jnp.float32))
    upper, lower = (logistic.logsf(edge, -0.9, 0.01) for edge in bins(256)[[201, 200]])
    assert_allclose(found, lower + np.log1p(-np.exp(upper - lower)), rtol=1e-5)
    edges = jnp.asarray(bins(256)[[201, 200]], jnp.float32)
    sigmoids = jax.nn.sigmoid((edges - features[0]) / 0.01)
    assert sigmoids[0] - sigmoids[1] == 0.0


def test_draws_are_levels_as_often_as_their_probability_says():
    """Monte Carlo: the shares of 5 levels within 4 standard errors. Planted: the law's mirror."""
    output, features = DiscretisedLogisticOutput(5), np.array([0.3, -0.5])
    sample = jax.jit(lambda features: output(features).sample(jax.random.key(2), (20_000,)))
    draws = np.asarray(sample(features))[:, 0]
    shares = np.array([(draws == level).mean() for level in range(5)])
    mass = np.asarray(masses(output, features, np.arange(5.0)[:, None]))
    errors = np.sqrt(mass * (1 - mass) / len(draws))
    assert_allclose(shares.sum(), 1.0)
    assert (np.abs(shares - mass) < 4 * errors).all()
    assert (np.abs(shares - mass[::-1]) > 8 * errors).any()


def test_too_few_levels_are_refused():
    with pytest.raises(ValueError, match=r"There are 1 levels to tell apart. Give at least 2"):
        DiscretisedLogisticOutput(1)
