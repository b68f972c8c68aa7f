"""Two runs on the same rows: paired, or refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tightbound.estimators.comparison import SequenceScores, compare
from tightbound.estimators.units import in_unit, perplexity

RNG = np.random.default_rng(0)
ROWS = np.arange(40)
UNITS = RNG.integers(3, 30, size=40)
LOG_P = -2.0 * UNITS + RNG.normal(size=40) * 5


def scores(log_p=LOG_P, *, rows=ROWS, num_units=UNITS, **changes):
    made = SequenceScores(
        log_p=log_p,
        rows=rows,
        num_units=num_units,
        unit_name="word",
        split="test (lower case)",
        bound="lower",
        estimator="iwae-8",
        num_samples=8,
    )
    return replace(made, **changes)


BETTER = scores(LOG_P + 0.3 + 0.1 * RNG.normal(size=40))


def test_the_difference_is_paired_by_sequence():
    """Oracle: mean and sd of the differences in NumPy. Planted: unpaired errors, added in
    quadrature, are thirty times larger and would hide this difference."""
    comparison = compare(BETTER, scores())
    difference = BETTER.log_p - LOG_P
    assert_allclose(comparison.difference, difference.mean(), rtol=1e-10)
    assert_allclose(comparison.standard_error, difference.std(ddof=1) / np.sqrt(40), rtol=1e-10)
    unpaired = np.hypot(comparison.first.standard_error, comparison.second.standard_error)
    assert unpaired > 30 * comparison.standard_error
    assert unpaired > comparison.difference > 10 * comparison.standard_error
    assert comparison.larger_is_better


def test_rows_are_matched_by_their_place_in_the_split():
    """Identity: the same rows in another order. Planted: pairing by position has another error."""
    order = np.random.default_rng(3).permutation(40)
    shuffled = scores(LOG_P[order], rows=ROWS[order], num_units=UNITS[order])
    comparison, expected = compare(BETTER, shuffled), compare(BETTER, scores())
    assert_allclose(comparison.difference, expected.difference, rtol=1e-12)
    assert_allclose(comparison.standard_error, expected.standard_error, rtol=1e-12)
    by_position = (BETTER.log_p - LOG_P[order]).std(ddof=1) / np.sqrt(40)
    assert by_position > 10 * comparison.standard_error


@pytest.mark.parametrize("unit", ["nats per unit", "bits per unit", "perplexity"])
def test_a_difference_per_unit_is_that_of_the_estimates_with_a_paired_error(unit):
    """Oracle for the error: the jackknife over sequences, leaving each pair out in turn."""
    comparison = compare(BETTER, scores(), unit=unit)
    assert not comparison.larger_is_better
    assert comparison.difference < 0

    def value(log_p, keep):
        claim = {"bound": "lower", "estimator": "e", "num_samples": 1, "split": "s"}
        return in_unit(log_p[keep], unit, num_units=UNITS[keep], **claim).value

    left_out = np.array(
        [value(BETTER.log_p, keep) - value(LOG_P, keep) for keep in ~np.eye(40, dtype=bool)]
    )
    jackknife = np.sqrt(39 / 40 * np.square(left_out - left_out.mean()).sum())
    everything = np.ones(40, bool)
    expected = value(BETTER.log_p, everything) - value(LOG_P, everything)
    assert_allclose(comparison.difference, expected, rtol=1e-10)
    assert_allclose(comparison.standard_error, jackknife, rtol=0.05)


def test_a_run_compared_with_itself_differs_by_nothing():
    """Identity, in every unit."""
    text = scores(num_characters=5 * UNITS)
    for unit in ("nats per sequence", "nats per unit", "perplexity", "nats per character"):
        comparison = compare(text, text, unit=unit)
        assert comparison.difference == comparison.standard_error == 0.0
        assert comparison.unit == comparison.first.unit == unit


def retokenised(**changes):
    return scores(LOG_P, num_units=2 * UNITS, unit_name="word piece", **changes)


def test_perplexities_across_tokenisations_are_refused():
    """The same log p(x) has another perplexity when the units are halved: a difference that means
    nothing. Planted: the two estimates, compared without asking, differ by far."""
    with pytest.raises(
        ValueError,
        match=(
            rf"in perplexity needs one way to count units, but the first run counts {UNITS.sum()} "
            rf"\(word\) and the second {2 * UNITS.sum()} \(word piece\) in the same rows.\n"
            r"Use `unit='nats per sequence'`, which does not depend on the tokenisation."
        ),
    ):
        compare(scores(), retokenised(), unit="perplexity")
    with pytest.raises(ValueError, match=r"`unit='nats per character'`"):
        compare(
            scores(num_characters=5 * UNITS),
            retokenised(num_characters=5 * UNITS),
            unit="bits per unit",
        )
    with pytest.raises(ValueError, match="one way to count units"):
        compare(scores(), scores(unit_name="syllable"), unit="nats per unit")
    one, other = (
        perplexity(
            in_unit(
                LOG_P,
                "nats per unit",
                num_units=units,
                bound="lower",
                estimator="e",
                num_samples=1,
                split="s",
            )
        )
        for units in (UNITS, 2 * UNITS)
    )
    assert one.value > 2 * other.value


def test_across_tokenisations_nats_per_sequence_and_per_character_agree_that_nothing_changed():
    """Identity: the same log p(x), differently cut."""
    first, second = scores(num_characters=5 * UNITS), retokenised(num_characters=5 * UNITS)
    for unit in ("nats per sequence", "nats per character"):
        assert compare(first, second, unit=unit).difference == 0.0
    per_character = compare(first, second, unit="nats per character").first
    assert_allclose(per_character.value, -LOG_P.sum() / (5 * UNITS.sum()))
    with pytest.raises(ValueError, match=r"number of characters of every row, but"):
        compare(scores(), second, unit="nats per character")


def test_runs_on_different_data_are_refused():
    with pytest.raises(ValueError, match=r"on test \(lower case\), the second on valid; a diff"):
        compare(scores(), scores(split="valid"))
    with pytest.raises(ValueError, match=r"the first alone has 1 rows and the second alone 1.\n"):
        compare(scores(), scores(rows=ROWS + 1))
    with pytest.raises(ValueError, match=r"The second run holds some rows of test \(lower case\)"):
        compare(scores(), scores(rows=np.minimum(ROWS, 38)))


def test_a_comparison_reads_well_and_goes_through_json():
    comparison = compare(BETTER, scores())
    text = str(comparison)
    assert text.startswith("first better by 0.3")
    assert text.endswith("nats per sequence (40 pairs, test (lower case))")
    assert str(compare(scores(), BETTER, unit="perplexity")).startswith("second better by")
    document = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert document["difference"] == comparison.difference
    assert document["first"]["estimator"] == "iwae-8"
    one_row = scores(LOG_P[:1], rows=ROWS[:1], num_units=UNITS[:1])
    assert compare(one_row, one_row).standard_error is None


def test_a_difference_clustered_by_writer_has_the_error_of_writers():
    """Identity: each row twice, its copies one group, against the rows once. Rows without groups are
    refused."""
    twice = np.repeat(np.arange(40), 2)

    def doubled(one):
        return replace(
            one,
            log_p=one.log_p[twice],
            rows=np.arange(80),
            num_units=one.num_units[twice],
            groups=twice,
        )

    for unit in ("nats per sequence", "nats per unit"):
        once = compare(BETTER, scores(), unit=unit)
        clustered = compare(doubled(BETTER), doubled(scores()), unit=unit, by_group=True)
        assert_allclose(clustered.difference, once.difference, rtol=1e-12)
        assert_allclose(clustered.standard_error, once.standard_error, rtol=1e-12)
        assert (clustered.num_groups, once.num_groups) == (40, None)
    with pytest.raises(ValueError, match="have no groups"):
        compare(BETTER, scores(), by_group=True)
