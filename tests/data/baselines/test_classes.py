"""What a classifier must beat. Oracle: scikit-learn's dummy classifiers and counts by hand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.dummy import DummyClassifier

from tightbound.data.baselines.classes import class_baseline_rows
from tightbound.data.point_splits import point_splits
from tightbound.data.points import Points


def points(classes):
    return Points(np.zeros((len(classes), 1), np.float32), np.array(classes, np.int32))


SPLITS = point_splits({"train": points([0, 0, 0, 1, 1, 2]), "valid": points([0, 1, 2, 2])})


def test_uniform_classes_are_the_dummy_classifiers():
    """Oracle: scikit-learn, row by row."""
    dummy = DummyClassifier(strategy="uniform").fit(np.zeros((6, 1)), SPLITS["train"].x.target)
    target = SPLITS["valid"].x.target
    expected = np.log(dummy.predict_proba(np.zeros((4, 1)))[np.arange(4), target])
    found = class_baseline_rows(SPLITS["train"], SPLITS["valid"])
    assert_allclose(found["uniform"], expected, rtol=1e-12)


def test_frequencies_are_smoothed_counts_of_training_points():
    """Oracle: scikit-learn's prior on the training points and one more of every class. Planted: the
    held-out points' own frequencies."""
    seen = np.array([0, 0, 0, 1, 1, 2, 0, 1, 2])
    dummy = DummyClassifier(strategy="prior").fit(np.zeros((9, 1)), seen)
    target = SPLITS["valid"].x.target
    found = class_baseline_rows(SPLITS["train"], SPLITS["valid"])["class-frequencies"]
    expected = np.log(dummy.predict_proba(np.zeros((4, 1)))[np.arange(4), target])
    assert_allclose(found, expected, rtol=1e-12)
    assert abs(found - np.log(np.bincount(target) / 4)[target]).max() > 0.1


def test_a_class_that_was_never_seen_is_not_impossible():
    """By hand: 1 of 4 + 6; probabilities of all classes sum to 1."""
    held_out = point_splits({"train": points([0]), "valid": points([0, 1, 2, 3])})["valid"]
    found = class_baseline_rows(SPLITS["train"], held_out)["class-frequencies"]
    assert found[3] == pytest.approx(np.log(1 / 10))
    assert np.exp(found).sum() == pytest.approx(1)


def test_the_training_split_is_one_row_the_sum_over_its_points():
    """Identity: the same points, predicted one by one, add up to it."""
    as_one = class_baseline_rows(SPLITS["train"], SPLITS["train"])
    predicted = point_splits({"valid": points([0, 0, 0, 1, 1, 2])})["valid"]
    one_by_one = class_baseline_rows(SPLITS["train"], predicted)
    for name, row in as_one.items():
        assert_allclose(row, [one_by_one[name].sum()], rtol=1e-12)
