"""Baselines of sequences against enumeration, scipy, scikit-learn and closed forms."""

import itertools
import math
import os
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from tightbound.data.baselines.sequences import (
    baseline_estimates,
    fit_mixture,
    fit_student_t,
    pianoroll_baselines,
    pixel_row_baselines,
    series_baselines,
    stroke_baselines,
    stroke_references,
)
from tightbound.data.sequences import Sequence, sequence_split
from tightbound.data.sets.pianorolls import load_pianorolls
from tightbound.data.strokes import OffsetScale, Strokes
from tightbound.errors import UserError

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)
FLOOR = 1e-6


def strokes(*lengths, seed=0):
    """Correlated offsets, of which each leans on the one before, and pens that come in runs."""
    random = np.random.default_rng(seed)
    rows = []
    for length in lengths:
        offset = random.normal(size=(length, 2)) @ np.array([[1.0, 0.5], [0.0, 0.3]]) + 0.2
        offset[1:] += 0.7 * offset[:-1]
        pen = np.convolve(random.random(length) < 0.3, [1, 1])[:length] > 0
        rows.append(Strokes(offset, pen.astype(float)))
    return rows


def rolls(num_keys, *lengths, seed=0):
    random = np.random.default_rng(seed)
    chance = random.random(num_keys)
    return [(random.random((length, num_keys)) < chance).astype(np.float32) for length in lengths]


def series(*lengths, dims=2, seed=0):
    random = np.random.default_rng(seed)
    rows = [random.standard_t(4, (length, dims)) for length in lengths]
    for row in rows:
        row[1:] += 0.5 * row[:-1, ::-1]
    return rows


def widened(split, num_steps):
    """The same split with more padding, and NaN in all of it."""

    def wide(leaf):
        filled = np.full((len(leaf), num_steps, *leaf.shape[2:]), np.nan, leaf.dtype)
        filled[:, : leaf.shape[1]] = leaf
        filled[~mask] = np.nan
        return filled

    mask = np.zeros((len(split), num_steps), bool)
    mask[:, : split.mask.shape[1]] = split.mask
    values = split.x.values
    if isinstance(values, Strokes):
        values = Strokes(wide(values.offset), wide(values.pen))
    else:
        values = wide(values)
    return replace(split, x=Sequence(values, mask), mask=mask)


@pytest.fixture(scope="module")
def pens():
    train = sequence_split("train", strokes(30, 4, 1, 17))
    return train, sequence_split("test", strokes(9, 1, 22, seed=1), law="a law")


# Padding


@pytest.mark.parametrize(
    ("baselines", "rows"),
    [
        (lambda a, b: stroke_baselines(a, b, min_scale=FLOOR, num_components=2), strokes),
        (lambda a, b: series_baselines(a, b, min_scale=FLOOR), series),
        (pianoroll_baselines, lambda *lengths, seed=0: rolls(4, *lengths, seed=seed)),
    ],
)
def test_padding_changes_nothing_whatever_it_holds(baselines, rows):
    """Identity: with three times the width and NaN in all padding the numbers are the same, to the
    bit. Planted: a mask that takes one padded step for real does change them."""
    train = sequence_split("train", rows(12, 3, 1, 20))
    test = sequence_split("test", rows(7, 1, 11, seed=1))
    plain, padded = baselines(train, test), baselines(widened(train, 60), widened(test, 33))
    for name, nats in plain.items():
        assert nats.shape == (3,)
        assert_array_equal(padded[name], nats)
    mask = test.mask.copy()
    mask[1, 1] = True
    wrong = baselines(train, replace(test, mask=mask))
    assert all(abs(wrong[name][1] - plain[name][1]) > 0.1 for name in plain)


# Strokes


def test_independent_strokes_are_scipys_gaussian_times_the_base_rate(pens):
    """Oracle: scipy's multivariate normal with numpy's covariance, and its Bernoulli."""
    train, test = pens
    offsets, bits = train.x.values.offset[train.mask], train.x.values.pen[train.mask]
    law = stats.multivariate_normal(offsets.mean(0), np.cov(offsets.T, bias=True))
    base = (1 + bits.sum()) / (2 + len(bits))
    found = stroke_baselines(train, test, min_scale=FLOOR)["iid-gaussian"]
    for row, length in enumerate(test.num_units):
        values = test.x.values
        expected = np.sum(law.logpdf(values.offset[row, :length]))
        expected += stats.bernoulli.logpmf(values.pen[row, :length], base).sum()
        assert_allclose(found[row], expected, rtol=1e-12)


