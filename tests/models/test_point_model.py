"""Laws of every model of points: padding, minibatches, prediction, drawn data sets."""

import itertools
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.batch import rows
from tightbound.data.points import Points, PointSet
from tightbound.families.stein.model_network import BayesianNetwork
from tightbound.families.stein.model_regression import (
    BayesianLinearRegression,
    BayesianLogisticRegression,
)
from tightbound.families.stein.response import ClassResponse, NormalResponse

MODELS = {
    "linear": BayesianLinearRegression(3, num_points=5),
    "logistic": BayesianLogisticRegression(3, num_points=5),
    "regression network": BayesianNetwork(3, NormalResponse(), (4,), jnp.tanh, num_points=5),
    "class network": BayesianNetwork(3, ClassResponse(3), (4,), jnp.tanh, num_points=5),
}
REAL_AND_INTEGER = ["linear", "class network"]  # for what the interface does, whatever the family


def drawn(name):
    """One theta and one data set of five points, from the model itself."""
    return MODELS[name].sample(jax.random.key(1))


def padded(x, *, weight=0.0):
    """The points with two more, which hold NaN, or the largest integer there is."""

    def pad(leaf):
        bad = np.nan if np.issubdtype(leaf.dtype, np.floating) else np.iinfo(leaf.dtype).max
        return np.concatenate([leaf, np.full((2, *leaf.shape[1:]), bad, leaf.dtype)])

    weights = np.concatenate([x.weight, np.full(2, weight)])
    return PointSet(jax.tree.map(lambda leaf: pad(np.asarray(leaf)), x.points), weights)


@pytest.mark.parametrize("name", REAL_AND_INTEGER)
def test_padding_scores_exactly_zero_and_has_no_gradient(name):
    """Identity, to the bit; the padding holds NaN. Planted: the same points with weight 1."""
    model, (theta, x) = MODELS[name], drawn(name)
    score = eqx.filter_jit(model.score)
    plain, with_padding = score(x, theta), score(padded(x), theta)
    assert_array_equal(with_padding["y"], np.concatenate([plain["y"], np.zeros(2)]))
    assert_array_equal(with_padding["theta"], plain["theta"])
    assert not np.isfinite(score(padded(x, weight=1.0), theta)["y"]).all()

    gradient = eqx.filter_jit(eqx.filter_grad(lambda theta, x: model.score(x, theta)["y"].sum()))
    for found, expected in zip(
        jax.tree.leaves(gradient(theta, padded(x))),
        jax.tree.leaves(gradient(theta, x)),
        strict=True,
    ):
        assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", REAL_AND_INTEGER)
def test_a_minibatch_has_the_log_likelihood_of_all_points_on_average(name):
    """Enumeration of all 10 minibatches of 2 of the 5 points, as a pooled split cuts them. Planted:
    weights of 1, which give 2 / 5 of it."""
    model, (theta, x) = MODELS[name], drawn(name)
    split = replace(rows("train", jax.tree.map(np.asarray, x.points)), pooled=True)
    pairs = [np.array(pair) for pair in itertools.combinations(range(5), 2)]
    batches = jax.tree.map(lambda *leaves: np.stack(leaves), *[split.take(r).x for r in pairs])
    total = jax.jit(jax.vmap(lambda x: model.score(x, theta)["y"].sum()))
    sets = jax.tree.map(lambda leaf: leaf[:, 0], batches)  # each batch is one sequence
    full = model.score(x, theta)["y"].sum()
    assert_allclose(total(sets).mean(), full, rtol=1e-6)  # the split's weights have 32 bits
    unweighted = eqx.tree_at(lambda s: s.weight, sets, np.ones((10, 2)))
    assert_allclose(total(unweighted).mean(), 0.4 * full, rtol=1e-6)


@pytest.mark.parametrize("name", REAL_AND_INTEGER)
def test_the_order_of_the_points_does_not_matter(name):
    """Identity: the scores move with the points."""
    model, (theta, x) = MODELS[name], drawn(name)
    order = np.array([3, 0, 4, 1, 2])
    moved = jax.tree.map(lambda leaf: leaf[order], x)
    assert_allclose(model.score(moved, theta)["y"], model.score(x, theta)["y"][order], rtol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_a_prediction_is_the_mean_of_the_likelihood(name):
    """Oracle: the likelihood's own mean, or its probabilities, point by point."""
    model, (theta, x) = MODELS[name], drawn(name)
    found = model.predict(x.points.inputs, theta)
    for row, inputs in zip(found, x.points.inputs, strict=True):
        law = model.likelihood(inputs, theta)
        assert_allclose(row, law.probs if name == "class network" else law.mean, rtol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_a_drawn_data_set_has_as_many_points_as_asked_all_of_weight_one(name):
    """By hand; targets as the likelihood has them, integers for classes."""
    _, x = drawn(name)
    assert isinstance(x.points, Points)
    assert x.points.inputs.shape == (5, 3)
    assert_array_equal(x.weight, np.ones(5))
    discrete = name in ("logistic", "class network")
    assert np.issubdtype(x.points.target.dtype, np.integer) == discrete
