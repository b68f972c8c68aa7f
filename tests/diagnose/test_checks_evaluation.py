"""TB601 to TB603. Oracle: the wrong evaluation is made from the right scores by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tightbound.diagnose.checks.evaluation import (
    bound_beats_the_baselines,
    evaluation_leaves_parameters,
    evaluator_is_plain,
)
from tightbound.diagnose.finding import Verdict

FAULT, OK, UNDECIDED, NOT_RUN = Verdict.FAULT, Verdict.OK, Verdict.UNDECIDED, Verdict.NOT_RUN
KL, X = 0, 1  # the sites "z" and "x"


def changed(made, site, change, *, saturated_too=True):
    """Evidence of an evaluator that changes one site, on black-and-white images too or not."""
    right = made.evidence(0).evaluator

    def wrong(scores):
        return np.stack([change(s) if index == site else s for index, s in enumerate(scores)])

    reported_saturated = wrong(right.expected_saturated)
    return replace(
        right,
        reported=wrong(right.expected),
        reported_saturated=reported_saturated if saturated_too else right.expected_saturated,
    )


def jitter(scores):
    return scores + np.random.default_rng(5).normal(size=scores.shape)


@pytest.mark.parametrize(
    ("site", "change", "saturated_too", "cause"),
    [
        (KL, lambda s: 0 * s, True, "evaluation_drops_a_site"),
        (X, lambda s: s / 64, True, "evaluation_reduced_differently"),
        (X, lambda s: s + 57.0, True, "evaluation_constant"),
        (X, jitter, False, "evaluation_law_differs"),
        (X, jitter, True, "evaluation_network_differs"),
        (X, lambda s: np.where(np.arange(16) == 2, np.nan, s), True, "evaluation_network_differs"),
        (X, lambda s: np.where(np.arange(16) == 2, np.inf, s), True, "evaluation_network_differs"),
    ],
)
def test_the_way_in_which_an_evaluation_is_wrong_is_named(made, site, change, saturated_too, cause):
    finding = evaluator_is_plain(changed(made, site, change, saturated_too=saturated_too))
    assert finding.verdict is FAULT
    assert finding.causes[0].name == cause
    assert finding.where == f"site {'zx'[site]}"


@settings(max_examples=60, deadline=None)
@given(off=st.floats(0, 1e-2))
def test_an_evaluator_may_differ_by_a_thousandth_of_the_scores(made, off):
    assume(abs(off - 1e-3) > 1e-9)
    right = made.evidence(0).evaluator
    size = np.abs(right.expected).max()
    finding = evaluator_is_plain(changed(made, X, lambda s: s + off * size))
    assert finding.verdict is (FAULT if off > 1e-3 else OK)
    assert finding.measured == pytest.approx(off, abs=1e-12)


def test_plain_scores_that_are_not_finite_decide_nothing(made):
    """There is nothing to hold the evaluator against: TB216 says which score it is."""
    right = made.evidence(0).evaluator
    nan = np.where(np.arange(16) == 2, np.nan, right.expected)
    assert evaluator_is_plain(replace(right, reported=nan, expected=nan)).verdict is UNDECIDED


def test_parameters_that_changed_are_a_fault(made):
    right = made.evidence(0).evaluator
    assert evaluation_leaves_parameters(right).verdict is OK
    finding = evaluation_leaves_parameters(replace(right, parameters_changed=True))
    assert finding.verdict is FAULT
    assert finding.causes[0].name == "evaluation_changes_parameters"


@settings(max_examples=100, deadline=None)
@given(value=st.floats(-60, -20), error=st.floats(0.01, 2.0), finished=st.booleans())
def test_a_bound_is_held_against_the_best_baseline_beyond_three_errors(
    made, value, error, finished
):
    """The best of two is at -36; a run that goes on may still pass it."""
    assume(abs(abs(value + 36) - 3 * error) > 1e-9)
    finding = bound_beats_the_baselines(
        made.estimate(value, error), made.baselines, finished=finished
    )
    if value > -36 + 3 * error:
        assert finding.verdict is OK
    elif value < -36 - 3 * error and finished:
        assert finding.verdict is FAULT
        assert finding.causes[0].name == "under_the_baseline"
    else:
        assert finding.verdict is UNDECIDED
    assert "independent-pixel" in finding.where


def test_a_density_above_zero_is_no_baseline(made):
    """Grey levels that never change have a density without limit; no model of fixed noise has."""
    only_density = {"independent-gaussian": made.estimate(150.0)}
    bound = made.estimate(-60.0)
    assert bound_beats_the_baselines(bound, only_density, finished=True).verdict is NOT_RUN
    assert bound_beats_the_baselines(bound, {}, finished=True).verdict is NOT_RUN
    assert bound_beats_the_baselines(None, made.baselines, finished=True).verdict is NOT_RUN


@pytest.mark.parametrize("error", [None, 0.0, np.nan])
def test_a_bound_without_an_error_is_held_against_it_all_the_same(made, error):
    finding = bound_beats_the_baselines(made.estimate(-50.0, error), made.baselines, finished=True)
    assert finding.verdict is (UNDECIDED if error is np.nan else FAULT)
