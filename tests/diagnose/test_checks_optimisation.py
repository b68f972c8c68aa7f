"""TB210 to TB217 and TB219. Oracle: lines, answers and scores made by hand, whose gains are known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tightbound.diagnose.checks.optimisation import (
    clipping_leaves_sizes,
    every_gradient_counts,
    every_module_moves,
    gradients_are_forgotten,
    output_starts_near_the_data,
    updates_are_large_enough,
    updates_do_not_overshoot,
    updates_have_not_stopped,
    updates_help_other_rows,
    values_are_finite,
)
from tightbound.diagnose.evidence import Evidence, Line, Optimiser, Schedule
from tightbound.diagnose.finding import Verdict

FAULT, OK, UNDECIDED, NOT_RUN = Verdict.FAULT, Verdict.OK, Verdict.UNDECIDED, Verdict.NOT_RUN
RIGHT = Optimiser(0.0, 1e-3, 0.02, 0.0, np.ones(2, bool), np.array(["decoder", "q.encoder"]))


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


def with_rows(made, changes):
    """A fifth of the update gains half a nat; the whole one changes each of 16 rows by so much."""
    found = line(made, overshooting(0.0))
    same = np.where((found.multiples == 1.0)[:, None], -50.0 + changes, found.same)
    return updates_do_not_overshoot([Evidence(step=1, line=replace(found, same=same))])


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        (-np.logspace(2, 17, 16), FAULT),  # every row loses all it had, one of them far more
        (np.where(np.arange(16) == 3, -1e17, 0.5), OK),  # one row does, the others gain
        (np.where(np.arange(16) < 8, -1e9, 1e6), OK),  # half of the rows: no five standard errors
        (np.where(np.arange(16) == 3, np.nan, 0.5), FAULT),
    ],
)
def test_rows_that_lose_unequally_still_lose(made, changes, verdict):
    """The first update at a hundred times the rate of `vae/digits` takes 2e17 nats +- 2e17. Oracle: with
    each row's change capped at 50 nats, the mean loss is -50, 0.1, 0 nats."""
    finding = with_rows(made, changes)
    assert finding.verdict is verdict
    if verdict is FAULT:
        assert finding.causes[0].name == "learning_rate_too_high"


def test_the_capped_loss_has_the_threshold_of_the_mean(made):
    """Fifteen rows lose a share of 50 nats and one gains a million: only the capped mean is negative."""
    below, above = (
        with_rows(made, np.where(np.arange(16) == 0, 1e6, -50.0 * share)) for share in (0.15, 0.9)
    )
    assert (below.verdict, above.verdict) == (OK, FAULT)
    assert above.measured == pytest.approx((15 * 0.9 - 1) / 16)


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


SPACED = (0, 1, 2, 4, 8, 16, 32, 64, 100, 200, 300, 400)


def moving(made, rates, *, gradient=3.0, parameters=None):
    """Probes at `SPACED` steps of a run whose update is a thousandth of the parameters at a rate of 1,
    and whose parameters grow by what was moved since the probe before."""
    usual = made.evidence(0).gradients
    steps = np.array(SPACED[: len(rates)])
    lengths = parameters
    if lengths is None:
        passed = np.diff(steps, prepend=0) * np.concatenate([[0.0], rates[:-1]])
        lengths = 10.0 + 1e-3 * np.cumsum(passed)
    gradients = np.broadcast_to(gradient, len(rates))
    return [
        Evidence(
            step=int(step),
            gradients=replace(
                usual,
                norm=np.array([g, 0.0]),
                update_norm=np.array([1e-3 * rate * length, 0.0]),
                parameter_norm=np.array([length, 0.0]),
            ),
        )
        for step, rate, length, g in zip(steps, rates, lengths, gradients, strict=True)
    ]


def test_a_rate_that_has_gone_to_zero_is_found(made):
    """From step 64 on: 336 of 400 steps. Two probes of it are not enough to say, one is nothing."""
    ended = updates_have_not_stopped(moving(made, np.array([1.0] * 7 + [0.0] * 5)))
    assert ended.verdict is FAULT
    assert ended.measured == pytest.approx(336 / 400)
    assert [cause.name for cause in ended.causes] == ["updates_stopped"]
    assert updates_have_not_stopped(moving(made, np.zeros(12))).verdict is FAULT  # never moved
    assert (
        updates_have_not_stopped(moving(made, np.array([1.0] * 10 + [0.0] * 2))).verdict
        is UNDECIDED
    )
    assert updates_have_not_stopped(moving(made, np.array([1.0] * 11 + [0.0]))).verdict is OK


