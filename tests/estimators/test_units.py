"""Units: sum over sum, and the error of a ratio."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from tightbound.estimators.units import (
    bits_per_unit,
    in_unit,
    per_sequence,
    per_unit,
    perplexity,
    ratio_influence,
    standard_error,
)

CLAIM = {"bound": "upper", "estimator": "iwae-4", "num_samples": 4, "split": "test"}
NATS = np.array([2.0, 9.0, 3.0, 30.0])
UNITS = np.array([1, 4, 2, 10])


def test_a_corpus_figure_is_sum_over_sum():
    """By hand: 44 nats over 17 units. Planted: the mean of the sequences' own means is another."""
    estimate = per_unit(NATS, UNITS, **CLAIM)
    assert_allclose(estimate.value, 44 / 17)
    assert estimate.unit == "nats per unit"
    assert abs((NATS / UNITS).mean() - 44 / 17) > 0.4


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=3))
def test_the_perplexity_does_not_depend_on_how_the_corpus_is_cut_into_batches(cuts):
    """Identity: chunks concatenated, in any partition and order. Planted: averaging the batches'
    perplexities, which depends on the cut."""
    order = np.roll(np.arange(4), len(cuts))
    chunks = np.split(order, sorted(cuts))
    nats = np.concatenate([NATS[chunk] for chunk in chunks])
    units = np.concatenate([UNITS[chunk] for chunk in chunks])
    whole = perplexity(per_unit(NATS, UNITS, **CLAIM))
    assert_allclose(perplexity(per_unit(nats, units, **CLAIM)).value, whole.value, rtol=1e-14)

    def mean_of_batches(sizes):
        batches = np.split(np.arange(4), sizes)
        return np.mean([np.exp(NATS[batch].sum() / UNITS[batch].sum()) for batch in batches])

    assert abs(mean_of_batches([1]) - mean_of_batches([2])) > 1


def test_per_sequence_has_the_textbook_errors():
    """Oracle: NumPy's standard deviation over sqrt(B); independent draws add their variances."""
    variance = np.array([1.0, 4.0, 4.0, 7.0])
    estimate = per_sequence(NATS, draw_variance=variance, **CLAIM)
    assert_allclose(estimate.value, 11.0)
    assert_allclose(estimate.standard_error, NATS.std(ddof=1) / 2)
    assert_allclose(estimate.monte_carlo_error, 4 / 4)
    assert estimate.unit == "nats per sequence"
    assert per_sequence(NATS[:1], **CLAIM).standard_error is None
    assert per_sequence(NATS, **CLAIM).monte_carlo_error is None


def test_the_error_of_a_ratio_is_zero_when_every_unit_costs_the_same():
    """Identity: with nats proportional to units the ratio is known exactly, however lengths vary.
    Planted: the spread of nats alone, over the mean length, claims an error."""
    estimate = per_unit(2.5 * UNITS, UNITS, **CLAIM)
    assert_allclose(estimate.value, 2.5)
    assert_allclose(estimate.standard_error, 0.0, atol=1e-14)
    assert (2.5 * UNITS).std(ddof=1) / 2 / UNITS.mean() > 0.5


def test_the_error_of_a_ratio_is_the_spread_of_the_ratio_over_corpora():
    """Monte Carlo oracle: 4,000 corpora of 300 sequences drawn afresh. The standard deviation of
    4,000 values is known to 1.1 %, so 5 % is more than 4 of its standard errors. Planted: the
    spread of nats alone is more than 100 % off."""
    rng = np.random.default_rng(0)
    units = rng.integers(1, 40, size=(4000, 300))
    nats = units * 1.5 + rng.normal(size=units.shape) * np.sqrt(units)
    ratios = nats.sum(axis=1) / units.sum(axis=1)
    claimed = np.mean([per_unit(nats[i], units[i], **CLAIM).standard_error for i in range(400)])
    assert_allclose(claimed, ratios.std(ddof=1), rtol=0.05)
    naive = nats.std(axis=1, ddof=1).mean() / np.sqrt(300) / units.mean()
    assert naive > 2 * claimed


def test_an_influence_is_what_leaving_a_sequence_out_changes():
    """Oracle: the jackknife, R - R without b = influence_b / B (1 + O(1/B)), for 2,000 sequences."""
    rng = np.random.default_rng(1)
    units = rng.integers(5, 10, size=2000)
    nats = rng.normal(20.0, 5.0, size=2000)
    without = (nats.sum() - nats[:50]) / (units.sum() - units[:50])
    change = nats.sum() / units.sum() - without
    assert_allclose(ratio_influence(nats, units)[:50] / 2000, change, rtol=1e-3)
    assert_allclose(ratio_influence(nats, units).mean(), 0.0, atol=1e-12)