def test_the_chain_of_strokes_is_a_regression_within_each_row(pens):
    """Oracle: the normal equations over pairs inside rows, scipy's normal, counted pen pairs.
    Planted: pairs across the ends of rows give another law."""
    train, test = pens

    def pairs(split):
        for row, length in enumerate(split.num_units):
            offset, pen = split.x.values.offset[row, :length], split.x.values.pen[row, :length]
            yield from zip(offset[:-1], offset[1:], pen[:-1], pen[1:], strict=True)

    before, after, pen_before, pen_after = map(np.array, zip(*pairs(train), strict=True))
    design = np.column_stack([before, np.ones(len(before))])
    matrix = np.linalg.solve(design.T @ design, design.T @ after)
    residual = after - design @ matrix
    noise = np.cov(residual.T, bias=True)
    offsets, bits = train.x.values.offset[train.mask], train.x.values.pen[train.mask]
    first = stats.multivariate_normal(offsets.mean(0), np.cov(offsets.T, bias=True))
    base = (1 + bits.sum()) / (2 + len(bits))
    chance = [
        (1 + pen_after[pen_before == b].sum()) / (2 + (pen_before == b).sum()) for b in (0, 1)
    ]
    found = stroke_baselines(train, test, min_scale=FLOOR)["ar1-gaussian"]
    for row, length in enumerate(test.num_units):
        offset, pen = test.x.values.offset[row, :length], test.x.values.pen[row, :length]
        expected = first.logpdf(offset[0]) + stats.bernoulli.logpmf(pen[0], base)
        for t in range(1, length):
            mean = np.append(offset[t - 1], 1) @ matrix
            expected += stats.multivariate_normal.logpdf(offset[t], mean, noise)
            expected += stats.bernoulli.logpmf(pen[t], chance[int(pen[t - 1])])
        assert_allclose(found[row], expected, rtol=1e-10)
    joined = Strokes(offsets, bits)
    across = stroke_baselines(sequence_split("train", [joined]), test, min_scale=FLOOR)
    assert np.abs(across["ar1-gaussian"] - found).max() > 1e-3


def test_single_steps_leave_the_chain_at_its_first_step():
    """Identity: with nothing to regress on the chain is the independent law."""
    train = sequence_split("train", strokes(*[1] * 30))
    test = sequence_split("test", strokes(1, 1, seed=1))
    found = stroke_baselines(train, test, min_scale=FLOOR)
    assert_allclose(found["ar1-gaussian"], found["iid-gaussian"], rtol=1e-13)


def test_a_mixture_is_what_another_library_finds_from_there():
    """Oracles: scipy for the density; scikit-learn's EM, started at the fit, stays there (the
    likelihood gains less than the tolerance). Planted: weights in place of log-weights."""
    from sklearn.mixture import GaussianMixture

    random = np.random.default_rng(0)
    x = np.concatenate([random.normal(m, s, (300, 2)) for m, s in ((-4, 1), (0, 0.2), (5, 2))])
    fit = fit_mixture(x, 3, min_scale=FLOOR)
    parts = [
        stats.multivariate_normal.logpdf(x, mean, cov)
        for mean, cov in zip(fit.means, fit.covariances, strict=True)
    ]
    expected = np.log(np.exp(parts).T @ fit.weights)
    assert_allclose(fit.log_density(x), expected, rtol=1e-10)
    other = GaussianMixture(
        3,
        weights_init=fit.weights,
        means_init=fit.means,
        precisions_init=np.linalg.inv(fit.covariances),
        reg_covar=0,
        tol=1e-9,
        max_iter=500,
    ).fit(x)
    assert fit.log_density(x).mean() == pytest.approx(other.score(x), abs=1e-3)
    one = fit_mixture(x, 1, min_scale=FLOOR)
    assert fit.log_density(x).mean() > one.log_density(x).mean() + 0.5
    wrong = np.logaddexp.reduce(np.array(parts) + fit.weights[:, None])
    assert np.abs(wrong - expected).min() > 0.1
    with pytest.raises(UserError, match="A mixture of 0"):
        fit_mixture(x, 0, min_scale=FLOOR)


def test_offsets_on_a_line_buy_density_down_to_the_floor_and_no_further():
    """Closed form: a coordinate that is always 0 has the density 1 / (floor sqrt(2 pi)) there."""
    random = np.random.default_rng(0)
    x = np.column_stack([random.normal(size=400), np.zeros(400)])
    for floor in (0.1, 0.01):
        fit = fit_mixture(x, 1, min_scale=floor)
        expected = stats.norm.logpdf(x[:, 0], x[:, 0].mean(), x[:, 0].std())
        expected -= math.log(floor * math.sqrt(2 * math.pi))
        assert_allclose(fit.log_density(x), expected, rtol=1e-8)


