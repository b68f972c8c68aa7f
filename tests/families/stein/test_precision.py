"""Oracles: SciPy's Gamma law and quadrature over the logarithm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import gamma, kstest

from tightbound.families.stein.precision import FixedPrecision, GammaPrecision

GRID = np.linspace(-60.0, 12.0, 4001)


@pytest.mark.parametrize(("shape", "rate"), [(1.0, 0.1), (2.5, 3.0)])
def test_the_density_of_the_log_precision_is_scipys_gamma_with_its_jacobian(shape, rate):
    """Oracle: SciPy's Gamma at e^l, times e^l. It integrates to 1 by quadrature. Planted: the
    Jacobian left out, whose integral is the mean of 1 / tau, b / (a - 1), or infinite."""
    log_p = jax.vmap(GammaPrecision(shape, rate).log_prob)(GRID)
    without = gamma.logpdf(np.exp(GRID), shape, scale=1 / rate)
    assert_allclose(log_p, without + GRID, rtol=1e-10, atol=1e-10)
    assert_allclose(np.trapezoid(np.exp(log_p), GRID), 1.0, rtol=1e-10)
    assert abs(np.trapezoid(np.exp(without), GRID) - 1.0) > 0.5


def test_the_density_stays_finite_where_the_precision_underflows():
    """By hand: at l = -2000 the precision is 0, yet log p = log b + l for a = 1. The density of the
    precision plus l would lose it."""
    found = GammaPrecision(1.0, 0.1).log_prob(jnp.asarray(-2000.0))
    assert_allclose(found, np.log(0.1) - 2000.0, rtol=1e-12)


def test_draws_are_logarithms_of_gamma_draws():
    """Kolmogorov and Smirnov against SciPy, level 1e-3. Planted: the rate read as a scale."""
    keys = jax.random.split(jax.random.key(0), 2000)
    precision = np.exp(jax.jit(jax.vmap(GammaPrecision(1.0, 0.1).sample))(keys))
    assert kstest(precision, gamma(1.0, scale=10.0).cdf).pvalue > 1e-3
    assert kstest(precision, gamma(1.0, scale=0.1).cdf).pvalue < 1e-15


def test_a_known_precision_is_neither_drawn_nor_scored():
    """By hand."""
    known = FixedPrecision(4.0)
    assert known.sample(jax.random.key(0)) is None
    assert known.log_prob(None) == 0.0
    assert_allclose(known.log_value(None), np.log(4.0), rtol=1e-15)


def test_a_precision_that_cannot_be_says_what_to_give():
    """The sentence a person reads."""
    with pytest.raises(ValueError, match=r"shape 0\.0 and rate 1\.0; both must be positive"):
        GammaPrecision(0.0, 1.0)
    with pytest.raises(ValueError, match=r"is 0\.0, but a precision must be positive"):
        FixedPrecision(0.0)
    with pytest.raises(ValueError, match="the parameters hold None for it"):
        GammaPrecision(1.0, 1.0).log_prob(None)
