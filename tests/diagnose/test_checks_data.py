"""TB501 to TB506. Oracle: shares, means and scales set by hand."""

from dataclasses import fields as dataclass_fields
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tightbound.diagnose.checks.data import (
    data_are_finite,
    data_can_be_drawn,
    labels_inform,
    rows_are_different,
    splits_are_alike,
    splits_are_disjoint,
)
from tightbound.diagnose.finding import Verdict

FAULT, OK, UNDECIDED, NOT_RUN = Verdict.FAULT, Verdict.OK, Verdict.UNDECIDED, Verdict.NOT_RUN


@pytest.fixture
def seen(made):
    return made.evidence(0).data


def test_the_first_bad_row_of_each_split_is_named(seen):
    finding = data_are_finite(replace(seen, bad_rows=np.array([17, -1, 0])))
    assert (finding.verdict, finding.measured) == (FAULT, 2.0)
    assert finding.where == "row 17 of train, row 0 of test"
    assert data_are_finite(seen).verdict is OK


@pytest.mark.parametrize(
    ("check", "field", "threshold", "cause"),
    [
        (data_can_be_drawn, "off_support_share", 0.01, "data_off_support"),
        (rows_are_different, "duplicate_share", 0.5, "rows_duplicated"),
        (splits_are_disjoint, "overlap_share", 0.1, "held_out_rows_in_training"),
    ],
)
@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1))
def test_a_share_is_a_fault_above_its_threshold(made, check, field, threshold, cause, share):
    """The share of the training split, or the largest one, according to the check."""
    seen = made.evidence(0).data
    value = share if field == "off_support_share" else np.full(3, share)
    finding = check(replace(seen, **{field: value}))
    assert finding.measured == share
    assert finding.threshold == threshold
    assert finding.verdict is (FAULT if share > threshold else OK)
    assert [c.name for c in finding.causes] == ([cause] if share > threshold else [])


def test_duplicates_matter_in_training_and_overlap_in_any_other_split(seen):
    """A test split of copies is not this check's business; one of three splits in training is."""
    assert (
        rows_are_different(replace(seen, duplicate_share=np.array([0.0, 0.9, 0.9]))).verdict is OK
    )
    finding = splits_are_disjoint(replace(seen, overlap_share=np.array([0.0, 0.0, 0.5])))
    assert (finding.verdict, finding.where) == (FAULT, "the test split")


@settings(max_examples=100, deadline=None)
@given(shift=st.floats(-1.0, 1.0), ratio=st.floats(0.4, 2.5))
def test_splits_are_alike_in_mean_and_scale(made, shift, ratio):
    """The second split is shifted by `shift` training scales, and `ratio` times as wide."""
    assume(min(abs(abs(shift) - 0.25), abs(ratio - 1.5), abs(1 / ratio - 1.5)) > 1e-9)
    splits = replace(
        made.evidence(0).splits,
        centre=np.array([0.3, 0.3 + 0.4 * shift, 0.3]),
        width=np.array([0.4, 0.4 * ratio, 0.4]),
        centre_error=np.full(3, 1e-3),
    )
    finding = splits_are_alike(splits)
    shifted, rescaled = abs(shift) > 0.25, max(ratio, 1 / ratio) > 1.5
    assert finding.verdict is (FAULT if shifted or rescaled else OK)
    assert (finding.measured > finding.threshold) == (shifted or rescaled)
    if shifted or rescaled:
        assert finding.where == "the valid split"


@pytest.mark.parametrize(
    ("field", "values", "error"),
    [
        ("centre", [0.3, 0.45, 0.3], "centre_error"),  # a third of a scale
        ("width", [0.4, 0.4, 1.0], "width_error"),  # its logarithm by 0.9
    ],
)
def test_a_difference_within_its_error_is_chance(made, field, values, error):
    """Fewer than eight standard errors of small splits."""
    far = replace(made.evidence(0).splits, **{field: np.array(values)})
    assert splits_are_alike(far).verdict is FAULT
    assert splits_are_alike(replace(far, **{error: np.full(3, 0.1)})).verdict is OK


def test_bad_data_leave_the_comparison_of_splits_open(made):
    """TB501 names the row; a fault here as well would be another alarm for one mistake."""
    nowhere = np.array([np.nan, 0.3, 0.3])
    bad = replace(made.evidence(0).splits, centre=nowhere, width=nowhere)
    assert splits_are_alike(bad).verdict is UNDECIDED


def test_one_split_cannot_be_compared(made, seen):
    fields = ("split_names", "scale", "smallest", "largest", "bad_rows")
    fields += ("empty_rows", "duplicate_share", "overlap_share")
    one = replace(seen, **{name: getattr(seen, name)[:1] for name in fields})
    splits = made.evidence(0).splits
    alone = {field.name: getattr(splits, field.name)[:1] for field in dataclass_fields(splits)}
    assert splits_are_alike(replace(splits, **alone)).verdict is NOT_RUN
    assert splits_are_alike(None).verdict is NOT_RUN
    assert splits_are_disjoint(one).verdict is NOT_RUN
    assert rows_are_different(one).verdict is OK


@settings(max_examples=100, deadline=None)
@given(accuracy=st.floats(0, 1), chance=st.floats(0.05, 0.95))
def test_labels_must_be_a_tenth_of_the_way_from_chance_to_certainty(made, accuracy, chance):
    """Right labels reach 1 however few classes there are: with two of them, twice chance is the most
    there is, and a ratio to chance would condemn them."""
    measured = (accuracy - chance) / (1 - chance)
    assume(abs(measured - 0.1) > 1e-9)
    seen = made.evidence(0).data
    finding = labels_inform(replace(seen, label_accuracy=accuracy, label_chance=chance))
    assert finding.measured == pytest.approx(measured)
    assert finding.verdict is (FAULT if measured < 0.1 else OK)
    assert labels_inform(replace(seen, label_accuracy=0.97, label_chance=0.5)).verdict is OK


def test_labels_that_do_not_exist_are_not_judged(seen):
    assert labels_inform(replace(seen, label_accuracy=np.nan)).verdict is NOT_RUN
    assert labels_inform(replace(seen, label_accuracy=1.0, label_chance=1.0)).verdict is NOT_RUN
    assert labels_inform(replace(seen, label_chance=np.nan)).verdict is FAULT


def test_rows_that_repeat_in_training_stand_in_other_splits_by_chance(made):
    """A fifth of held-out rows in training: a fault, but not where an eighth of training rows repeat."""
    data = replace(made.evidence(0).data, overlap_share=np.array([0.0, 0.2, 0.2]))
    assert splits_are_disjoint(data).verdict is Verdict.FAULT
    repeated = replace(data, duplicate_share=np.full(3, 0.13))
    assert splits_are_disjoint(repeated).verdict is Verdict.OK
    overlap = replace(repeated, overlap_share=np.array([0.0, 1.0, 0.0]))
    assert splits_are_disjoint(overlap).verdict is Verdict.FAULT