def test_the_references_are_a_mean_absolute_error_and_a_cross_entropy(pens):
    """Oracle: loops over real steps, in the file's units; the errors by leaving rows out (the
    jackknife of a ratio agrees to first order). Planted: without the scale, another unit."""
    train, test = pens
    scale = OffsetScale(np.array([3.0, 4.0]), np.array([10.0, 50.0]))
    found = stroke_references(train, test, scale)
    mean = scale.undo(train.x.values.offset[train.mask].mean(0))
    errors = np.abs(scale.undo(test.x.values.offset[test.mask]) - mean).mean(1)
    error = found["predict-the-mean"]
    assert_allclose(error.value, errors.mean(), rtol=1e-12)
    assert (error.unit, error.bound) == ("data units per step", "none")
    assert (
        error.value
        > 5
        * stroke_references(train, test, OffsetScale(np.zeros(2), np.ones(2)))[
            "predict-the-mean"
        ].value
    )
    bits, new_bits = train.x.values.pen[train.mask], test.x.values.pen[test.mask]
    base = (1 + bits.sum()) / (2 + len(bits))
    entropy = found["pen-base-rate"]
    assert_allclose(entropy.value, -stats.bernoulli.logpmf(new_bits, base).mean(), rtol=1e-12)
    assert (entropy.unit, entropy.bound) == ("nats per step", "none")
    many = sequence_split("test", strokes(*np.arange(5, 65), seed=2))
    whole = stroke_references(train, many, scale)["predict-the-mean"]
    row = np.nonzero(many.mask)[0]
    errors = np.abs(scale.undo(many.x.values.offset[many.mask]) - mean).mean(1)
    without = [errors[row != left].mean() for left in range(60)]
    jackknife = math.sqrt(59 / 60 * np.square(without - np.mean(without)).sum())
    assert whole.standard_error == pytest.approx(jackknife, rel=0.1)


# Pianorolls


def every_chord(num_keys):
    """A split whose rows are the single-step rolls of every chord."""
    chords = np.array(list(itertools.product([0.0, 1.0], repeat=num_keys)), np.float32)
    return sequence_split("test", [chord[None] for chord in chords])


def test_the_laws_of_chords_sum_to_one():
    """Enumeration of the 8 chords of 3 keys. Planted: backing off only where a chord was never
    seen, without taking the mass from those that were, sums to more than one."""
    train = sequence_split("train", rolls(3, 6, 4, 1))
    found = pianoroll_baselines(train, every_chord(3))
    for nats in found.values():
        assert_allclose(np.exp(nats).sum(), 1, rtol=1e-12)
    keys = train.x.values[train.mask]
    seen = np.array([(keys == chord[0]).all(1).mean() for chord in every_chord(3).x.values])
    wrong = np.where(seen > 0, seen, np.exp(found["independent-keys"]))
    assert 0 < (seen > 0).sum() < 8
    assert wrong.sum() > 1.01


def test_a_chord_costs_its_count_and_its_share_of_what_was_left():
    """Oracle: counts by hand, scipy's Bernoulli. Two steps cost the sum of both."""
    roll = np.array([[1, 0], [1, 0], [1, 1], [1, 0]], np.float32)
    train = sequence_split("train", [roll[:3], roll[3:]])
    test = sequence_split("test", [np.array([[1, 0], [0, 1]], np.float32)])
    keys = stats.bernoulli([5 / 6, 2 / 6])
    independent = [keys.logpmf(chord).sum() for chord in ([1, 0], [0, 1])]
    found = pianoroll_baselines(train, test)
    assert_allclose(found["independent-keys"], [sum(independent)], rtol=1e-12)
    known = math.log((3 + 2 * math.exp(independent[0])) / 6)
    new = math.log(2 * math.exp(independent[1]) / 6)
    assert_allclose(found["unigram-chords"], [known + new], rtol=1e-12)
    assert_allclose(found["uniform"], [-4 * math.log(2)], rtol=1e-12)


@needs_data
def test_chords_of_the_chorales_cost_at_least_their_entropy():
    """Gibbs: no law of single keys, or of single chords, costs less on the test rolls than the one
    with their own frequencies. Independent keys come near it: both splits are of one law."""
    splits = load_pianorolls("jsb")
    found = pianoroll_baselines(splits["train"], splits["test"])
    per_step = {name: nats.sum() / 4_725 for name, nats in found.items()}
    keys = splits["test"].x.values[splits["test"].mask]
    of_keys = -stats.bernoulli.entropy(keys.mean(0)).sum()
    _, counts = np.unique(keys, axis=0, return_counts=True)
    assert_allclose(per_step["uniform"], -88 * math.log(2), rtol=1e-12)
    assert of_keys - 0.1 < per_step["independent-keys"] < of_keys
    assert per_step["independent-keys"] < per_step["unigram-chords"] < -stats.entropy(counts)


