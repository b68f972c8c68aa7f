"""Oracles: the Bernoulli law's mean within its own standard error, and identities of shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tightbound.nn.dropout import Dropout, dropout_mask, dropped

RATE, NUM_DRAWS = 0.3, 20_000
NUM_ERRORS = 3.3  # one sampled statistic: two-sided level 1e-3
VALUES = jnp.arange(1.0, 13.0).reshape(4, 3)


def test_a_mask_is_one_on_average():
    """Oracle: E[mask] = 1 with variance p / (1 - p). Planted: a mask that is not scaled up is off by
    p, and one scaled by 1 / p by more; both are over 8 standard errors away."""
    mask = np.asarray(dropout_mask(RATE, (NUM_DRAWS,), jax.random.key(0)))
    error = np.sqrt(RATE / (1 - RATE) / NUM_DRAWS)
    assert abs(mask.mean() - 1) < NUM_ERRORS * error
    assert set(np.unique(mask)) == {0.0, 1 / (1 - RATE)}
    for wrong in (mask > 0, (mask > 0) / RATE):
        assert abs(wrong.mean() - 1) > 8 * error


def test_a_shared_mask_is_the_same_at_every_position_and_others_are_not():
    """Identity: whole columns are dropped, or not."""
    shared = np.asarray(dropped(VALUES, 0.5, True, jax.random.key(3))) / np.asarray(VALUES)
    assert_array_equal(shared, np.tile(shared[:1], (4, 1)))
    assert set(np.unique(shared)) == {0.0, 2.0}
    fresh = np.asarray(dropped(VALUES, 0.5, False, jax.random.key(3))) / np.asarray(VALUES)
    assert (fresh != fresh[:1]).any()


@pytest.mark.parametrize("shared", [False, True])
def test_padding_changes_no_mask(shared):
    """Identity: the positions before it are dropped as without it."""
    key = jax.random.key(4)
    padded = jnp.concatenate([VALUES, jnp.zeros((2, 3))])
    found = dropped(padded, 0.5, shared, key)[:4]
    assert_array_equal(found, dropped(VALUES, 0.5, shared, key))


def test_without_a_key_or_a_rate_nothing_is_dropped():
    """Identity."""
    assert dropped(VALUES, 0.5, False, None) is VALUES
    assert dropped(VALUES, 0.0, False, jax.random.key(0)) is VALUES


@pytest.mark.parametrize("name", ["input", "output", "state"])
@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rates_that_are_no_probability_below_one_are_refused(name, rate):
    with pytest.raises(ValueError, match=f"The {name} dropout is {rate}, .* below 1."):
        Dropout(**{name: rate})