def test_rates_that_are_zero_by_right_are_not_called_stopped(made):
    """A cosine that ends at 0 with the run, a warm-up from 0, a rate a millionth of the first, gradients
    that are gone too, and accumulation: updates are nothing at every probe, and parameters move."""
    cosine = 0.5 * (1 + np.cos(np.pi * np.array(SPACED) / 400))
    warm = np.minimum(np.array(SPACED) / 200, 1.0)
    for rates in (cosine, warm, np.where(np.arange(12) < 7, 1.0, 1e-4)):
        assert updates_have_not_stopped(moving(made, rates)).verdict is OK
    gone = np.array([3.0] * 7 + [0.0] * 5)
    at_optimum = moving(made, np.array([1.0] * 7 + [0.0] * 5), gradient=gone)
    assert updates_have_not_stopped(at_optimum).verdict is OK
    grown = 10.0 + 1e-3 * np.array(SPACED)
    assert updates_have_not_stopped(moving(made, np.zeros(12), parameters=grown)).verdict is OK


def test_updates_that_are_not_finite_or_were_not_probed_are_not_judged(made):
    bad = moving(made, np.array([1.0] * 7 + [np.nan] * 5))
    assert updates_have_not_stopped(bad).verdict is UNDECIDED
    assert updates_have_not_stopped(moving(made, np.zeros(2))).verdict is NOT_RUN
    assert updates_have_not_stopped([Evidence(step=0)] * 4).verdict is NOT_RUN


def probes(made, *changes):
    """One probe for each pair of what an update gives its own rows and gives (or takes) others."""
    return [
        Evidence(
            step=step,
            line=line(made, lambda m, own=own: own * m, others=lambda m, other=other: other * m),
        )
        for step, (own, other) in enumerate(changes)
    ]


@settings(max_examples=60, deadline=None)
@given(own=st.floats(0.01, 0.4), taken=st.floats(-0.1, 0.3))
@example(own=0.05, taken=0.101)
@example(own=4.0, taken=1.99)
@example(own=4.0, taken=2.01)
def test_an_update_may_take_half_of_what_it_gives_and_a_tenth_of_a_nat(made, own, taken):
    """Six updates, all alike, so that all of them or none are harmful."""
    allowed = max(0.1, 0.5 * own)
    assume(abs(taken - allowed) > 1e-6)
    finding = updates_help_other_rows(probes(made, *[(own, -taken)] * 6))
    assert finding.verdict is (FAULT if taken > allowed else OK)
    assert finding.measured == (1.0 if taken > allowed else 0.0)
    causes = ["rows_interfere"] if taken > allowed else []
    assert [cause.name for cause in finding.causes] == causes


@pytest.mark.parametrize(("harmful", "verdict"), [(0, OK), (3, OK), (4, FAULT), (6, FAULT)])
def test_half_of_the_updates_may_do_harm(made, harmful, verdict):
    """Of six; those that do not raise their own rows count for neither side."""
    changes = [(1.0, -2.0)] * harmful + [(1.0, 0.5)] * (6 - harmful) + [(-1.0, -9.0)] * 5
    finding = updates_help_other_rows(probes(made, *changes))
    assert finding.verdict is verdict
    assert finding.measured == pytest.approx(harmful / 6)


def test_the_update_that_takes_most_is_shown(made):
    finding = updates_help_other_rows(probes(made, *[(1.0, -2.0)] * 4, (3.0, -7.0), (1.0, 1.0)))
    assert finding.where == "worst at step 4"
    assert "+3 and took -7 nats" in finding.meaning


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_others_that_end_where_nothing_is_finite_lost_everything(made, bad):
    """Four of six do; a whole update that ends so for its own rows did not raise them."""
    nowhere = lambda m: bad if m >= 1 else m  # noqa: E731
    lost = [Evidence(step=s, line=line(made, lambda m: m, others=nowhere)) for s in range(4)]
    fine = probes(made, *[(1.0, 1.0)] * 2)
    finding = updates_help_other_rows(lost + fine)
    assert (finding.verdict, finding.measured) == (FAULT, pytest.approx(4 / 6))
    assert "took -inf nats" in finding.meaning
    both = [Evidence(step=s, line=line(made, nowhere, others=nowhere)) for s in range(4)]
    assert updates_help_other_rows(both + fine).verdict is NOT_RUN
    assert updates_help_other_rows(both + 3 * fine).verdict is OK


