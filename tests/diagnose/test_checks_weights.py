"""TB301 to TB304. Oracle: weights made by hand; for tails, the k-hat of each row computed apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tightbound.diagnose.checks.weights import (
    draws_differ,
    tails_are_light_enough,
    weights_are_finite,
    weights_keep_the_evidence,
)
from tightbound.diagnose.finding import Verdict
from tightbound.estimators.weights import normalised_weights, pareto_shape

FAULT, OK, UNDECIDED, NOT_RUN = Verdict.FAULT, Verdict.OK, Verdict.UNDECIDED, Verdict.NOT_RUN
seeds = st.integers(0, 2**32 - 1)


def log_weights(seed=0, samples=40, rows=6, spread=1.0):
    rng = np.random.default_rng(seed)
    return rng.normal(-90.0, 5.0, rows) + spread * rng.normal(size=(samples, rows))


@settings(max_examples=50, deadline=None)
@given(seed=seeds, bad=st.sampled_from([np.nan, np.inf]), count=st.integers(0, 9))
def test_weights_that_are_not_finite_are_counted_and_found(seed, bad, count):
    """`count` of 240, at places drawn by the seed; their rows are named."""
    places = np.random.default_rng(seed).choice(240, count, replace=False)
    values = log_weights(seed)
    values.flat[places] = bad
    finding = weights_are_finite(values)
    assert finding.verdict is (FAULT if count else OK)
    assert finding.measured == count
    for row in sorted({int(place % 6) for place in places})[:5]:
        assert str(row) in finding.where


def test_a_weight_of_zero_is_a_weight_but_a_row_of_zeros_is_none():
    """-inf counts as zero; a row that has nothing else has no evidence at all."""
    values = log_weights()
    values[3:, 2] = -np.inf
    assert weights_are_finite(values).verdict is OK
    values[:, 2] = -np.inf
    finding = weights_are_finite(values)
    assert (finding.verdict, finding.measured, finding.where) == (FAULT, 1.0, "rows 2")


@settings(max_examples=50, deadline=None)
@given(seed=seeds, off=st.floats(-1.0, 1.0))
def test_normalised_weights_are_recognised(seed, off):
    """Weights that sum to 1, or to their number, in every row, to 1e-4 nats."""
    normalised = np.log(normalised_weights(log_weights(seed)))
    for total in (0.0, np.log(40)):
        finding = weights_keep_the_evidence(normalised + total + off)
        assert finding.verdict is (FAULT if finding.measured <= 1e-4 else OK)
        assert finding.measured == pytest.approx(
            min(abs(total + off), abs(total + off - np.log(40))), abs=1e-9
        )
    one_row_apart = normalised + np.where(np.arange(6) == 4, 0.01, 0.0)
    assert weights_keep_the_evidence(one_row_apart).verdict is OK


def test_one_row_whose_weights_sum_to_one_may_be_chance():
    normalised = np.log(normalised_weights(log_weights(rows=1)))
    assert weights_keep_the_evidence(normalised).verdict is UNDECIDED
    assert weights_keep_the_evidence(log_weights(rows=1)).verdict is OK


def test_equal_draws_are_undecided_and_one_that_differs_passes():
    """An exact posterior gives equal weights; so does a single draw that is used over and over."""
    equal = np.tile(log_weights()[0], (40, 1))
    assert draws_differ(equal).verdict is UNDECIDED
    equal[3, 2] += 1e-9
    assert draws_differ(equal).verdict is OK
    assert draws_differ(equal[:1]).verdict is NOT_RUN


def test_rows_with_a_zero_weight_do_not_hide_that_draws_are_equal():
    """Their range is infinite, and says nothing."""
    equal = np.tile(log_weights()[0], (40, 1))
    equal[0, 0] = -np.inf
    assert draws_differ(equal).verdict is UNDECIDED


@pytest.mark.parametrize("heavy_rows", [0, 2, 3])
def test_heavy_tails_in_more_than_a_tenth_of_the_rows_are_undecided(heavy_rows):
    """Oracle: `pareto_shape` row by row. 20 rows of 1,000 draws; the weights of the heavy ones are
    Pareto variates of index 1, so k-hat is about 1 where 0.67 is good."""
    rng = np.random.default_rng(0)
    values = log_weights(0, 1000, 20, spread=0.3)
    values[:, :heavy_rows] = -np.log(rng.uniform(size=(1000, heavy_rows)))
    finding = tails_are_light_enough(values)
    above = [pareto_shape(column[:, None])[0] > 1 - 1 / 3 for column in values.T]
    assert sum(above) == heavy_rows
    assert finding.measured == pytest.approx(heavy_rows / 20)
    assert finding.verdict is (UNDECIDED if heavy_rows > 2 else OK)
    assert finding.causes == ()


def test_ties_that_hide_the_tail_do_not_pass():
    """k-hat is then NaN: it is not below the threshold."""
    column = np.repeat([0.0, 1.0, 2.0, 3.0], [100, 40, 50, 10])
    tied = np.tile(column[:, None], (1, 4))
    assert np.isnan(pareto_shape(tied)).all()
    finding = tails_are_light_enough(tied)
    assert (finding.verdict, finding.measured) == (UNDECIDED, 1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_weight_leaves_the_other_questions_open(bad):
    """TB301 names it; what would have to skip it is not run rather than passed."""
    values = log_weights()
    values[0, 0] = bad
    assert weights_are_finite(values).verdict is FAULT
    for check in (weights_keep_the_evidence, draws_differ, tails_are_light_enough):
        assert check(values).verdict is NOT_RUN


def test_tails_need_enough_draws_for_a_standard_error_of_a_quarter():
    """k-hat's is (1 + k) / sqrt(M), M = min(S / 5, 3 sqrt(S)), at the threshold's own k."""

    def error(samples):
        return (2 - 1 / np.log10(samples)) / np.sqrt(min(samples / 5, 3 * np.sqrt(samples)))

    assert error(200) < 0.25 < error(180)
    few = tails_are_light_enough(log_weights(samples=199))
    assert few.verdict is NOT_RUN
    assert "evaluate with 200 or more" in few.meaning
    assert tails_are_light_enough(log_weights(samples=200)).verdict is not NOT_RUN


def test_heavy_tails_come_with_what_to_do():
    """A proposal at half the posterior's scale, in ten dimensions: weights without a variance."""
    rng = np.random.default_rng(1)
    z = 0.5 * rng.normal(size=(400, 10, 16))
    heavy = tails_are_light_enough((-0.5 * z**2 + 2.0 * z**2).sum(1))
    assert heavy.verdict is UNDECIDED
    assert "lower bound" in heavy.meaning
    assert "more draws or a wider proposal" in heavy.meaning