def test_bits_and_perplexity_are_the_same_figure_with_its_errors_carried_along():
    """Oracle: finite differences of the conversions at the value."""
    nats = replace(per_unit(NATS, UNITS, draw_variance=np.ones(4), **CLAIM), standard_error=1e-6)
    bits, ppl = bits_per_unit(nats), perplexity(nats)
    assert_allclose(bits.value, nats.value / np.log(2))
    assert_allclose(ppl.value, 2**bits.value, rtol=1e-14)
    assert_allclose(bits.standard_error, 1e-6 / np.log(2))
    assert_allclose(ppl.standard_error, np.exp(nats.value + 1e-6) - ppl.value, rtol=1e-5)
    assert_allclose(ppl.monte_carlo_error, nats.monte_carlo_error * ppl.value)
    assert (bits.unit, ppl.unit) == ("bits per unit", "perplexity")
    assert bits.bound == ppl.bound == "upper"


@pytest.mark.parametrize("unit", ["nats per unit", "bits per unit", "perplexity"])
def test_per_unit_a_log_likelihood_is_turned_and_its_bound_with_it(unit):
    """log p(x) from below is a negative log-likelihood from above; exact and none stay."""
    turned = {"lower": "upper", "exact": "exact", "upper": "lower", "none": "none"}
    for bound, expected in turned.items():
        claim = CLAIM | {"bound": bound}
        estimate = in_unit(-NATS, unit, num_units=UNITS, **claim)
        assert estimate.bound == expected
        assert estimate.unit == unit
    nats = {"nats per unit": 44 / 17, "bits per unit": 44 / 17 / np.log(2)}
    assert_allclose(estimate.value, nats.get(unit, np.exp(44 / 17)))
    assert in_unit(-NATS, "nats per sequence", **claim).value == -11.0


def test_the_mean_over_sequences_is_another_figure_than_the_ratio_of_sums():
    """Closed form: mean of n_b / u_b with the error of a mean. Planted: the ratio of sums, which the
    short sequences of this corpus weigh less."""
    unit = "nats per unit, mean over sequences"
    estimate = in_unit(-NATS, unit, num_units=UNITS, **CLAIM | {"bound": "lower"})
    assert_allclose(estimate.value, (NATS / UNITS).mean())
    assert_allclose(estimate.standard_error, (NATS / UNITS).std(ddof=1) / np.sqrt(len(NATS)))
    assert (estimate.unit, estimate.bound) == (unit, "upper")
    assert abs(estimate.value - per_unit(NATS, UNITS, **CLAIM).value) > 0.1
    with pytest.raises(ValueError, match="converts an Estimate in nats per unit, but"):
        perplexity(estimate)


def test_an_impossible_sequence_has_an_infinite_mean_and_no_known_error():
    estimate = per_unit(np.array([1.0, np.inf]), np.array([1, 1]), **CLAIM)
    assert estimate.value == np.inf
    assert np.isnan(estimate.standard_error)
    assert perplexity(estimate).value == np.inf


def test_a_figure_that_cannot_be_meant_is_refused():
    with pytest.raises(ValueError, match=r"sum of `num_units`, which is 0 over 2 sequences.\nGive"):
        per_unit(NATS[:2], np.array([0, 0]), **CLAIM)
    with pytest.raises(
        ValueError, match=r"`perplexity` converts an Estimate in nats per unit, but"
    ):
        perplexity(per_sequence(NATS, **CLAIM))
    with pytest.raises(ValueError, match=r"`num_units` is missing.\nPass the `num_units` of the"):
        in_unit(-NATS, "perplexity", **CLAIM)


def test_an_error_clustered_by_group_counts_groups_not_rows():
    """Identity: every row written down three times, as a group, has the error of the rows once; and
    groups of one row each are no clustering. Planted: copies counted as independent rows."""
    influence = np.random.default_rng(1).normal(size=12)
    once = standard_error(influence)
    copies, groups = np.repeat(influence, 3), np.repeat(np.arange(12) * 7, 3)
    assert_allclose(standard_error(copies, groups), once, rtol=1e-12)
    assert_allclose(standard_error(influence, np.arange(12)[::-1]), once, rtol=1e-12)
    assert standard_error(copies) < 0.65 * once
    assert standard_error(influence, np.zeros(12, int)) is None
