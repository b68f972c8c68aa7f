"""Oracle: the product of two softmaxes in NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import log_softmax

from tightbound.nn.two_level_softmax import TwoLevelSoftmax

NUM_CLASSES, NUM_FEATURES = 7, 4  # three clusters of three places, two of them of no class
FEATURES = jax.random.normal(jax.random.key(0), (NUM_FEATURES,))
LAYER = TwoLevelSoftmax(NUM_FEATURES, NUM_CLASSES, key=jax.random.key(1))


def by_hand(*, with_every_place=False):
    """log p of every class; planted, if asked for: places of no class share the last cluster's mass."""
    y = np.asarray(FEATURES)
    log_cluster = log_softmax(np.asarray(LAYER.cluster_matrix) @ y)
    log_p = []
    for cluster, rows in enumerate(np.asarray(LAYER.matrix)):
        in_use = len(rows) if with_every_place else min(NUM_CLASSES - 3 * cluster, 3)
        log_p += list(log_cluster[cluster] + log_softmax((rows @ y)[:in_use]))
    return np.array(log_p[:NUM_CLASSES])


def test_every_class_is_the_product_of_two_softmaxes_and_they_sum_to_one():
    found = np.asarray(eqx.filter_jit(LAYER.log_probs)(FEATURES))
    assert_allclose(found, by_hand(), rtol=1e-10)
    assert_allclose(np.exp(found).sum(), 1.0, rtol=1e-12)
    assert np.exp(by_hand(with_every_place=True)).sum() < 0.95


def test_one_class_is_that_class_among_all_and_so_is_its_gradient():
    """Identity."""

    def one(features, y):
        return LAYER.log_prob(features, y)

    def among_all(features, y):
        return LAYER.log_probs(features)[y]

    every = jnp.arange(NUM_CLASSES)
    of_every = lambda f: jax.jit(jax.vmap(jax.value_and_grad(f), in_axes=(None, 0)))  # noqa: E731
    found, wanted = of_every(one)(FEATURES, every), of_every(among_all)(FEATURES, every)
    for a, b in zip(found, wanted, strict=True):
        assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_no_classes_are_refused():
    with pytest.raises(
        ValueError, match="A softmax over 0 classes was asked for; give at least one"
    ):
        TwoLevelSoftmax(3, 0, key=jax.random.key(0))
