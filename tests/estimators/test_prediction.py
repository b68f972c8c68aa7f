"""Oracles: scikit-learn, SciPy, figures by hand, the bootstrap over points, and new draws.

Errors are held against the spread of the figure over 400 other data sets or sets of draws, which is
known to 3.5 %: they must agree within 15 %.
"""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.metrics import accuracy_score, brier_score_loss, root_mean_squared_error

from tightbound.estimators.prediction import (
    accuracy,
    both_classes,
    brier_score,
    calibration_error,
    error_over_shared_draws,
    log_predictive,
    root_mean_square_error,
)

REPEATS = 400
NUM_DRAWS, NUM_POINTS = 40, 200


def made_up(seed, *, points=0):
    """Slopes theta_s ~ N(1, 0.2^2), inputs, targets y = x + 0.5 e; another `seed` is other draws,
    other `points` are another data set."""
    at = np.random.default_rng((1, points))
    inputs, noise = at.normal(size=(2, NUM_POINTS))
    slopes = 1 + 0.2 * np.random.default_rng((2, seed)).normal(size=(NUM_DRAWS, 1))
    return slopes * inputs[None], inputs + 0.5 * noise


def log_p(seed, *, points=0):
    predicted, target = made_up(seed, points=points)
    return norm.logpdf(target[None], predicted, 0.5)


def probabilities(seed, *, points=0):
    """Three classes whose logits are made of the predictions, and targets that depend on the data alone."""
    predicted, noisy = made_up(seed, points=points)
    logits = np.stack([predicted, 0.5 - predicted, np.zeros_like(predicted)], axis=-1)
    shares = np.exp(logits - logsumexp(logits, axis=-1, keepdims=True))
    return shares, np.digitize(-noisy, [-1.0, 0.5])


FIGURES = {
    "log predictive": lambda seed, points: log_predictive(log_p(seed, points=points), split="test"),
    "rmse": lambda seed, points: root_mean_square_error(
        *made_up(seed, points=points), unit="normalised units", split="test"
    ),
    "accuracy": lambda seed, points: accuracy(*probabilities(seed, points=points), split="test"),
    "brier": lambda seed, points: brier_score(*probabilities(seed, points=points), split="test"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_standard_error_is_the_spread_over_other_data_sets(name):
    """Oracle: 400 data sets of the same law, the same draws."""
    found = [FIGURES[name](0, points) for points in range(REPEATS)]
    spread = np.std([f.value for f in found], ddof=1)
    assert_allclose(np.mean([f.standard_error for f in found]), spread, rtol=0.15)


@pytest.mark.parametrize("name", ["log predictive", "rmse", "brier"])
def test_the_error_over_draws_is_the_spread_over_other_draws(name):
    """Oracle: 400 sets of draws, the same data. Planted: points added up as if each had draws of its
    own, which is far too small, since a draw predicts all points."""
    found = [FIGURES[name](seed, 0) for seed in range(REPEATS)]
    spread = np.std([f.value for f in found], ddof=1)
    assert_allclose(np.mean([f.monte_carlo_error for f in found]), spread, rtol=0.15)
    if name == "log predictive":
        weights = np.exp(log_p(0) - logsumexp(log_p(0), axis=0))
        apart = np.sqrt(np.square(weights - 1 / NUM_DRAWS).sum()) / NUM_POINTS
        assert apart < 0.6 * spread


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_error_of_a_power_mean_over_shared_draws_is_its_spread(power):
    """Oracle: 400 sets of draws, the same data."""

    def value(nats):
        if power == 0.0:
            return nats.mean()
        return np.mean(logsumexp(power * nats, axis=0, b=1 / NUM_DRAWS) / power)

    found = [log_p(seed) for seed in range(REPEATS)]
    spread = np.std([value(one) for one in found], ddof=1)
    errors = [error_over_shared_draws(one, power) for one in found]
    assert_allclose(np.mean(errors), spread, rtol=0.15)


def test_values_are_those_of_scikit_learn_and_scipy():
    """Oracles: scikit-learn's RMSE, accuracy and Brier score (of all classes), SciPy's logsumexp."""
    predicted, target = made_up(0)
    rmse = root_mean_square_error(predicted, target, unit="data units", split="test")
    assert_allclose(rmse.value, root_mean_squared_error(target, predicted.mean(0)))
    shares, classes = probabilities(0)
    mean = shares.mean(0)
    assert accuracy(shares, classes, split="test").value == accuracy_score(classes, mean.argmax(1))
    brier = brier_score_loss(classes, mean, scale_by_half=False)
    assert_allclose(brier_score(shares, classes, split="test").value, brier)
    nats = log_predictive(log_p(0), split="test")
    expected = np.mean(logsumexp(log_p(0), axis=0, b=1 / NUM_DRAWS))
    assert_allclose(nats.value, expected)
    assert nats.bound == "lower"
    assert nats.unit == "nats per point"


def test_calibration_error_is_the_gap_of_every_bin_by_its_share_of_points():
    """By hand: ten points at 0.95 of which nine are right, ten at 0.65 of which four are right."""
    shares = np.repeat([[[0.95, 0.05]], [[0.65, 0.35]]], 10, axis=0).transpose(1, 0, 2)
    target = np.array([0] * 9 + [1] + [0] * 4 + [1] * 6)
    found = calibration_error(shares, target, split="test")
    assert_allclose(found.value, 0.5 * 0.05 + 0.5 * 0.25)


def test_calibration_error_falls_towards_zero_where_confidences_are_right_and_not_where_they_are_not():
    """Oracle: classes drawn from the probabilities themselves. Planted: all confidences raised."""
    random = np.random.default_rng(4)
    right = random.uniform(size=20_000)
    target = (random.uniform(size=20_000) < right).astype(int)
    found = calibration_error(both_classes(right[None]), target, split="test").value
    raised = np.where(right > 0.5, 1.0, 0.0)
    planted = calibration_error(both_classes(raised[None]), target, split="test").value
    assert found < 0.02
    assert_allclose(planted, 0.25, atol=0.02)


def test_one_draw_and_one_point_have_no_errors():
    found = log_predictive(np.array([[-1.0]]), split="test")
    assert found.standard_error is None
    assert found.monte_carlo_error is None


def test_an_impossible_point_is_minus_infinity_without_errors():
    found = log_predictive(np.array([[-np.inf, -1.0], [-np.inf, -2.0]]), split="test")
    assert found.value == -np.inf
    assert np.isnan(found.standard_error)
    assert np.isnan(found.monte_carlo_error)


def test_a_prediction_without_error_has_a_root_mean_square_of_zero_and_no_errors():
    target = np.array([1.0, 2.0])
    found = root_mean_square_error(target[None], target, unit="data units", split="test")
    assert found.value == 0
    assert np.isnan(found.standard_error)
