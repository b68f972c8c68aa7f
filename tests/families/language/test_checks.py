"""TB114, TB404, TB510 and TB605, and what language models brought to TB213, TB303 and TB601. Oracle: evidence
made by hand, one number of it moved."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tightbound.diagnose.case import Case
from tightbound.diagnose.checks.evaluation import bound_is_possible, evaluator_is_plain
from tightbound.diagnose.checks.optimisation import (
    gradients_are_forgotten,
    updates_do_not_overshoot,
)
from tightbound.diagnose.checks.steps import steps_see_the_one_before
from tightbound.diagnose.checks.weights import draws_differ
from tightbound.diagnose.doctor import judge, judge_weights
from tightbound.diagnose.finding import Verdict
from tightbound.families.language.checks import components_differ, symbols_stand_in_training

FAULT, OK, UNDECIDED, NOT_RUN = Verdict.FAULT, Verdict.OK, Verdict.UNDECIDED, Verdict.NOT_RUN


def first_cause(finding):
    return finding.causes[0].name if finding.causes else None


# --- what a step sees ----------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(newest=st.floats(0, 2e-3), further=st.floats(0, 1.0))
def test_the_newest_step_is_missed_where_one_further_back_is_seen(made, newest, further):
    """A thousandth of what a step further back does; where that does nothing, nothing is missed."""
    assume(abs(newest - 1e-3 * further) > 1e-12)
    assume(abs(further - 1e-4) > 1e-12)
    lags = np.array([newest, 0.0, 0.5 * further, further, 0.0])
    finding = steps_see_the_one_before(replace(made.steps(), lag_change=lags))
    fault = further > 1e-4 and newest <= 1e-3 * further
    assert finding.verdict is (FAULT if fault else OK)
    assert first_cause(finding) == ("newest_step_left_out" if fault else None)
    if fault:
        assert "x_(t-4)" in finding.meaning


def test_a_model_that_reads_nothing_passes_and_is_said_to(made):
    finding = steps_see_the_one_before(replace(made.steps(), lag_change=np.zeros(5)))
    assert finding.verdict is OK
    assert "No earlier step has a say" in finding.meaning
    assert "No earlier step" not in steps_see_the_one_before(made.steps()).meaning
    assert steps_see_the_one_before(None).verdict is NOT_RUN


# --- mixtures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("difference", "motion", "verdict"),
    [
        (0.0, 0.0, FAULT),
        (9e-5, 9e-5, FAULT),
        (0.0, 0.2, OK),  # the gradient parts them
        (2e-4, 0.0, OK),
        (np.nan, 0.0, UNDECIDED),
        (0.0, np.nan, UNDECIDED),
        (1.0, np.nan, OK),
    ],
)
def test_components_are_equal_where_they_are_and_stay_so(made, difference, motion, verdict):
    """The other mixture, whose components differ, changes nothing."""
    right = made.mixtures()
    changed = replace(
        right,
        difference=np.array([difference, 2.0]),
        motion=np.array([motion, 0.0]),
    )
    finding = components_differ(changed)
    assert finding.verdict is verdict
    fault = verdict is FAULT
    assert first_cause(finding) == ("components_equal_by_construction" if fault else None)
    assert finding.where == "the 4 components of decoder.components"


def test_a_single_component_cannot_differ(made):
    """Nor is it the worst of two mixtures."""
    right = made.mixtures()
    alone = replace(right, num_components=np.array([1, 32]), difference=np.array([0.0, 2.0]))
    assert components_differ(alone).where == "the 32 components of emission.components"
    assert components_differ(replace(alone, num_components=np.ones(2, int))).verdict is NOT_RUN
    assert components_differ(None).verdict is NOT_RUN


# --- symbols -------------------------------------------------------------------------------------


def test_one_new_word_in_a_held_out_split_is_a_fault(made):
    right = made.symbols()
    assert symbols_stand_in_training(right).verdict is OK
    wrong = replace(right, num_new=np.array([0, 1, 3]), new_share=np.array([0.0, 1e-4, 3e-4]))
    finding = symbols_stand_in_training(wrong)
    assert (finding.verdict, finding.measured, finding.where) == (FAULT, 3e-4, "the test split")
    assert first_cause(finding) == "vocabulary_made_from_held_out_rows"
    assert "3 symbols" in finding.meaning
    assert symbols_stand_in_training(None).verdict is NOT_RUN


# --- the source ----------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(value=st.floats(-30, -20), error=st.floats(0, 2), source_error=st.floats(0, 2))
def test_no_bound_is_above_the_source_beyond_four_errors_of_both(made, value, error, source_error):
    margin = 4 * np.hypot(error, source_error)
    assume(abs(value + 25 - margin) > 1e-9)
    finding = bound_is_possible(made.estimate(value, error), made.estimate(-25.0, source_error))
    fault = value > -25 + margin
    assert finding.verdict is (FAULT if fault else OK)
    assert first_cause(finding) == ("future_read_by_the_model" if fault else None)


def test_what_is_no_bound_or_has_no_source_is_not_held_against_it(made):
    """One row has no error: a hair's breadth above is no fault."""
    bound = made.estimate(-20.0)
    assert bound_is_possible(bound, None).verdict is NOT_RUN
    assert bound_is_possible(None, made.source).verdict is NOT_RUN
    assert bound_is_possible(replace(bound, bound="none"), made.source).verdict is NOT_RUN
    for bad in (made.estimate(-20.0, None), made.estimate(-20.0, np.nan), made.estimate(np.nan)):
        assert bound_is_possible(bad, made.source).verdict is UNDECIDED


