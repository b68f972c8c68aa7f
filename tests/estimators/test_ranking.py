"""Who is better, and who is tied. Sampled tests: seeds fixed beforehand, level 1e-3 for the file."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import norm, ttest_rel

from tightbound.estimators import ranking
from tightbound.estimators.ranking import holm, paired_difference, rank_arms, rank_sets
from tightbound.estimators.units import ratio_influence, standard_error

MARGIN = norm.isf(1e-3 / 4)  # two sampled tests, each with one statistic and one planted bug


def sweep(draw, *, arms, seeds, batch, seed_spread=0.1, means=0.0):
    """nats of (arm, seed, sequence): the sequence's own, an effect of the run, and the rest."""
    sequence = draw.gamma(4.0, 5.0, batch)
    run = seed_spread * draw.normal(size=(arms, seeds, 1))
    rest = draw.normal(size=(arms, seeds, batch))
    return sequence + run + rest + np.reshape(means, (-1, 1, 1))


# Holm's procedure


def closed_test(p_values):
    """Holm's procedure by its definition as a closed test: a hypothesis is rejected when the smallest
    p value of every set it is in passes Bonferroni's level for the set. All sets are listed."""
    places = range(len(p_values))
    sets = [s for size in range(1, len(p_values) + 1) for s in combinations(places, size)]
    return [
        max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in sets if place in s)
        for place in places
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_equals_the_closed_test_of_all_sets(p_values):
    """Oracle: enumeration of every set of hypotheses."""
    assert_allclose(holm(np.array(p_values)), closed_test(p_values), rtol=1e-12)


def test_holm_by_hand_and_two_procedures_that_are_not_it():
    """Oracle: worked by hand: 3 * 0.01, then max with 2 * 0.02, then max with 1 * 0.03."""
    p_values = np.array([0.03, 0.01, 0.02])
    assert_allclose(holm(p_values), [0.04, 0.03, 0.04])
    not_monotone = np.array([0.03, 3 * 0.01, 2 * 0.02])  # planted: the running maximum left out
    bonferroni = 3 * p_values
    assert not np.allclose(not_monotone, holm(p_values))
    assert not np.allclose(bonferroni, holm(p_values))


# One pair


def test_a_difference_is_the_mean_over_seeds_of_sums_over_sums():
    """Oracle: the formula written out; the mean of ratios by sequence is another number."""
    draw = np.random.default_rng(0)
    units = draw.integers(1, 30, 40)
    nats = sweep(draw, arms=2, seeds=3, batch=40)
    pair = paired_difference(nats, 0, 1, units)
    by_hand = np.mean([(nats[0, s] - nats[1, s]).sum() / units.sum() for s in range(3)])
    assert_allclose(pair.difference, by_hand, rtol=1e-12)
    mean_of_means = ((nats[0] - nats[1]) / units).mean()
    assert abs(mean_of_means - by_hand) > 1e-3


def test_with_one_seed_and_one_unit_the_p_value_is_that_of_the_paired_t_test():
    """Oracle: scipy.stats.ttest_rel."""
    nats = sweep(np.random.default_rng(1), arms=2, seeds=1, batch=25)
    pair = paired_difference(nats, 0, 1, np.ones(25, int))
    assert_allclose(pair.p_value, ttest_rel(nats[0, 0], nats[1, 0]).pvalue, rtol=1e-10)
    assert (pair.seed_error, pair.degrees_of_freedom) == (None, pytest.approx(24))


def test_where_sequences_do_not_differ_the_p_value_is_that_of_the_t_test_over_seeds():
    """Oracle: scipy.stats.ttest_rel over seeds, where a run shifts all its sequences alike."""
    draw = np.random.default_rng(2)
    nats = draw.normal(size=(2, 4, 1)) + draw.normal(size=30)
    pair = paired_difference(nats, 0, 1, np.ones(30, int))
    assert_allclose(pair.p_value, ttest_rel(nats[0, :, 0], nats[1, :, 0]).pvalue, rtol=1e-8)
    assert_allclose(pair.degrees_of_freedom, 3, rtol=1e-8)


def test_sequences_listed_twice_change_nothing_when_they_are_a_group():
    """Identity: a copy of a sequence says nothing new. Without groups the error would shrink."""
    nats = sweep(np.random.default_rng(3), arms=2, seeds=3, batch=20)
    units = np.arange(1, 21)
    once = paired_difference(nats, 0, 1, units)
    twice = np.repeat(nats, 2, axis=-1), 0, 1, np.repeat(units, 2)
    assert_allclose(
        paired_difference(*twice, np.repeat(np.arange(20), 2)).p_value, once.p_value, rtol=1e-10
    )
    assert paired_difference(*twice).sequence_error < 0.8 * once.sequence_error


def test_an_error_is_the_spread_of_the_difference_over_repeated_sweeps():
    """Oracle: Monte Carlo over 600 sweeps with new seeds and new sequences. Planted bug: the part
    between seeds left out."""
    draw = np.random.default_rng(4)
    units = np.ones(60, int)
    pairs = [
        paired_difference(sweep(draw, arms=2, seeds=3, batch=60, seed_spread=0.4), 0, 1, units)
        for _ in range(600)
    ]
    squares = np.array([pair.difference**2 for pair in pairs])  # the arms are equal: mean zero
    expected = np.array([pair.standard_error**2 for pair in pairs])
    without_seeds = np.array([pair.sequence_error**2 for pair in pairs])
    error = (squares - expected).std() / np.sqrt(600)
    # What run and sequence do together, 2 / (3 * 60), is counted twice, to the safe side.
    shift = 2 / (3 * 60)
    assert abs((expected - squares).mean() - shift) < MARGIN * error
    assert (squares - without_seeds).mean() > 8 * error