@pytest.mark.parametrize("whose", ["same", "other"])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_a_bound_that_is_not_finite_before_an_update_decides_nothing(made, whose, bad):
    """Of one row at one probe, beside six updates that did no harm, or that did."""

    def with_bad(history):
        broken = getattr(history[0].line, whose).copy()
        broken[:, 3] = bad
        return [replace(history[0], line=replace(history[0].line, **{whose: broken})), *history[1:]]

    harmless = probes(made, *[(1.0, 1.0)] * 7)
    assert updates_help_other_rows(harmless).verdict is OK
    assert updates_help_other_rows(with_bad(harmless)).verdict is UNDECIDED
    harmful = probes(made, *[(1.0, -2.0)] * 7)
    assert updates_help_other_rows(with_bad(harmful)).verdict is FAULT


def test_five_updates_and_rows_without_company_are_too_few(made):
    assert updates_help_other_rows(probes(made, *[(1.0, -2.0)] * 5)).verdict is NOT_RUN
    assert updates_help_other_rows([]).verdict is NOT_RUN
    alone = [
        replace(e, line=replace(e.line, same=e.line.same[:, :0], other=e.line.other[:, :0]))
        for e in probes(made, *[(1.0, -2.0)] * 6)
    ]
    assert updates_help_other_rows(alone).verdict is NOT_RUN


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


def test_a_run_that_has_gained_nearly_all_is_not_too_slow(made):
    """Thirty updates gain 3 nats at every probe: too slow where 30 were gained since the start, and at
    the end of a way of 3000 nats no more than that; of many rows the way does not matter."""
    line = made.line(np.random.default_rng(8))
    gain = np.minimum(line.multiples, 30.0)[:, None] / 10
    straight = replace(line, same=line.same[:1] + gain, other=line.other[:1] + gain)
    for way, verdict in ((30.0, Verdict.FAULT), (3000.0, Verdict.OK)):
        history = made.history(line=straight)
        start = replace(straight, same=straight.same - way, other=straight.other - way)
        history[0] = replace(history[0], line=start)
        assert updates_are_large_enough(history).verdict is FAULT
        one = replace(
            history[-1].sites,
            num_units=np.ones(1, int),
            log_p=np.zeros((2, 9, 1)),
            log_q=np.zeros((2, 9, 1)),
        )
        history[-1] = replace(history[-1], sites=one)
        assert updates_are_large_enough(history).verdict is verdict
    points = updates_are_large_enough(made.history(line=straight), is_bound=False)
    assert points.verdict is Verdict.NOT_RUN


def test_a_warm_up_is_not_too_small_however_long_it_is(made):
    """Updates are to be ten times larger at every probe, or at all but the last two: not run. Once three
    probes have the schedule's own size, they alone are judged."""
    low = slow(made, 20.0, STEPS)

    def rising(last, ratio=10.0):
        return [replace(e, schedule=Schedule(ratio if e.step < last else 1.0)) for e in low]

    for last in (400, 300, 200):
        finding = updates_are_large_enough(rising(last))
        assert finding.verdict is NOT_RUN
        assert "still rising" in finding.meaning
    assert updates_are_large_enough(rising(100)).verdict is FAULT
    assert updates_are_large_enough(rising(400, 1.9)).verdict is FAULT
    assert updates_are_large_enough(rising(400, np.nan)).verdict is NOT_RUN
    fine = [replace(e, line=slow(made, 5.0, [e.step])[0].line) for e in rising(64)]
    assert updates_are_large_enough(fine).verdict is OK


@pytest.mark.parametrize("count", [0, 33, 100])
def test_an_optimiser_that_did_not_move_often_enough_is_not_judged(count):
    nan = float("nan")
    silent = Optimiser(nan, nan, nan, nan, RIGHT.moved, RIGHT.modules, count)
    for check in (gradients_are_forgotten, every_gradient_counts, clipping_leaves_sizes):
        finding = check(silent)
        assert finding.verdict is NOT_RUN
        assert ("takes too long" in finding.meaning) == (count > 0)
    assert every_module_moves(silent).verdict is OK
