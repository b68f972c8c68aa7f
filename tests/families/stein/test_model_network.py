"""Oracles: a forward pass in NumPy loops, and SciPy's densities."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import softmax
from scipy.stats import gamma, norm

from tightbound.data.points import Points, PointSet
from tightbound.families.stein.model_network import BayesianNetwork
from tightbound.families.stein.precision import FixedPrecision
from tightbound.families.stein.response import ClassResponse, NormalResponse

BYTES = np.random.default_rng(0).integers(0, 256, (4, 3), np.uint8)
REAL = BYTES / 255.0
TARGET = np.random.default_rng(1).normal(size=4)
CLASSES = np.array([0, 2, 1, 2], np.int32)
WEIGHT = np.array([1.0, 2.5, 1.0, 1.0])
KEY = jax.random.key(0)


def forward(inputs, theta, activation):
    """The features of every point, one unit at a time."""
    layers = list(zip(theta.weights, theta.biases, strict=True))
    features = []
    for hidden in inputs:
        for layer, (weight, bias) in enumerate(layers):
            hidden = [np.dot(weight[unit], hidden) + bias[unit] for unit in range(len(bias))]
            if layer < len(layers) - 1:
                hidden = [activation(value) for value in hidden]
        features.append(hidden)
    return np.array(features)


def relu(value):
    return max(value, 0.0)


def scores(model, theta, inputs, target):
    x = PointSet(Points(inputs, target), WEIGHT)
    return eqx.filter_jit(model.score)(x, theta)


def test_a_regression_network_is_the_forward_pass_with_scipys_normal():
    """Oracle: NumPy and SciPy, two hidden ReLU layers. Planted: the activation on the last layer too."""
    model = BayesianNetwork(3, NormalResponse(), (5, 4))
    theta = model.sample_prior(KEY)
    mean = forward(REAL, theta, relu)[:, 0]
    scale = np.exp(-0.5 * theta.log_precision)
    found = scores(model, theta, REAL, TARGET)["y"]
    assert_allclose(found, WEIGHT * norm.logpdf(TARGET, mean, scale), rtol=1e-11)
    assert_allclose(model.predict(REAL, theta), mean, rtol=1e-12)
    wrong = WEIGHT * norm.logpdf(TARGET, np.maximum(mean, 0.0), scale)
    assert np.abs(found - wrong).max() > 1e-3


def test_a_class_network_is_the_forward_pass_with_a_softmax():
    """Oracle: NumPy and SciPy, one tanh layer, images of bytes. Planted: bytes read without scale."""
    model = BayesianNetwork(3, ClassResponse(3), (5,), jnp.tanh, input_scale=255.0)
    theta = model.sample_prior(KEY)
    probability = softmax(forward(REAL, theta, np.tanh), axis=1)
    found = scores(model, theta, BYTES, CLASSES)["y"]
    assert_allclose(found, WEIGHT * np.log(probability[np.arange(4), CLASSES]), rtol=1e-11)
    assert_allclose(model.predict(BYTES, theta), probability, rtol=1e-12)
    unscaled = BayesianNetwork(3, ClassResponse(3), (5,), jnp.tanh)
    assert np.abs(unscaled.predict(BYTES, theta) - probability).max() > 1e-3


@pytest.mark.parametrize("by_fan_in", [False, True])
def test_the_prior_is_scipys_normal_of_every_weight_and_gamma_of_the_precision(by_fan_in):
    """Oracle: SciPy. Planted: the other prior scale, and the Jacobian of log tau left out."""
    model = BayesianNetwork(3, NormalResponse(), (5, 4), scale_by_fan_in=by_fan_in)
    theta = model.sample_prior(KEY)
    l = float(theta.log_precision)

    def log_prior(by_fan_in):
        fan_in = [3, 5, 4] if by_fan_in else [1, 1, 1]
        log_p = gamma.logpdf(np.exp(l), 1.0, scale=10.0) + l
        for size, weight, bias in zip(fan_in, theta.weights, theta.biases, strict=True):
            log_p += norm.logpdf(weight, scale=1 / np.sqrt(size)).sum() + norm.logpdf(bias).sum()
        return log_p

    found = scores(model, theta, REAL, TARGET)["theta"]
    assert_allclose(found, [log_prior(by_fan_in)], rtol=1e-12)
    assert abs(found[0] - log_prior(not by_fan_in)) > 1.0
    assert abs(found[0] - (log_prior(by_fan_in) - l)) > 0.1


def test_a_class_network_scores_its_weights_and_biases_alone():
    """Oracle: SciPy; there is no precision to score."""
    model = BayesianNetwork(3, ClassResponse(3), (5,), jnp.tanh)
    theta = model.sample_prior(KEY)
    assert theta.log_precision is None
    expected = sum(norm.logpdf(leaf).sum() for leaf in [*theta.weights, *theta.biases])
    assert_allclose(model.log_prior(theta), expected, rtol=1e-12)


def test_a_known_noise_is_no_latent():
    """Oracle: SciPy with the scale 1 / 2 of the precision 4."""
    model = BayesianNetwork(3, NormalResponse(FixedPrecision(4.0)), (5,))
    theta = model.sample_prior(KEY)
    assert theta.log_precision is None
    mean = forward(REAL, theta, relu)[:, 0]
    expected = WEIGHT * norm.logpdf(TARGET, mean, 0.5)
    assert_allclose(scores(model, theta, REAL, TARGET)["y"], expected, rtol=1e-11)


def test_drawn_weights_are_as_wide_as_the_prior_says():
    """The mean square of the weights of each of 3 layers, and of all biases, in units of the prior's
    variance is 1 within 4.5 standard errors (4 statistics, level 1e-3 in all). Planted: weights
    that were drawn without the fan-in."""
    model = BayesianNetwork(3, NormalResponse(), (5, 4), scale_by_fan_in=True)
    theta = jax.jit(jax.vmap(model.sample_prior))(jax.random.split(KEY, 500))

    def error(values, variance):
        squares = np.square(np.ravel(values)) / variance
        return abs(squares.mean() - 1) / (squares.std() / np.sqrt(squares.size))

    biases = np.concatenate([np.ravel(bias) for bias in theta.biases])
    right = [error(weight, 1 / weight.shape[2]) for weight in theta.weights]
    assert max([*right, error(biases, 1.0)]) < 4.5
    assert min(error(weight, 1.0) for weight in theta.weights) > 8.0


def test_drawn_inputs_are_standard_normal_as_the_network_reads_them():
    """By hand: the same key gives the same inputs, multiplied by the scale that divides them."""
    plain, scaled = (
        BayesianNetwork(3, NormalResponse(), (5,), input_scale=s) for s in (1.0, 255.0)
    )
    assert_allclose(scaled.sample_inputs(KEY) / 255, plain.sample_inputs(KEY), rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BayesianNetwork(3, NormalResponse(), (0,)), r"hidden sizes \(0,\).* at least 1"),
        (lambda: BayesianNetwork(3, NormalResponse(), input_scale=0.0), "divided by it"),
        (lambda: ClassResponse(1), "1 classes was asked for; give at least 2"),
    ],
)
def test_a_network_that_cannot_be_says_what_to_give(make, message):
    """The sentence a person reads."""
    with pytest.raises(ValueError, match=message):
        make()
