"""Baselines of regressions against scipy, scikit-learn and the moments of training targets."""

import math
import os
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.linear_model import LinearRegression

from tightbound.data.baselines.regression import regression_baseline_rows
from tightbound.data.baselines.sequences import baseline_estimates
from tightbound.data.point_splits import point_splits
from tightbound.data.points import Points
from tightbound.data.sets.uci import load_uci
from tightbound.data.toys.points import linear_points, two_classes
from tightbound.errors import UserError

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)


@pytest.fixture(scope="module")
def splits():
    """Targets that lean on the inputs, with an intercept."""
    random = np.random.default_rng(0)

    def points(size):
        inputs = random.normal(1, 2, (size, 3))
        target = inputs @ np.array([1.0, -0.5, 0.2]) + 4 + 0.3 * random.normal(size=size)
        return Points(inputs, target)

    return point_splits({"train": points(25), "valid": points(10), "test": points(12)})


def test_the_constant_is_the_gaussian_of_the_training_moments(splits):
    """Oracle: scipy's Gaussian. Planted: the moments of the held-out targets are others."""
    train, test = splits["train"].x.target, splits["test"].x.target
    found = regression_baseline_rows(splits["train"], splits["test"])["constant-gaussian"]
    assert_allclose(found, stats.norm.logpdf(test, train.mean(), train.std(ddof=1)), rtol=1e-10)
    leaked = stats.norm.logpdf(test, test.mean(), test.std(ddof=1))
    assert abs(leaked.sum() - found.sum()) > 0.1


def test_the_line_is_that_of_least_squares(splits):
    """Oracle: scikit-learn's fit, the residuals' variance over 25 - 4, and scipy's Gaussian.

    Planted: without an intercept the line is another.
    """
    train, test = splits["train"].x, splits["test"].x
    found = regression_baseline_rows(splits["train"], splits["test"])["linear-gaussian"]

    def expected(intercept):
        fit = LinearRegression(fit_intercept=intercept).fit(train.inputs, train.target)
        residual = train.target - fit.predict(train.inputs)
        scale = math.sqrt(np.square(residual).sum() / 21)
        return stats.norm.logpdf(test.target, fit.predict(test.inputs), scale)

    assert_allclose(found, expected(intercept=True), rtol=1e-9)
    assert np.abs(found - expected(intercept=False)).max() > 1


def test_a_column_that_says_nothing_new_changes_nothing(splits):
    """Identity: a repeated input leaves the predictions and, as the rank stays, the variance."""

    def doubled(split):
        inputs = np.column_stack([split.x.inputs, split.x.inputs[:, 0]])
        return replace(split, x=Points(inputs, split.x.target))

    found = regression_baseline_rows(doubled(splits["train"]), doubled(splits["test"]))
    expected = regression_baseline_rows(splits["train"], splits["test"])
    assert_allclose(found["linear-gaussian"], expected["linear-gaussian"], rtol=1e-8)


def test_the_conjugate_line_is_a_students_t_of_all_targets_at_once(splits):
    """Oracle: scipy's multivariate t with one degree of freedom, location 0 and shape I + X X^T, of the
    training targets; held-out points are the ratio of two such densities. Planted: the fitted line."""
    train, test = splits["train"], splits["test"]

    def log_marginal(inputs, target):
        design = np.column_stack([np.ones(len(target)), inputs])
        shape = np.eye(len(target)) + design @ design.T
        return stats.multivariate_t.logpdf(target, shape=shape, df=1)

    joint = log_marginal(train.x.inputs, train.x.target)
    (found,) = regression_baseline_rows(train, train)["linear-conjugate"]
    assert_allclose(found, joint, rtol=1e-8)
    rows = regression_baseline_rows(train, test)["linear-conjugate"]
    for row, inputs, target in zip(rows, test.x.inputs, test.x.target, strict=True):
        both = log_marginal(np.vstack([train.x.inputs, inputs]), np.append(train.x.target, target))
        assert_allclose(row, both - joint, rtol=1e-6)
    fitted = regression_baseline_rows(train, train)["linear-gaussian"].sum()
    assert abs(fitted - joint) > 5


def test_estimates_are_means_over_points_in_nats_per_sequence(splits):
    """Oracle: mean and standard error by hand."""
    rows = regression_baseline_rows(splits["train"], splits["test"])
    found = baseline_estimates(
        regression_baseline_rows(splits["train"], splits["test"]), splits["test"]
    )
    assert list(found) == ["constant-gaussian", "linear-gaussian", "linear-conjugate"]
    for name, estimate in found.items():
        assert estimate.value == pytest.approx(rows[name].mean())
        assert estimate.standard_error == pytest.approx(rows[name].std(ddof=1) / math.sqrt(12))
        assert (estimate.unit, estimate.bound) == ("nats per sequence", "exact")
        assert (estimate.estimator, estimate.split) == (name, "test given train")


def test_the_training_points_are_one_sequence(splits):
    """Oracle of the fitted laws: the sum over the points, had they been predicted. Planted: their mean."""
    train = splits["train"]
    of_points = regression_baseline_rows(train, replace(train, given="train"))
    found = baseline_estimates(regression_baseline_rows(train, train), train)
    for name in ("constant-gaussian", "linear-gaussian"):
        estimate = found[name]
        assert estimate.value == pytest.approx(of_points[name].sum())
        assert estimate.value != pytest.approx(of_points[name].mean())
        assert estimate.standard_error is None


def test_the_line_approaches_the_density_of_the_law_that_made_the_points():
    """Oracle: -1/2 log(2 pi e s^2), the entropy of the noise, within 4 standard errors of the mean
    over 4,000 points. Planted: the constant is more than 8 below it."""
    toy = linear_points(2_000, num_held_out=4_000, noise_scale=0.5)
    found = baseline_estimates(regression_baseline_rows(toy["train"], toy["test"]), toy["test"])
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.25)
    line, constant = found["linear-gaussian"], found["constant-gaussian"]
    assert abs(line.value + entropy) < 4 * line.standard_error
    assert constant.value + entropy < -8 * constant.standard_error


def test_a_line_through_as_many_points_as_coefficients_is_left_out(splits):
    few = replace(
        splits["train"], x=Points(splits["train"].x.inputs[:4], splits["train"].x.target[:4])
    )
    few = replace(few, mask=few.mask[:4], num_units=few.num_units[:4])
    found = regression_baseline_rows(few, splits["test"])
    assert list(found) == ["constant-gaussian", "linear-conjugate"]


def test_targets_that_a_gaussian_is_no_law_of_are_refused(splits):
    train = splits["train"]
    equal = replace(train, x=Points(train.x.inputs, np.full(25, 3.0)))
    with pytest.raises(UserError, match="fits the 25 training targets without error"):
        regression_baseline_rows(equal, splits["test"])
    classes = two_classes(10)
    with pytest.raises(UserError, match="of type int32, but a Gaussian is a density of real"):
        regression_baseline_rows(classes["train"], classes["test"])


@needs_data
def test_a_line_beats_a_constant_on_real_data_by_more_than_its_error():
    """Oracle: none but the order; concrete's strength is largely linear in its inputs."""
    splits, _ = load_uci("concrete", 0)
    found = baseline_estimates(
        regression_baseline_rows(splits["train"], splits["test"]), splits["test"]
    )
    line, constant = found["linear-gaussian"], found["constant-gaussian"]
    assert line.value - constant.value > 4 * line.standard_error