# --- what other checks say of them ---------------------------------------------------------------


def test_a_mean_of_means_is_told_from_other_multiples(made):
    """A row's score over its own number of units; over one number for all it is a multiple."""
    right = made.evidence(0).evaluator
    averaged = replace(right, reported=right.expected / right.expected_units)
    assert first_cause(evaluator_is_plain(averaged)) == "averaged_per_sequence"
    scaled = replace(right, reported=right.expected / 10)
    assert first_cause(evaluator_is_plain(scaled)) == "evaluation_reduced_differently"


def test_units_that_are_miscounted_are_a_fault_of_right_scores(made):
    """One unit of three is missing in the shortest row."""
    right = made.evidence(0).evaluator
    finding = evaluator_is_plain(replace(right, reported_units=right.expected_units - 1))
    assert (finding.verdict, finding.measured) == (FAULT, pytest.approx(1 / 3))
    assert first_cause(finding) == "evaluation_counts_other_units"
    assert "9.5 units per sequence where there are 10.5" in finding.meaning


@settings(max_examples=50, deadline=None)
@given(held=st.floats(0, 2))
def test_a_sum_that_is_cleared_now_and_then_is_held_in_between(made, held):
    """After 60 zero gradients it may be gone."""
    assume(abs(held - 0.3) > 1e-9)
    optimiser = replace(made.evidence(0).optimiser, held_motion=held)
    finding = gradients_are_forgotten(optimiser)
    assert finding.verdict is (FAULT if held > 0.3 else OK)
    assert first_cause(finding) == ("gradient_not_reset" if held > 0.3 else None)
    if held > 0.3:
        assert finding.measured == held


@settings(max_examples=50, deadline=None)
@given(fallen=st.floats(-1, 3))
def test_a_model_that_is_worse_than_untrained_was_trained_too_fast(made, fallen):
    """Every update gains on its own batch, and the bound falls by a share of its size all the same. Where
    there are latents the bound may be annealed, and only single updates count."""
    assume(abs(fallen - 0.5) > 1e-9)
    exact = replace(made.sites(np.random.default_rng(0)), observed=np.ones(2, bool))
    history = made.history(sites=exact)
    first, last = history[0].line, history[-1].line
    shift = first.same[0].mean() * (1 + fallen) - last.same[0].mean()
    history[-1] = replace(history[-1], line=replace(last, same=last.same + shift))
    finding = updates_do_not_overshoot(history)
    assert finding.verdict is (FAULT if fallen > 0.5 else OK)
    assert first_cause(finding) == ("learning_rate_too_high" if fallen > 0.5 else None)
    if fallen > 0.5:
        assert finding.measured == pytest.approx(fallen)
    annealed = [replace(evidence, sites=made.evidence(0).sites) for evidence in history]
    assert updates_do_not_overshoot(annealed).verdict is OK


def test_exact_scores_are_no_draws(made):
    """All sites observed: equal weights are then no sign of anything."""
    same = np.full((4, 3), -7.0)
    assert draws_differ(same).verdict is UNDECIDED
    assert draws_differ(same, has_latents=False).verdict is NOT_RUN
    codes = {finding.code: finding for finding in judge_weights(same, has_latents=False)}
    assert "no latents" in codes["TB303"].meaning
    sites = made.sites(np.random.default_rng(0))
    exact = made.history(sites=replace(sites, observed=np.ones(2, bool)))
    said = {finding.code: finding.verdict for finding in judge(Case(exact))}
    assert said["TB303"] is NOT_RUN
