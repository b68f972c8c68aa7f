"""TB210 to TB217. Oracle: lines, answers and scores made by hand, whose gains are known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tightbound.diagnose.checks.optimisation import (
    clipping_leaves_sizes,
    every_gradient_counts,
    every_module_moves,
    gradients_are_forgotten,
    output_starts_near_the_data,
    updates_are_large_enough,
    updates_do_not_overshoot,
    values_are_finite,
)
from tightbound.diagnose.evidence import Evidence, Line, Optimiser
from tightbound.diagnose.finding import Verdict

FAULT, OK, UNDECIDED, NOT_RUN = Verdict.FAULT, Verdict.OK, Verdict.UNDECIDED, Verdict.NOT_RUN
RIGHT = Optimiser(0.0, 1e-3, 0.0, np.ones(2, bool), np.array(["decoder", "q.encoder"]))


def line(made, gain, *, base=-50.0, spread=0.0, others=None):
    """The bound along an update: `gain(m)` nats at m times it, +-`spread` over the 16 rows."""
    signs = np.tile([-1.0, 1.0], 8)

    def bound(gain):
        gains = np.array([gain(m) for m in made.multiples], float)
        return base + gains[:, None] * (1 + spread * signs)

    return Line(made.multiples, bound(gain), bound(others or gain))


def overshooting(loss, small=0.5):
    """Gains `small` at a fifth of the update or less, loses `loss` at the whole."""
    return lambda m: 0.0 if m == 0 else small if m < 0.2 else -loss * m


@settings(max_examples=60, deadline=None)
@given(loss=st.floats(0, 20))
def test_an_update_may_lose_a_tenth_of_the_bound(made, loss):
    """The bound is -50 nats, so the threshold is at 5; every row loses as much."""
    assume(abs(loss - 5) > 1e-6)
    history = [Evidence(step=7, line=line(made, overshooting(loss)))]
    finding = updates_do_not_overshoot(history)
    assert finding.verdict is (FAULT if loss > 5 else OK)
    assert finding.measured == pytest.approx(loss / 50)
    if loss > 5:
        assert finding.where == "step 7"
        assert finding.causes[0].name == "learning_rate_too_high"


def test_the_worst_of_many_updates_is_judged(made):
    history = [
        Evidence(step=step, line=line(made, overshooting(loss)))
        for step, loss in ((1, 1.0), (2, 30.0), (4, 8.0))
    ]
    finding = updates_do_not_overshoot(history)
    assert (finding.where, finding.measured) == ("step 2", pytest.approx(0.6))


@pytest.mark.parametrize(
    ("gain", "spread", "verdict"),
    [
        (overshooting(20.0), 0.0, FAULT),
        (overshooting(20.0, small=-0.5), 0.0, OK),  # nothing gains: not the rate, but the direction
        (overshooting(20.0), 3.0, OK),  # fewer than five standard errors over rows
        (lambda m: np.nan if m >= 1 else m, 0.0, FAULT),  # ends where nothing is finite
        (lambda m: -np.inf if m >= 1 else m, 0.0, FAULT),
        (lambda m: np.nan if m > 0 else 0.0, 0.0, UNDECIDED),  # the update itself is NaN
        (lambda m: np.nan, 0.0, UNDECIDED),
    ],
)
def test_only_a_step_too_far_in_a_good_direction_is_an_overshoot(made, gain, spread, verdict):
    finding = updates_do_not_overshoot([Evidence(step=1, line=line(made, gain, spread=spread))])
    assert finding.verdict is verdict


def test_a_bound_near_zero_has_the_size_of_a_nat(made):
    """A density's bound passes through 0 on its way up; a loss of 0.09 nats there is none."""
    near_zero = line(made, overshooting(0.09), base=0.0)
    assert updates_do_not_overshoot([Evidence(step=1, line=near_zero)]).verdict is OK


def slow(made, ratio, steps, *, others=None):
    """A history whose probes gain 1 nat at the whole update and `ratio` at thirty times it."""
    gain = lambda m: ratio if m == 30 else m  # noqa: E731
    return [Evidence(step=step, line=line(made, gain, others=others)) for step in steps]


STEPS = (0, 1, 2, 4, 8, 16, 32, 64, 100, 200, 300)


@settings(max_examples=50, deadline=None)
@given(ratio=st.floats(-10, 30))
def test_thirty_updates_may_gain_eight_times_what_one_does(made, ratio):
    assume(abs(ratio - 8) > 1e-6)
    finding = updates_are_large_enough(slow(made, ratio, STEPS))
    assert finding.verdict is (FAULT if ratio > 8 else OK)
    assert finding.measured == (1.0 if ratio > 8 else 0.0)