def test_arms_that_are_the_same_run_are_not_told_apart_and_a_constant_shift_is():
    nats = sweep(np.random.default_rng(5), arms=1, seeds=2, batch=10)
    units = np.ones(10, int)
    assert paired_difference(np.concatenate([nats, nats]), 0, 1, units).p_value == 1
    shifted = paired_difference(np.concatenate([nats, nats + 0.01]), 0, 1, units)
    assert (shifted.p_value < 1e-6, shifted.difference < 0) == (True, True)


def test_one_sequence_with_one_seed_tells_nothing():
    pair = paired_difference(np.array([[[1.0]], [[5.0]]]), 0, 1, np.ones(1, int))
    assert (pair.difference, pair.standard_error, pair.p_value) == (-4.0, None, 1.0)


# All arms


def test_ranks_count_the_arms_told_apart_on_either_side():
    """Oracle: enumeration. Arm 0 beats 1 and 2, arm 1 is tied with 2, arm 3 is tied with all."""
    better = np.zeros((4, 4), bool)
    better[0, 1] = better[0, 2] = True
    lowest, highest = rank_sets(better)
    assert lowest.tolist() == [1, 2, 2, 1]
    assert highest.tolist() == [2, 4, 4, 4]


def test_arms_far_apart_get_the_ranks_of_their_means():
    means = np.array([2.0, 0.0, 4.0])
    nats = sweep(np.random.default_rng(6), arms=3, seeds=6, batch=200, means=means)
    found = rank_arms(nats, np.ones(200, int))
    assert [(arm.lowest_rank, arm.highest_rank) for arm in found.arms] == [(2, 2), (1, 1), (3, 3)]
    assert (found.best, [arm.tied_with for arm in found.arms]) == (1, [(), (), ()])
    turned = found.difference(2, 1)
    assert turned.difference == -found.difference(1, 2).difference > 0
    with pytest.raises(KeyError, match="no pair of the arms 1 and 1"):
        found.difference(1, 1)


def test_an_arms_own_errors_are_those_of_its_runs_and_of_its_sequences():
    """Oracle: the formulas written out."""
    nats = sweep(np.random.default_rng(7), arms=1, seeds=4, batch=30)
    units = np.arange(1, 31)
    (arm,) = rank_arms(nats, units).arms
    runs = nats[0].sum(-1) / units.sum()
    assert_allclose(arm.mean, runs.mean())
    assert_allclose(arm.seed_error, runs.std(ddof=1) / 2)
    assert_allclose(arm.sequence_error, standard_error(ratio_influence(nats[0].mean(0), units)))
    assert (arm.lowest_rank, arm.highest_rank, arm.tied_with) == (1, 1, ())


REPEATS = 300
SHARE_ERROR = np.sqrt(0.05 * 0.95 / REPEATS)


def share_of_ties():
    """How often five equal arms, three seeds each, are all tied."""
    draw = np.random.default_rng(8)
    units = np.ones(50, int)
    rankings = (rank_arms(sweep(draw, arms=5, seeds=3, batch=50), units) for _ in range(REPEATS))
    ranks = [[(arm.lowest_rank, arm.highest_rank) for arm in found.arms] for found in rankings]
    return np.mean([set(of_one) == {(1, 5)} for of_one in ranks])


def test_arms_that_are_all_equal_are_all_tied_in_95_of_100_sweeps():
    """Oracle: the level itself, by Monte Carlo."""
    assert share_of_ties() > 0.95 - MARGIN * SHARE_ERROR


def test_without_the_adjustment_equal_arms_are_told_apart_far_too_often(monkeypatch):
    """Planted bug: p values of ten pairs are taken as if each were the only one."""
    monkeypatch.setattr(ranking, "holm", lambda p_values: p_values)
    assert share_of_ties() < 0.95 - 8 * SHARE_ERROR


def test_a_missing_run_leaves_its_seed_out_of_the_pairs_it_would_be_in():
    """Identity: the pair is that of the seeds both have; other pairs are unchanged."""
    nats = sweep(np.random.default_rng(9), arms=3, seeds=3, batch=20)
    missing = nats.copy()
    missing[1, 0] = np.nan
    units = np.ones(20, int)
    pair = paired_difference(missing, 0, 1, units)
    assert pair == paired_difference(nats[:, 1:], 0, 1, units)
    assert paired_difference(missing, 0, 2, units) == paired_difference(nats, 0, 2, units)
    assert [arm.num_seeds for arm in rank_arms(missing, units).arms] == [3, 2, 3]


def test_arms_without_a_common_seed_are_not_told_apart():
    nats = np.full((2, 2, 5), np.nan)
    nats[0, 0], nats[1, 1] = 1.0, np.arange(5.0) * 100
    (pair,) = rank_arms(nats, np.ones(5, int)).pairs
    assert (pair.num_seeds, pair.adjusted_p_value) == (0, 1.0)


def test_arms_without_a_run_and_infinite_runs_are_refused():
    nats = np.zeros((2, 1, 3))
    units = np.ones(3, int)
    with pytest.raises(ValueError, match="Leave arms out that have no finished run"):
        rank_arms(np.where([[[True]], [[False]]], np.nan, nats), units)
    nats[0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="1 runs are infinite on some sequence, so their means "):
        rank_arms(nats, units)
