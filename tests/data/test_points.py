"""Points of one data set: a batch of some of them stands for all, without bias."""

from itertools import combinations, islice

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.batch import first_rows, training_batches
from tightbound.data.point_splits import point_splits
from tightbound.data.points import Points, PointSet

NUM_POINTS = 6


def points(num_points, seed=0):
    random = np.random.default_rng(seed)
    return Points(random.normal(size=(num_points, 2)), random.normal(size=num_points))


@pytest.fixture(scope="module")
def splits():
    parts = {"train": points(NUM_POINTS), "valid": points(3, 1), "test": points(4, 2)}
    return point_splits(
        parts, law="a law", groups={"test": np.array([0, 1, 1, 0])}, group_names=("in", "between")
    )


def log_likelihood(batch):
    """sum_i weight_i log p(y_i | x_i) of a line with unit noise, up to its constant."""
    inputs, target = batch.x.points.inputs[0], batch.x.points.target[0]
    of_point = -0.5 * (target - inputs @ np.array([0.7, -1.1])) ** 2
    return (batch.x.weight[0] * of_point).sum(), of_point


def test_a_batch_of_points_is_one_sequence_that_counts_every_point(splits):
    """Oracle: the rows themselves. `num_units` is of the whole data set, whatever the batch."""
    train = splits["train"]
    batch = train.take(np.array([4, 1]))
    assert isinstance(batch.x, PointSet)
    assert_array_equal(batch.x.points.inputs, train.x.inputs[[4, 1]][None])
    assert_array_equal(batch.x.points.target, train.x.target[[4, 1]][None])
    assert_array_equal(batch.x.weight, [[3.0, 3.0]])
    assert (batch.mask.shape, batch.num_units.tolist(), batch.rows.tolist()) == ((1, 2), [6], [0])
    assert_array_equal(train.take(np.arange(NUM_POINTS)).x.weight, np.ones((1, NUM_POINTS)))


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_the_weighted_sum_over_a_batch_is_an_unbiased_estimate_of_the_sum_over_all(splits, size):
    """Oracle: all subsets of `size` of the points, whose mean is the expectation exactly.

    Planted: with weight 1 the mean is size / N of the sum, and only all points together are right.
    """
    train = splits["train"]
    subsets = [np.array(rows) for rows in combinations(range(NUM_POINTS), size)]
    pairs = [log_likelihood(train.take(rows)) for rows in subsets]
    _, of_point = log_likelihood(train.take(np.arange(NUM_POINTS)))
    assert_allclose(np.mean([weighted for weighted, _ in pairs]), of_point.sum(), rtol=1e-6)
    unweighted = np.mean([bare.sum() for _, bare in pairs])
    assert_allclose(unweighted, size / NUM_POINTS * of_point.sum(), rtol=1e-12)
    assert (abs(unweighted / of_point.sum() - 1) > 0.1) == (size < NUM_POINTS)


def test_the_batches_of_an_epoch_average_to_the_whole_data_set(splits):
    """Identity: an epoch's batches share the points out, so the mean of their sums is the sum."""
    train = splits["train"]
    whole, _ = log_likelihood(train.take(np.arange(NUM_POINTS)))
    batches = list(islice(training_batches(train, 2, seed=5), 6))
    for epoch in (batches[:3], batches[3:]):
        found = np.mean([log_likelihood(batch)[0] for batch in epoch])
        assert_allclose(found, whole, rtol=1e-6)
    assert np.ptp([log_likelihood(batch)[0] for batch in batches]) > 0.1


def test_a_smaller_split_is_a_smaller_data_set(splits):
    """Oracle: N of the split that is left. Planted: the weight of the larger one."""
    small = first_rows(splits["train"], 4)
    batch = small.take(np.array([0, 3]))
    assert_array_equal(batch.x.weight, [[2.0, 2.0]])
    assert batch.num_units.tolist() == [4]


def test_only_held_out_points_are_predicted_and_only_they_have_groups(splits):
    """Oracle: the sentences that estimates carry."""
    assert [split.description for split in splits.values()] == [
        "train (a law)",
        "valid given train (a law)",
        "test given train (a law)",
    ]
    assert all(split.pooled for split in splits.values())
    assert splits["train"].groups is None
    assert splits["train"].group_names == ()
    assert_array_equal(splits["test"].groups, [0, 1, 1, 0])
    assert splits["test"].group_names == ("in", "between")


def test_inputs_and_targets_of_different_numbers_of_points_are_no_points():
    with pytest.raises(TypeError, match="Points"):
        Points(np.zeros((3, 2)), np.zeros(4))
