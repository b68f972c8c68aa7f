"""Oracles: the products of softmaxes in NumPy, and every choice of clusters tried."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import log_softmax, logsumexp

from tightbound.nn.adaptive_softmax import (
    AdaptiveSoftmax,
    ClusterCost,
    cheapest_ends,
    narrow_size,
)
from tightbound.nn.cluster_normalisers import log_normalisers

NUM_FEATURES, NUM_CLASSES, NUM_SEQUENCES, NUM_POSITIONS = 8, 9, 3, 50
COUNTS = np.array([5, 90, 1, 0, 40, 7, 2, 30, 3])
BY_FREQUENCY = [1, 4, 7, 5, 0, 8, 6, 2, 3]
ENDS = (3, 5)
LAYER = AdaptiveSoftmax(NUM_FEATURES, COUNTS, ENDS, key=jax.random.key(0))
FEATURES = jax.random.normal(jax.random.key(1), (NUM_SEQUENCES, NUM_POSITIONS, NUM_FEATURES))
CLASSES = jax.random.randint(jax.random.key(2), (NUM_SEQUENCES, NUM_POSITIONS), 0, NUM_CLASSES)


def by_hand(features, *, without_cluster=False):
    """log p of every class; planted, if asked for: p(y | cluster) for p(cluster) p(y | cluster)."""
    y = np.asarray(features)
    log_head = log_softmax(np.asarray(LAYER.head) @ y)
    log_p = list(log_head[:3])
    for entry, tail in zip((3, 4), LAYER.tails, strict=True):
        within = log_softmax(np.asarray(tail.matrix) @ (np.asarray(tail.down) @ y))
        log_p += list(within if without_cluster else log_head[entry] + within)
    of_class = np.zeros(NUM_CLASSES)
    of_class[BY_FREQUENCY] = log_p
    return of_class


def test_every_class_is_the_product_of_its_softmaxes_and_they_sum_to_one():
    found = np.asarray(eqx.filter_jit(LAYER.log_probs)(FEATURES[0, 0]))
    assert_allclose(found, by_hand(FEATURES[0, 0]), rtol=1e-9)
    assert_allclose(np.exp(found).sum(), 1.0, rtol=1e-12)
    assert np.exp(by_hand(FEATURES[0, 0], without_cluster=True)).sum() > 1.2


@eqx.filter_jit
def of_batch(layer, features, weights, *, by_clusters):
    """Values and gradients of a weighted sum over sequences, mapped as `weigh` maps them."""

    def along(layer, features, classes):
        if by_clusters:
            return layer.along(features, classes)
        return jax.vmap(layer.log_probs)(features)[jnp.arange(len(classes)), classes]

    def total(both):
        layer, features = both
        log_p = jax.vmap(lambda f, c: along(layer, f, c))(features, CLASSES)
        return (weights * log_p).sum(), log_p

    (_, log_p), gradient = eqx.filter_value_and_grad(total, has_aux=True)((layer, features))
    return log_p, gradient


def test_scoring_the_clusters_in_use_changes_neither_values_nor_gradients():
    """Identity with the scores of all classes, over a mapped batch; 150 positions are 3 blocks, the last
    one not full. Planted: a layer whose tail is off by 0.1 gives other numbers."""
    weights = jax.random.normal(jax.random.key(3), CLASSES.shape)
    weights = weights.at[0, :5].set(0.0)  # as padding has
    found = of_batch(LAYER, FEATURES, weights, by_clusters=True)
    wanted = of_batch(LAYER, FEATURES, weights, by_clusters=False)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert_allclose(a, b, rtol=1e-8, atol=1e-11)
    planted = eqx.tree_at(lambda layer: layer.tails[1].bias, LAYER, jnp.array([0.1, 0.0, 0.0, 0.0]))
    other = of_batch(planted, FEATURES, weights, by_clusters=True)
    assert np.abs(other[0] - wanted[0]).max() > 0.01


def test_normalisers_are_those_of_the_members():
    """Oracle: SciPy; nothing of a position that is no member, and no members at all."""
    keys = jax.random.split(jax.random.key(4), 3)
    vectors, matrix = jax.random.normal(keys[0], (5, 3)), jax.random.normal(keys[1], (6, 3))
    bias = jax.random.normal(keys[2], (6,))
    compiled = jax.jit(log_normalisers)
    members = jnp.array([True, False, True, False, False])
    found = compiled(vectors, members, matrix, bias)
    wanted = logsumexp(np.asarray(vectors) @ np.asarray(matrix).T + np.asarray(bias), axis=1)
    assert_allclose(found, np.where(members, wanted, 0.0), rtol=1e-10)
    assert_allclose(compiled(vectors, ~(members | True), matrix, bias), np.zeros(5))


def test_matrices_that_are_mapped_are_refused():
    vectors, members, matrix = jnp.zeros((2, 3)), jnp.ones(2, bool), jnp.zeros((4, 6, 3))
    with pytest.raises(ValueError, match="mapped over several of its own matrices"):
        jax.vmap(log_normalisers, in_axes=(None, None, 0, None))(
            vectors, members, matrix, jnp.zeros(6)
        )


def cost_of(ends, mass, cost):
    """Of one position, in NumPy."""
    ends = (*ends, len(mass))
    total = cost.of_cluster(1.0, ends[0] + len(ends) - 1, NUM_FEATURES)
    for level, (start, end) in enumerate(itertools.pairwise(ends), start=1):
        width = narrow_size(NUM_FEATURES, level)
        total += cost.of_cluster(mass[start:end].sum(), end - start, width)
    return total


@pytest.mark.parametrize("fixed", [0.0, 30.0, 1e6])
def test_the_clusters_are_the_cheapest_of_all(fixed):
    """Oracle: all ends of up to four clusters of 12 classes, tried. Where a block costs nothing of its own there
    are many clusters; where it costs as much as everything, one softmax."""
    counts = np.array([3, 0, 500, 41, 9, 120, 1, 77, 2, 0, 18, 260])
    mass = np.sort(counts + 1.0)[::-1] / (counts + 1.0).sum()
    cost = ClusterCost(fixed, 1.0)
    choices = [c for n in range(4) for c in itertools.combinations(range(1, 12), n)]
    least = min(cost_of(ends, mass, cost) for ends in choices)
    found = cheapest_ends(counts, NUM_FEATURES, cost)
    assert_allclose(cost_of(found, mass, cost), least, rtol=1e-12)
    assert (len(found) > 0) == (fixed < 1e6)


@pytest.mark.parametrize("ends", [(0,), (4, 4), (9,), (5, 3)])
def test_clusters_without_a_class_are_refused(ends):
    with pytest.raises(ValueError, match=r"end at \[.*\] of 9 classes, but every cluster needs a"):
        AdaptiveSoftmax(NUM_FEATURES, COUNTS, ends, key=jax.random.key(0))
    with pytest.raises(ValueError, match="A softmax over 0 classes was asked for"):
        AdaptiveSoftmax(NUM_FEATURES, np.zeros(0, int), (), key=jax.random.key(0))