# Series


def test_a_student_t_has_scipys_density_and_no_other_fit_is_better():
    """Oracles: scipy's multivariate t; its likelihood falls when any parameter is moved a little."""
    random = np.random.default_rng(0)
    root = np.array([[1.0, 0.0, 0.0], [0.5, 2.0, 0.0], [0.0, 1.0, 0.1]])
    x = random.normal(size=(2000, 3)) @ root.T / np.sqrt(random.chisquare(5, (2000, 1)) / 5) + 3
    fit = fit_student_t(x, min_scale=FLOOR)
    law = stats.multivariate_t(fit.mean, fit.shape, df=fit.df)
    assert_allclose(fit.log_density(x), law.logpdf(x), rtol=1e-10)
    assert fit.df in (4.0, 5.0, 7.0)
    best = fit.log_density(x).mean()
    for moved in (
        replace(fit, mean=fit.mean + 0.02),
        replace(fit, shape=fit.shape * 1.05),
        replace(fit, shape=fit.shape / 1.05),
        replace(fit, df=2.5),
        replace(fit, df=50.0),
    ):
        assert moved.log_density(x).mean() < best
    gaussian = stats.multivariate_normal(x.mean(0), np.cov(x.T, bias=True))
    assert best > gaussian.logpdf(x).mean()


def test_series_are_scored_step_by_step():
    """Oracle: scipy's normal, as for strokes; one row of one dimension regressed by numpy.polyfit."""
    train, test = (
        sequence_split(n, series(40, dims=1, seed=s)) for n, s in (("train", 0), ("t", 1))
    )
    found = series_baselines(train, test, min_scale=FLOOR)
    x, new = train.x.values[0, :, 0], test.x.values[0, :, 0]
    assert_allclose(found["iid-gaussian"][0], stats.norm.logpdf(new, x.mean(), x.std()).sum())
    slope, shift = np.polyfit(x[:-1], x[1:], 1)
    noise = (x[1:] - slope * x[:-1] - shift).std()
    expected = stats.norm.logpdf(new[0], x.mean(), x.std())
    expected += stats.norm.logpdf(new[1:], slope * new[:-1] + shift, noise).sum()
    assert_allclose(found["ar1-gaussian"][0], expected, rtol=1e-10)


# Images by rows


def test_pixels_have_a_frequency_for_every_place():
    """Oracle: scipy's Bernoulli at each place, smoothed by one image of either kind; grey values are
    an expectation over their binarisations, enumerated."""
    random = np.random.default_rng(0)
    train = sequence_split("train", list(random.integers(0, 2, (9, 2, 2)).astype(float)))
    test = sequence_split("test", list(random.random((4, 2, 2))))
    frequency = (1 + train.x.values.sum(0)) / 11
    found = pixel_row_baselines(train, test)
    for row, grey in enumerate(test.x.values):
        expected = 0.0
        for bits in itertools.product((0, 1), repeat=4):
            image = np.array(bits).reshape(2, 2)
            chance = np.where(image, grey, 1 - grey).prod()
            expected += chance * stats.bernoulli.logpmf(image, frequency).sum()
        assert_allclose(found["independent-pixel"][row], expected, rtol=1e-12)
    assert_allclose(found["uniform"], -4 * math.log(2), rtol=1e-14)
    ragged = sequence_split("test", [np.zeros((2, 2)), np.zeros((1, 2))])
    with pytest.raises(ValueError, match="padded rows"):
        pixel_row_baselines(train, ragged)


# What is printed


def test_estimates_are_means_over_sequences_with_their_errors(pens):
    """Oracle: scipy's standard error of the mean; the same for every row leaves none."""
    _, test = pens
    nats = {"some": np.array([-3.0, -4.5, 1.0]), "same": np.full(3, -543.4273848948)}
    found = baseline_estimates(nats, test)
    assert_allclose(found["some"].value, nats["some"].mean(), rtol=1e-15)
    assert_allclose(found["some"].standard_error, stats.sem(nats["some"]), rtol=1e-12)
    assert found["same"].standard_error == 0.0
    assert str(found["some"]).endswith("nats per sequence, exact")
    assert found["some"].split == "test (a law)"
    assert baseline_estimates({"one": np.zeros(1)}, test)["one"].standard_error is None
