"""Baselines against enumeration, closed forms and an independent library."""

import itertools
import math
import os

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from tightbound.data.baselines.images import image_baselines
from tightbound.data.batch import rows
from tightbound.data.formats.idx import load_mnist
from tightbound.data.labelled import labelled
from tightbound.data.sets.static_mnist import load_static_mnist

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)
LEVELS = 16


@pytest.fixture
def splits():
    """Grey images of three pixels: the first always black, the second always full ink in training."""
    random = np.random.default_rng(3)
    train = random.integers(0, LEVELS + 1, (50, 3)).astype(np.uint8)
    train[:, 0], train[:, 1] = 0, LEVELS
    test = random.integers(0, LEVELS + 1, (7, 3)).astype(np.uint8)
    law = "dynamic binarisation"
    labels = np.zeros(50, np.uint8), np.zeros(7, np.uint8)
    return rows("train", train, law=law, labels=labels[0]), rows(
        "test", test, law=law, labels=labels[1]
    )


def _smoothed(train):
    """Laplace's rule written as what it means: two more images, one black, one white."""
    return np.concatenate([train / LEVELS, np.zeros((1, 3)), np.ones((1, 3))])


def test_uniform_is_the_log_of_one_over_the_number_of_images(splits):
    """Oracle: enumeration of all binary images of three pixels."""
    number = len(list(itertools.product((0, 1), repeat=3)))
    uniform = image_baselines(*splits, "bernoulli", LEVELS)["uniform"]
    assert_allclose(uniform.value, -math.log(number), rtol=1e-15)
    assert uniform.standard_error == 0.0


def test_independent_pixels_are_an_exact_expectation_over_binarisation(splits):
    """Oracle: every binarisation of every test image enumerated, with its probability. Planted:
    scoring the thresholded image, and frequencies without smoothing, give something else."""
    train, test = splits
    frequency = _smoothed(train.x).mean(0)
    expected = []
    for grey in test.x / LEVELS:
        total = 0.0
        for bits in map(np.array, itertools.product((0, 1), repeat=3)):
            probability = np.prod(np.where(bits, grey, 1 - grey))
            total += probability * stats.bernoulli.logpmf(bits, frequency).sum()
        expected.append(total)
    found = image_baselines(train, test, "bernoulli", LEVELS)["independent-pixel"]
    assert_allclose(found.value, np.mean(expected), rtol=1e-12)
    assert_allclose(found.standard_error, stats.sem(expected), rtol=1e-12)
    thresholded = stats.bernoulli.logpmf(test.x > LEVELS / 2, frequency).sum(1).mean()
    assert abs(thresholded - found.value) > 0.1
    unsmoothed = (train.x / LEVELS).mean(0)
    with np.errstate(divide="ignore"):
        assert np.isneginf(stats.bernoulli.logpmf(1, unsmoothed[0]))


def test_on_bits_the_expectation_is_the_log_probability_itself():
    """Oracle: scipy's Bernoulli on the bits, with levels = 1."""
    random = np.random.default_rng(4)
    train, test = random.integers(0, 2, (20, 5), np.uint8), random.integers(0, 2, (6, 5), np.uint8)
    frequency = (1 + train.sum(0)) / 22
    splits = [
        rows(name, x, law="static binarisation") for name, x in (("train", train), ("test", test))
    ]
    found = image_baselines(*splits, "bernoulli", 1)["independent-pixel"]
    assert_allclose(found.value, stats.bernoulli.logpmf(test, frequency).sum(1).mean(), rtol=1e-12)
    assert found.split == "test (static binarisation)"


def test_independent_gaussians_are_scipys_normal_with_smoothed_moments(splits):
    """Oracle: scipy's normal, moments of the training rows and the two pseudo-images."""
    train, test = splits
    smoothed = _smoothed(train.x)
    nats = stats.norm.logpdf(test.x / LEVELS, smoothed.mean(0), smoothed.std(0)).sum(1)
    found = image_baselines(train, test, "gaussian", LEVELS)
    assert set(found) == {"independent-gaussian"}
    assert_allclose(found["independent-gaussian"].value, nats.mean(), rtol=1e-12)
    assert_allclose(found["independent-gaussian"].standard_error, stats.sem(nats), rtol=1e-12)


def test_dequantised_levels_are_scored_in_expectation_over_their_noise(splits):
    """Oracle: Gauss-Legendre quadrature over u (exact: the integrand is quadratic), moments of the
    dequantised variable by the law of total variance."""
    train, test = (rows(split.name, split.x, law="dequantised grey levels") for split in splits)
    node, weight = np.polynomial.legendre.leggauss(4)
    node, weight = (node + 1) / 2, weight / 2
    smoothed = (_smoothed(train.x) * LEVELS + 0.5) / (LEVELS + 1)
    scale = np.sqrt(smoothed.var(0) + 1 / (12 * (LEVELS + 1) ** 2))
    y = (test.x[:, :, None] + node) / (LEVELS + 1)
    logpdf = stats.norm.logpdf(y, smoothed.mean(0)[:, None], scale[:, None])
    expected = (logpdf @ weight).sum(1).mean()
    found = image_baselines(train, test, "gaussian", LEVELS)["independent-gaussian"]
    assert_allclose(found.value, expected, rtol=1e-12)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_labels_and_the_number_of_rows_at_a_time_change_nothing(splits, likelihood, monkeypatch):
    """Identity, up to the order of additions."""
    plain = image_baselines(*splits, likelihood, LEVELS)
    monkeypatch.setattr("tightbound.data.baselines.images._CHUNK", 7)
    with_labels = image_baselines(*map(labelled, splits), likelihood, LEVELS)
    for name, estimate in plain.items():
        assert_allclose(with_labels[name].value, estimate.value, rtol=1e-13)


def test_one_image_has_no_error_over_sequences(splits):
    train, test = splits
    one = rows("test", test.x[:1], law=test.law)
    found = image_baselines(train, one, "bernoulli", LEVELS)["independent-pixel"]
    assert found.standard_error is None
    assert found.bound == "exact"
    assert found.unit == "nats per sequence"
    assert found.monte_carlo_error is None


@needs_data
def test_the_baselines_of_mnist_are_between_chance_and_any_trained_model():
    """Oracle: entropies. E[log f] under static bits is at most -sum of the pixels' entropies in the
    test set (Gibbs), and close to it because both sets are of one law."""
    static = load_static_mnist()
    found = image_baselines(static["train"], static["test"], "bernoulli", 1)
    test_frequency = static["test"].x.mean(0)
    ceiling = -stats.bernoulli.entropy(test_frequency).sum()
    assert ceiling - 2 < found["independent-pixel"].value < ceiling
    assert_allclose(found["uniform"].value, -784 * math.log(2), rtol=1e-15)
    grey = load_mnist()
    dynamic = image_baselines(grey["train"], grey["test"], "bernoulli", 255)["independent-pixel"]
    assert dynamic.split == "test (dynamic binarisation)"
    assert abs(dynamic.value - found["independent-pixel"].value) < 1
