"""Oracles: the formula of every normalisation in NumPy, and the identity that what comes later changes
nothing, which the statistic over time breaks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.families.language.inputs import normalise, over_feature_deviation, shifted

LENGTH, SIZE = 5, 4
INPUTS = jax.random.normal(jax.random.key(0), (LENGTH, SIZE))
EMBEDDING = jax.random.normal(jax.random.key(1), (6, SIZE))


def test_a_position_is_given_the_token_before_it():
    """By definition: ones first, then rows of the embedding times sqrt(size); the last token is given to
    nobody."""
    found = shifted(jnp.array([4, 5, 3, 5, 2]), EMBEDDING)
    rows = np.asarray(EMBEDDING)[[4, 5, 3, 5]] * np.sqrt(SIZE)
    assert_allclose(found, [np.ones(SIZE), *rows], rtol=1e-14)


def by_hand(kind):
    inputs = np.asarray(INPUTS)
    match kind:
        case "none":
            return inputs
        case "feature":
            return np.array([x / np.sqrt((x**2).mean()) for x in inputs])
        case "running":
            powers = [(inputs[: t + 1] ** 2).mean(0) for t in range(LENGTH)]
            return inputs / np.sqrt(powers)
        case "time":
            return inputs / inputs.std(0)


@pytest.mark.parametrize("kind", ["none", "feature", "running", "time"])
def test_a_normalisation_is_its_formula(kind):
    """Oracle: NumPy, up to the 1e-8 that is added to squares."""
    assert_allclose(normalise(INPUTS, kind), by_hand(kind), rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "leaks"), [("none", 0), ("feature", 0), ("running", 0), ("time", 1)]
)
def test_only_the_statistic_over_time_tells_of_inputs_to_come(kind, leaks):
    """Identity, bit for bit, and the planted leak: with another last input, all before it move."""
    changed = normalise(INPUTS.at[-1].add(1.0), kind)[:-1]
    assert (changed != normalise(INPUTS, kind)[:-1]).any() == leaks


@pytest.mark.parametrize("kind", ["feature", "running", "time"])
def test_inputs_that_are_all_alike_stay_finite(kind):
    """Zeros have no size to divide by, and equal inputs no deviation; nor has either's gradient."""
    for inputs in (jnp.zeros((3, 2)), jnp.ones((3, 2))):
        found, gradient = jax.value_and_grad(lambda x: normalise(x, kind).sum())(inputs)
        assert np.isfinite(found)
        assert np.isfinite(gradient).all()


def test_a_state_over_the_deviation_of_its_entries_has_deviation_one():
    """Algebra; the mean stays in."""
    found = np.asarray(over_feature_deviation(INPUTS))
    assert_allclose(found.std(-1), np.ones(LENGTH), rtol=1e-6)
    assert_allclose(found[0] / found[0, 0], INPUTS[0] / INPUTS[0, 0], rtol=1e-12)
    assert_array_equal(over_feature_deviation(INPUTS[1]), found[1])