def test_a_rate_is_too_low_only_if_it_is_so_to_the_end_and_for_other_rows(made):
    """A warm-up is slow at first; a step that other rows lose by is not too small; 99 steps are too
    few to say; before step 4 nothing counts."""
    low = slow(made, 20.0, STEPS)
    assert updates_are_large_enough(low).verdict is FAULT
    warmed_up = low[:-1] + slow(made, 5.0, STEPS[-1:])
    assert updates_are_large_enough(warmed_up).verdict is OK
    loses_elsewhere = slow(made, 20.0, STEPS, others=lambda m: -m)
    assert updates_are_large_enough(loses_elsewhere).verdict is OK
    assert updates_are_large_enough(slow(made, 20.0, (4, 8, 99))).verdict is NOT_RUN
    assert updates_are_large_enough(slow(made, 20.0, (0, 1, 2))).verdict is NOT_RUN


def test_thirty_updates_that_end_nowhere_gain_nothing(made):
    """NaN at thirty times a step is no sign that the step is small; NaN at the step itself is no
    sign at all."""
    beyond = slow(made, np.nan, STEPS)
    assert updates_are_large_enough(beyond).verdict is OK
    itself = [Evidence(step=s, line=line(made, lambda m: np.nan if m else 0.0)) for s in STEPS]
    assert updates_are_large_enough(itself).verdict is UNDECIDED


def test_modules_that_no_gradient_moves_are_named():
    finding = every_module_moves(replace(RIGHT, moved=np.array([True, False])))
    assert (finding.verdict, finding.measured, finding.where) == (FAULT, 1.0, "q.encoder")
    assert every_module_moves(RIGHT).verdict is OK


@pytest.mark.parametrize(
    ("check", "field", "threshold", "cause"),
    [
        (gradients_are_forgotten, "late_motion", 0.1, "gradient_not_reset"),
        (clipping_leaves_sizes, "unanswered_share", 0.9, "everything_clipped"),
    ],
)
@settings(max_examples=50, deadline=None)
@given(measured=st.floats(0, 1))
def test_an_optimisers_answer_is_a_fault_above_its_threshold(
    check, field, threshold, cause, measured
):
    finding = check(replace(RIGHT, **{field: measured}))
    assert finding.verdict is (FAULT if measured > threshold else OK)
    assert [c.name for c in finding.causes] == ([cause] if measured > threshold else [])


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.0, OK), (0.25, FAULT), (0.75, FAULT), (1.0, UNDECIDED)]
)
def test_some_gradients_that_never_count_are_a_fault(share, verdict):
    """If none ever does, the modules do not move: TB212 says so."""
    finding = every_gradient_counts(replace(RIGHT, ignored_share=share))
    assert finding.verdict is verdict
    causes = ["batches_dropped"] if verdict is FAULT else []
    assert [cause.name for cause in finding.causes] == causes


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_counted_where_they_first_stand(made, bad):
    """Site, rows and step of the first of two probes that have any."""
    sites = made.sites(np.random.default_rng(0))
    log_p = sites.log_p.copy()
    log_p[1, 7, 3] = log_p[1, 8, 3] = log_p[1, 9, 5] = bad
    wrong = replace(sites, log_p=log_p)
    history = [Evidence(step=s, sites=w) for s, w in ((0, sites), (4, wrong), (8, wrong))]
    finding = values_are_finite(history)
    assert (finding.verdict, finding.measured) == (FAULT, 3.0)
    assert finding.where == "step 4, site x, held-out rows 3, 5"
    assert values_are_finite(history[:1]).verdict is OK
    assert values_are_finite([Evidence(step=0)]).verdict is NOT_RUN


@settings(max_examples=50, deadline=None)
@given(times=st.floats(0.1, 10))
def test_an_untrained_model_may_be_three_times_worse_than_ignorance(made, times):
    """log p(x | z) of `times` the uniform baseline, in every row."""
    assume(abs(times - 3) > 1e-6)
    sites = made.sites(np.random.default_rng(0))
    log_p = np.stack([sites.log_p[0], np.full_like(sites.log_p[1], -44.4 * times)])
    first = Evidence(step=0, sites=replace(sites, log_p=log_p))
    finding = output_starts_near_the_data(first, -44.4)
    assert finding.measured == pytest.approx(times)
    assert finding.verdict is (FAULT if times > 3 else OK)


def test_the_first_scale_is_judged_at_the_first_step_of_bits_only(made):
    """A density has no uniform baseline; a trained model is not judged by where it began."""
    sites = made.sites(np.random.default_rng(0))
    first = Evidence(step=0, sites=sites)
    assert output_starts_near_the_data(first, None).verdict is NOT_RUN
    assert output_starts_near_the_data(first, 0.0).verdict is NOT_RUN
    assert output_starts_near_the_data(replace(first, step=1), -44.4).verdict is NOT_RUN
    assert output_starts_near_the_data(Evidence(step=0), -44.4).verdict is NOT_RUN
