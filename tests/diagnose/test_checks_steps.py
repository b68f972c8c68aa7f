"""TB111 to TB113 and TB507 to TB509, and the causes of TB201 and TB217 that sequences brought. Oracle:
evidence made by hand, one number of it moved."""

from dataclasses import replace

import numpy as np
import pytest

from tightbound.diagnose.checks.data import rows_have_steps
from tightbound.diagnose.checks.objective import objective_is_its_claim
from tightbound.diagnose.checks.optimisation import output_starts_near_the_data
from tightbound.diagnose.checks.steps import (
    padding_counts_for_nothing,
    past_ignores_the_future,
    steps_score_as_the_whole_does,
)
from tightbound.diagnose.evidence import Outputs
from tightbound.diagnose.finding import Verdict
from tightbound.families.sequences.checks import (
    drawing_undoes_the_transform,
    offsets_are_normalised,
)

FAULT, OK, UNDECIDED, NOT_RUN = Verdict.FAULT, Verdict.OK, Verdict.UNDECIDED, Verdict.NOT_RUN


def first_cause(finding):
    return finding.causes[0].name if finding.causes else None


@pytest.mark.parametrize(
    ("check", "field", "threshold", "cause"),
    [
        (padding_counts_for_nothing, "padding_change", 1e-4, "padding_drives_the_state"),
        (steps_score_as_the_whole_does, "descent_change", 1e-4, "steps_and_sequence_scored_apart"),
        (past_ignores_the_future, "future_change", 1e-4, "future_read_by_the_model"),
    ],
)
def test_one_row_beyond_the_threshold_is_a_fault(made, check, field, threshold, cause):
    def judge(value):
        changed = np.zeros(8)
        changed[3] = value
        return check(replace(made.steps(), **{field: changed}))

    assert judge(0.5 * threshold).verdict is OK
    found = judge(2 * threshold)
    assert (found.verdict, found.measured, first_cause(found)) == (FAULT, 2 * threshold, cause)
    assert judge(np.nan).verdict is FAULT
    assert check(None).verdict is NOT_RUN


def test_padding_that_is_counted_is_told_from_padding_that_is_read(made):
    """A counted position is a fault even where its score is 0."""
    counted = padding_counts_for_nothing(replace(made.steps(), padding_counted=24))
    assert (counted.verdict, first_cause(counted)) == (FAULT, "padding_counted")


def test_raw_offsets_are_told_from_other_statistics(made):
    """Raw ones have the very mean and scale that are stated."""
    right = made.transform()
    assert offsets_are_normalised(right).verdict is OK
    mean, scale = right.mean.copy(), right.scale.copy()
    mean[0], scale[0] = right.stated_mean, right.stated_scale
    raw = offsets_are_normalised(replace(right, mean=mean, scale=scale))
    assert (raw.verdict, first_cause(raw)) == (FAULT, "transform_does_nothing")
    scale[0] = [1.0, 1.03]
    other = offsets_are_normalised(replace(right, scale=scale))
    assert (other.verdict, first_cause(other)) == (FAULT, "statistics_over_the_wrong_axis")
    assert other.measured == pytest.approx(0.03)
    assert offsets_are_normalised(None).verdict is NOT_RUN


def test_a_held_out_split_that_is_too_exact_was_normalised_by_itself(made):
    """All four numbers within a twentieth of their errors; three of four are chance enough."""
    right = made.transform()
    mean, scale = right.mean.copy(), right.scale.copy()
    mean[2], scale[2] = [1e-9, 0.0], [1.0, 1.03]
    assert offsets_are_normalised(replace(right, mean=mean, scale=scale)).verdict is OK
    scale[2] = 1.0
    found = offsets_are_normalised(replace(right, mean=mean, scale=scale))
    assert (found.verdict, first_cause(found)) == (FAULT, "held_out_statistics_used")
    assert found.where == "the test split"


def test_the_inverse_and_empty_rows(made):
    wrong = drawing_undoes_the_transform(replace(made.transform(), round_trip=7.1))
    assert (wrong.verdict, first_cause(wrong)) == (FAULT, "transform_inverted_wrongly")
    seen = made.evidence(0).data
    empty = rows_have_steps(replace(seen, empty_rows=np.array([-1, 0, 511])))
    assert (empty.verdict, empty.measured) == (FAULT, 2.0)
    assert empty.where == "row 0 of valid, row 511 of test"
    assert rows_have_steps(seen).verdict is OK


def test_a_filter_that_forgets_its_weights_and_a_nan_have_causes_of_their_own(made):
    right = made.evidence(0).objective
    dropped = right.claimed + np.linspace(-2.0, 3.0, len(right.claimed))
    wrong = replace(
        right, surrogate=dropped, weights_dropped=dropped, batch_surrogate=float(dropped.mean())
    )
    assert first_cause(objective_is_its_claim(wrong)) == "earlier_weights_dropped"
    assert first_cause(objective_is_its_claim(replace(wrong, weights_dropped=right.claimed))) != (
        "earlier_weights_dropped"
    )
    nan = replace(right, surrogate=np.full_like(right.surrogate, np.nan))
    assert first_cause(objective_is_its_claim(nan)) == "objective_not_finite"


def test_without_a_uniform_baseline_the_outputs_means_are_held_against_the_data(made):
    """Oracle: residuals spread evenly over [-w, w] have a middle two thirds of half width 2 w / 3."""
    first = made.evidence(0)
    scale = float(first.data.scale[0])
    for width, verdict in ((1.0, OK), (4.0, OK), (5.0, FAULT), (np.nan, FAULT)):
        residuals = Outputs(np.linspace(-1.0, 1.0, 33) * width * scale)
        found = output_starts_near_the_data(replace(first, outputs=residuals), None)
        assert found.verdict is verdict
        assert found.measured == pytest.approx(2 * width / 3, nan_ok=True)
    assert output_starts_near_the_data(replace(first, outputs=None), None).verdict is NOT_RUN
    assert output_starts_near_the_data(first, -44.4).unit == "times the uniform baseline"
