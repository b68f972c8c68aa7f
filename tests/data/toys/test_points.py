"""Made-up points against the laws they claim to be drawn from. Seeds are fixed; five statistics are
tested, each at a level of 1e-3 / 5."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.special import expit

from tightbound.data.toys.points import WAVE_CLUSTERS, linear_points, two_classes, wave_points
from tightbound.errors import UserError

LARGEST = stats.norm.isf(1e-3 / 5 / 2)  # of a statistic that is standard normal
MAKERS = [linear_points, wave_points, two_classes]


def joined(splits):
    """Inputs and targets of all splits in 64 bits."""
    inputs = np.concatenate([split.x.inputs for split in splits.values()])
    return inputs.astype(float), np.concatenate([split.x.target for split in splits.values()])


def standardised_chi_square(squares):
    """A sum of squares of standard normals, standardised."""
    return (squares.sum() - squares.size) / np.sqrt(2 * squares.size)


def whitened(inputs, target):
    """The targets in units of N(0, 4 X X^T + 0.09 I), the marginal law of a linear regression."""
    covariance = 4 * inputs @ inputs.T + 0.09 * np.eye(len(target))
    return np.linalg.solve(np.linalg.cholesky(covariance), target.astype(float))


def test_linear_points_have_the_marginal_law_of_one_bayesian_linear_regression():
    """Oracle: whitened targets of 150 data sets are standard normals, over all splits together.

    Planted: were the test points another data set's, their squares would not be.
    """
    settings = {"num_held_out": 4, "input_size": 2, "prior_scale": 2.0, "noise_scale": 0.3}
    pairs = [joined(linear_points(6, **settings, seed=seed)) for seed in range(150)]
    right = np.array([whitened(*pair) for pair in pairs])
    assert abs(standardised_chi_square(right**2)) < LARGEST
    others = pairs[1:] + pairs[:1]
    mixed = np.array(
        [
            whitened(np.concatenate([x[:10], u[10:]]), np.concatenate([y[:10], v[10:]]))
            for (x, y), (u, v) in zip(pairs, others, strict=True)
        ]
    )
    assert standardised_chi_square(mixed**2) > 8


def test_the_wave_is_a_cosine_with_its_noise():
    """Oracle: (y - cos(4x + 0.8)) / noise are standard normals. Planted: a sine."""
    inputs, target = joined(wave_points(500, noise_scale=0.2))
    residual = (target - np.cos(4 * inputs[:, 0] + 0.8)) / 0.2
    assert abs(standardised_chi_square(residual**2)) < LARGEST
    assert abs(residual.mean() * np.sqrt(len(residual))) < LARGEST
    wrong = (target - np.sin(4 * inputs[:, 0] + 0.8)) / 0.2
    assert standardised_chi_square(wrong**2) > 8


def test_the_wave_is_trained_at_its_ends_and_tested_between_too():
    """Oracle: the intervals themselves. Planted: a test split of the clusters would have no gap."""
    splits = wave_points(30)
    (low, left), (right, high) = WAVE_CLUSTERS
    for name in ("train", "valid"):
        x = splits[name].x.inputs[:, 0]
        in_left = (np.float32(low) <= x) & (x <= np.float32(left))
        in_right = (np.float32(right) <= x) & (x <= np.float32(high))
        assert (in_left.sum(), in_right.sum()) == (len(x) // 2, len(x) // 2)
    x = splits["test"].x.inputs[:, 0]
    assert (x >= -1).all()
    assert (x <= 1).all()
    between = (np.float32(left) < x) & (x < np.float32(right))
    assert between.sum() > 80  # 120 of 200 are expected
    assert_array_equal(splits["test"].groups, between)
    assert splits["test"].group_names == ("in", "between")
    assert not splits["valid"].groups.any()


def test_the_classes_given_the_inputs_are_a_logistic_regression():
    """Oracle: the score of the log-odds, sum (c - p) (x . u, 1), is 0 within its own variance.

    Planted: log-odds of half the separation.
    """
    inputs, classes = joined(two_classes(2_000, num_held_out=1_000, input_size=3, separation=1.5))
    along = inputs.sum(1) / np.sqrt(3)

    def scores(separation):
        chance = expit(separation * along)
        spread = chance * (1 - chance)
        of_slope = ((classes - chance) * along).sum() / np.sqrt((spread * along**2).sum())
        return of_slope, (classes - chance).sum() / np.sqrt(spread.sum())

    assert np.abs(scores(1.5)).max() < LARGEST
    assert scores(0.75)[0] > 8
    assert_allclose(classes.mean(), 0.5, atol=0.05)


@pytest.mark.parametrize("make", MAKERS)
def test_the_points_are_a_function_of_the_seed(make):
    """Identity, and the held-out points of another seed are others."""
    first, again, other = make(8, num_held_out=4), make(8, num_held_out=4), make(8, seed=1)
    assert [len(split) for split in first.values()] == [8, 4, 4]
    for name, split in first.items():
        assert_array_equal(split.x.inputs, again[name].x.inputs)
        assert_array_equal(split.x.target, again[name].x.target)
        assert split.x.inputs.dtype == np.float32
        assert split.pooled
        assert split.given == ("" if name == "train" else "train")
    assert (first["train"].x.inputs != other["train"].x.inputs).any()


@pytest.mark.parametrize("make", MAKERS)
def test_empty_splits_are_refused(make):
    with pytest.raises(UserError, match="0 points to train and 5 to hold out"):
        make(0, num_held_out=5)
    with pytest.raises(UserError, match="3 points to train and 0 to hold out"):
        make(3, num_held_out=0)
