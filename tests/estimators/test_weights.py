"""Weights against enumeration, hand arithmetic, known tails and arviz-stats' own interface."""

import subprocess
import sys

import numpy as np
import pytest
from arviz_stats.base.array import array_stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from scipy.stats import genpareto

from tightbound.estimators.weights import (
    ess,
    ess_fraction,
    log_mean_variance,
    normalised_weights,
    pareto_shape,
)

LOG_WEIGHTS = arrays(np.float64, (5, 3), elements=st.floats(-300, 300))


@settings(max_examples=50, deadline=None)
@given(LOG_WEIGHTS, st.floats(-1000, 1000), st.permutations(range(5)))
def test_weights_and_ess_know_neither_a_shift_nor_an_order(log_weights, shift, order):
    """Identities; the ESS lies between 1 and K, and the weights sum to 1."""
    weights = normalised_weights(log_weights)
    assert_allclose(weights.sum(axis=0), 1.0, rtol=1e-12)
    moved = log_weights[list(order)] + shift
    assert_allclose(normalised_weights(moved), weights[list(order)], rtol=1e-9, atol=1e-12)
    assert_allclose(ess(moved), ess(log_weights), rtol=1e-9)
    assert np.all(np.abs(ess(log_weights) - 3) <= 2 + 1e-9)
    assert_allclose(ess_fraction(log_weights), ess(log_weights) / 5)


def test_the_ess_is_the_squared_sum_over_the_sum_of_squares():
    """By hand: weights 1, 2, 3 give 36 / 14; equal ones K; a dominating one 1; one sample 1."""
    weights = np.array([[1.0, 7.0, 1.0], [2.0, 7.0, 1e-30], [3.0, 7.0, 1e-30]])
    assert_allclose(ess(np.log(weights)), [36 / 14, 3.0, 1.0])
    assert_allclose(ess(np.log(weights[:1])), [1.0, 1.0, 1.0])
    # Planted: without the normalisation (or with log-weights taken for weights) a shift shows.
    unnormalised = 1 / np.square(weights).sum(axis=0)
    assert abs(unnormalised[1] - 3.0) > 1


def test_a_zero_weight_counts_as_zero_and_nothing_at_all_is_nan():
    """-inf is a weight of zero; a sequence of only those has no normalised weights."""
    inf = np.inf
    log_weights = np.array([[-inf, -inf, np.nan], [0.0, -inf, 0.0], [0.0, -inf, 0.0]])
    assert_allclose(normalised_weights(log_weights)[:, 0], [0.0, 0.5, 0.5])
    assert_allclose(ess(log_weights)[0], 2.0)
    assert np.all(np.isnan(normalised_weights(log_weights)[:, 1:]))
    assert np.all(np.isnan(ess(log_weights)[1:]))


def test_the_variance_of_a_log_mean_is_the_delta_methods():
    """Oracle: sample variance of the weights / (K mean^2), in NumPy; NaN from one sample."""
    weights = np.random.default_rng(0).gamma(2.0, size=(6, 4))
    delta = weights.var(axis=0, ddof=1) / 6 / weights.mean(axis=0) ** 2
    assert_allclose(log_mean_variance(np.log(weights) - 900), delta, rtol=1e-10)
    assert np.all(np.isnan(log_mean_variance(np.log(weights[:1]))))
    # Planted: without the correction K / (K - 1) it is a sixth too small.
    biased = np.square(normalised_weights(np.log(weights)) - 1 / 6).sum(axis=0)
    assert np.all(biased < 0.9 * delta)


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.5, 1.0])
def test_the_pareto_shape_of_a_known_tail_is_found(shape):
    """Oracle: weights 1 + GPD(shape) at evenly spaced quantiles have that tail index exactly; the
    fit's prior pulls it by 10 / (tail + 10) of the way to 1/2, and a fitted 19 % tail is allowed a
    tenth. Planted: with the sign of `psislw`'s log-likelihoods forgotten, the other tail is
    fitted, which is bounded below by 1 and has no such index."""
    num_samples = 4000
    quantiles = (np.arange(num_samples) + 0.5) / num_samples
    weights = 1 + genpareto.ppf(quantiles, shape)
    tail = int(3 * np.sqrt(num_samples))
    expected = (tail * shape + 10 * 0.5) / (tail + 10)
    log_weights = np.random.default_rng(0).permutation(np.log(weights))[:, None]
    assert_allclose(pareto_shape(log_weights), [expected], atol=0.1)
    other_tail = array_stats.psislw(log_weights, axis=0)[1]
    assert np.all(abs(other_tail - expected) > 0.3)


def test_the_pareto_shape_is_that_of_arviz_for_each_datum():
    """Oracle: `array_stats.pareto_khat` on the weights of each sequence (no prior knowledge of
    log-weights); a shift and the order of the samples change nothing."""
    rng = np.random.default_rng(1)
    log_weights = rng.normal(size=(200, 6)) * np.linspace(0.2, 3, 6)
    reference = [
        array_stats.pareto_khat(np.exp(column), chain_axis=None, r_eff=1.0, tail="right")
        for column in log_weights.T
    ]
    assert_allclose(pareto_shape(log_weights), reference, rtol=1e-8)
    assert_allclose(pareto_shape(log_weights[::-1] - 4000), reference, rtol=1e-6)
    assert_allclose(pareto_shape(log_weights.astype(np.float32)), reference, atol=1e-3)


def test_a_pareto_shape_that_cannot_be_fitted_says_which_way():
    """Columns: equal; equal up to rounding; most weights zero; all zero; NaN; tied; one huge."""
    rng = np.random.default_rng(2)
    log_weights = rng.normal(size=(100, 7))
    log_weights[:, 0] = -123.4
    log_weights[:, 1] = -123.4 * (1 + 1e-15 * rng.normal(size=100))
    log_weights[5:, 2] = -np.inf
    log_weights[:, 3] = -np.inf
    log_weights[7, 4] = np.nan
    log_weights[:, 5] = np.repeat([0.0, 1.0, 2.0, 3.0], [50, 20, 25, 5])
    log_weights[0, 6] = 1e4
    inf, nan = np.inf, np.nan
    assert_allclose(pareto_shape(log_weights), [-inf, -inf, inf, inf, nan, nan, inf])


def test_a_pareto_shape_from_too_few_samples_is_refused():
    with pytest.raises(
        ValueError,
        match=(
            r"needs at least 25 samples per sequence, but `log_weights` has shape \(24, 2\).\n"
            r"Raise `num_samples` in `weigh\(...\)`, or use `ess`, which works from 2 samples."
        ),
    ):
        pareto_shape(np.zeros((24, 2)))
    assert np.all(np.isfinite(pareto_shape(np.random.default_rng(0).normal(size=(25, 2)))))


def test_weights_units_and_comparisons_need_no_jax():
    """They are what `doctor` has in the base install: imported and used with jax blocked."""
    program = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("jax", "jaxlib", "equinox"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
import numpy as np
from tightbound.estimators import comparison, estimate, units, weights
log_weights = np.random.default_rng(0).normal(size=(50, 2))
assert np.all(np.isfinite(weights.ess(log_weights) + weights.pareto_shape(log_weights)))
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
