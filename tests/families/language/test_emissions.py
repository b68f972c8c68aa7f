"""Oracle: softmaxes and their mixtures in NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tightbound.families.language.emissions import (
    Components,
    MatrixEmission,
    MixtureEmission,
    VectorEmission,
)

NUM_FEATURES, SIZE, NUM_CLASSES, NUM_COMPONENTS = 3, 4, 5, 6
FEATURES = jax.random.normal(jax.random.key(0), (NUM_FEATURES,))
TABLE = jax.random.normal(jax.random.key(1), (NUM_CLASSES, SIZE))
KINDS = ["vector", "matrix", "tied", "scaled", "free"]


def make(kind):
    """An emission with no parameter at 0."""
    key, noise_key = jax.random.split(jax.random.key(2))
    if kind == "vector":
        emission = VectorEmission(NUM_FEATURES, SIZE, NUM_CLASSES, key=key)
    elif kind == "matrix":
        emission = MatrixEmission(NUM_FEATURES, NUM_CLASSES, key=key)
    else:
        components = Components(kind, NUM_COMPONENTS, SIZE, NUM_CLASSES, key=key)
        emission = MixtureEmission(NUM_FEATURES, components, key=key)
    leaves, tree = jax.tree.flatten(emission)
    keys = jax.random.split(noise_key, len(leaves))
    noisy = [leaf + jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noisy)


@eqx.filter_jit
def log_probs(emission, asked):
    return emission.log_probs(FEATURES, asked, TABLE)


def softmax(logits):
    weights = np.exp(np.asarray(logits))
    return weights / weights.sum()


def by_hand(kind, emission, *, of_logits=False, unscaled=False):
    """p(class); with a bug planted, if asked for."""
    table, y = np.asarray(TABLE), np.asarray(FEATURES)
    if kind == "vector":
        return softmax(table @ (np.asarray(emission.map) @ y) + np.asarray(emission.bias))
    if kind == "matrix":
        return softmax(np.asarray(emission.matrix) @ y + np.asarray(emission.bias))
    weights = softmax(np.asarray(emission.weights) @ y + np.asarray(emission.weight_bias))
    rows = []
    for k, vector in enumerate(np.asarray(emission.components.vectors)):
        if kind == "scaled" and not unscaled:
            # The emission adds 1e-8 to the variance, so that equal entries are no division by 0.
            scale = np.exp(emission.components.log_scale[k])
            vector = scale * vector / np.sqrt(vector.var() + 1e-8)
        rows.append(vector if kind == "free" else table @ vector)
    if of_logits:  # averages log-probabilities: a product of experts
        return softmax(weights @ np.array([np.log(softmax(row)) for row in rows]))
    return weights @ np.array([softmax(row) for row in rows])


@pytest.mark.parametrize("kind", KINDS)
def test_an_emission_is_its_formula(kind):
    """Oracle: NumPy. The sum over the classes is 1."""
    emission = make(kind)
    found = np.exp(log_probs(emission, jnp.arange(NUM_CLASSES)))
    assert_allclose(found, by_hand(kind, emission), rtol=1e-12)
    assert_allclose(found.sum(), 1.0, rtol=1e-12)


@pytest.mark.parametrize(("kind", "bug"), [("scaled", "unscaled"), ("tied", "of_logits")])
def test_a_planted_bug_does_not_fit_the_formula(kind, bug):
    """Planted: vectors that are not divided by their deviation; a mean of logits for one of
    probabilities."""
    emission = make(kind)
    found = np.exp(log_probs(emission, jnp.arange(NUM_CLASSES)))
    assert np.abs(found - by_hand(kind, emission, **{bug: True})).max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_classes_asked_for_are_those_of_all_classes(kind):
    """Identity: with one twice and in any order."""
    emission, asked = make(kind), jnp.array([3, 0, 3])
    every = log_probs(emission, jnp.arange(NUM_CLASSES))
    assert_allclose(log_probs(emission, asked), every[asked], rtol=1e-12)


@pytest.mark.parametrize("kind", ["vector", "matrix", "tied"])
def test_one_class_at_every_position_is_that_class_asked_for_there(kind):
    """Identity, of values and of gradients: along a sequence the logits are made again on the way back."""
    emission, classes = make(kind), jnp.array([3, 0, 3, 1])
    features = jax.random.normal(jax.random.key(6), (4, NUM_FEATURES))

    def along(parameters):
        emission, features, table = parameters
        return emission.along(features, classes, table)

    def one_by_one(parameters):
        emission, features, table = parameters
        at = lambda y, c: emission.log_probs(y, c[None], table)[0]  # noqa: E731
        return jax.vmap(at)(features, classes)

    @eqx.filter_jit
    def both(parameters):
        return [
            (function(parameters), eqx.filter_grad(lambda p: function(p).sum())(parameters))  # noqa: B023
            for function in (along, one_by_one)
        ]

    found, expected = both((emission, features, TABLE))
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-9, atol=1e-13), found, expected)


def test_a_mixture_has_no_more_rank_than_components():
    """Algebra: the matrix of probabilities over many features has rank K, one softmax has more."""
    many = jax.random.normal(jax.random.key(3), (40, NUM_FEATURES))
    components = Components("tied", 2, SIZE, NUM_CLASSES, key=jax.random.key(4))
    mixture = MixtureEmission(NUM_FEATURES, components, key=jax.random.key(5))

    def rank(emission):
        asked = jnp.arange(NUM_CLASSES)
        log_p = jax.jit(jax.vmap(lambda y: emission.log_probs(y, asked, TABLE)))(many)
        return np.linalg.matrix_rank(np.exp(log_p), tol=1e-8)

    assert rank(mixture) == 2
    assert rank(make("vector")) == NUM_CLASSES


def test_no_components_are_refused():
    with pytest.raises(ValueError, match=r"0 components were asked for; give at least 1."):
        Components("tied", 0, SIZE, NUM_CLASSES, key=jax.random.key(0))
