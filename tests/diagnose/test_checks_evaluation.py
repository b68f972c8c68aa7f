"""TB601 to TB604. Oracle: the wrong evaluation is made from the right scores by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tightbound.diagnose.checks.evaluation import (
    bound_beats_the_baselines,
    evaluated_under_the_trained_law,
    evaluation_leaves_parameters,
    evaluator_is_plain,
    report_is_the_bound,
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


def filtered(made, reported, expected, num_particles):
    """Evidence of a filter's evaluator: one site off, the other 0 and right. Sentences are the same
    with and without noise."""
    reported, expected = (np.stack([0 * row, row]) for row in (reported, expected))
    return replace(
        made.evidence(0).evaluator,
        reported=reported,
        expected=expected,
        reported_saturated=reported,
        expected_saturated=expected,
        num_particles=num_particles,
    )


@settings(max_examples=60, deadline=None)
@given(num_particles=st.sampled_from([1, 2, 8, 64]), above=st.floats(-3, 3))
def test_a_score_of_minus_log_n_in_every_row_is_a_normalised_weight(made, num_particles, above):
    """Within 1.5 nats of it, whatever the bound of -30 nats or so; with one particle it is 0, which
    says nothing."""
    assume(abs(abs(above) - 1.5) > 1e-6)
    expected = made.evidence(0).evaluator.expected[0]
    reported = np.full_like(expected, above - np.log(num_particles))
    finding = evaluator_is_plain(filtered(made, reported, expected, num_particles))
    assert finding.verdict is FAULT
    is_weight = num_particles > 1 and abs(above) < 1.5
    first = finding.causes[0].name
    assert (first == "normaliser_discarded") == is_weight


def test_what_is_minus_log_n_by_chance_is_no_normalised_weight(made):
    """A site that is missing counts 0, which is near -log 2; a bound of -log 8 is there by right; one
    row of sixteen that is not near it decides."""
    expected = made.evidence(0).evaluator.expected[0]
    missing = evaluator_is_plain(filtered(made, 0 * expected, expected, 2))
    assert missing.causes[0].name == "evaluation_drops_a_site"
    bound = -np.log(8.0) + 0.2 * np.cos(np.arange(16))
    shifted = evaluator_is_plain(filtered(made, bound + 0.5, bound, 8))
    assert shifted.causes[0].name == "evaluation_constant"
    one_far = np.where(np.arange(16) == 3, -20.0, -np.log(8.0))
    other = evaluator_is_plain(filtered(made, one_far, expected, 8))
    assert other.causes[0].name == "evaluation_network_differs"


@settings(max_examples=60, deadline=None)
@given(cost=st.floats(-5, 20))
def test_another_law_at_evaluation_is_a_fault_whatever_it_costs_so_far(made, cost):
    """The cost grows as training goes on, so its sign at step 0 says nothing."""
    right = made.evidence(0).evaluator
    other = replace(
        right,
        trained_law="halving",
        evaluated_law="token drop 0.5",
        under_trained_law=right.expected.sum(0) + cost,
    )
    finding = evaluated_under_the_trained_law(other)
    assert finding.verdict is FAULT
    assert finding.measured == pytest.approx(cost, abs=1e-9)
    assert [cause.name for cause in finding.causes] == ["evaluated_under_another_law"]
    assert "'halving'" in finding.meaning
    assert "'token drop 0.5'" in finding.meaning


def test_the_law_that_is_trained_costs_nothing(made):
    """The same name passes; nothing was evaluated, nothing is judged."""
    finding = evaluated_under_the_trained_law(made.evidence(0).evaluator)
    assert (finding.verdict, finding.measured) == (OK, 0.0)
    assert evaluated_under_the_trained_law(None).verdict is NOT_RUN


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_cost_that_is_not_finite_is_a_fault_of_the_law_still(made, bad):
    """Under either law, or under both: infinity less infinity is no number, and warns of nothing."""
    right = replace(made.evidence(0).evaluator, evaluated_law="token drop 0.5")
    for expected in (right.expected, np.full_like(right.expected, bad)):
        both = replace(right, expected=expected, under_trained_law=np.full(16, bad))
        finding = evaluated_under_the_trained_law(both)
        assert finding.verdict is FAULT
        assert not np.isfinite(finding.measured)


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


@pytest.mark.parametrize(
    ("error", "verdict"), [(None, UNDECIDED), (np.nan, UNDECIDED), (0.0, FAULT)]
)
def test_without_an_error_over_rows_it_is_not_known_whether_a_baseline_is_better(
    made, error, verdict
):
    """A series that is one row has none: a hair's breadth below is no fault."""
    finding = bound_beats_the_baselines(made.estimate(-50.0, error), made.baselines, finished=True)
    assert finding.verdict is verdict


# --- TB610 ---------------------------------------------------------------------------------------


def test_a_reported_number_is_held_against_its_rows(made):
    """Oracle: 40 rows and their mean, by hand. A number of older parameters, of the first batch alone, of
    rows that are 1 nat too high; an evaluator that leaves out the last rows; noise of its own is allowed."""
    right = made.evidence(0).reported
    rows = right.by_evaluator
    noise = np.random.default_rng(6).normal(0.0, 0.5, 40)

    def verdict(**changes):
        return report_is_the_bound(replace(right, **changes)).verdict

    assert verdict() is Verdict.OK
    assert verdict(stated=right.stated + 0.1) is Verdict.FAULT
    assert verdict(stated=float(rows[:8].mean())) is Verdict.FAULT
    assert verdict(stated=right.stated + 1, by_evaluator=rows + 1) is Verdict.FAULT
    assert verdict(stated=float(rows[:32].mean()), by_evaluator=rows[:32]) is Verdict.FAULT
    other_draws = rows + noise
    assert verdict(stated=float(other_draws.mean()), by_evaluator=other_draws) is Verdict.OK
    assert verdict(stated=float("nan")) is Verdict.FAULT
    assert verdict(by_plain=right.by_plain * np.nan) is Verdict.UNDECIDED
    assert report_is_the_bound(None).verdict is Verdict.NOT_RUN
