"""Pen strokes: the scale and its inverse, pictures, thinning, cutting, splits, and what is refused."""

import math
import os

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.sets.omniglot import load_omniglot
from tightbound.data.strokes import (
    OffsetScale,
    Strokes,
    positions,
    stroke_rows,
    stroke_splits,
    thinned,
    windows,
)
from tightbound.errors import UserError

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)


def path_of(num_steps, seed=0):
    """A path of whole-number offsets, so that sums are exact, which starts at (0, 0)."""
    random = np.random.default_rng(seed)
    points = np.zeros((num_steps, 3))
    points[1:, :2] = random.integers(-40, 41, (num_steps - 1, 2)) + 3
    points[:, 2] = random.random(num_steps) < 0.3
    points[-1, 2] = 1
    return points


def strokes_of(*lengths):
    return stroke_rows("train", [path_of(length, seed) for seed, length in enumerate(lengths)])


# The scale


def test_normalised_training_offsets_have_mean_zero_and_scale_one():
    """Identity, over real points only. Planted: statistics that count padding leave another scale."""
    corpus = strokes_of(5, 30, 11)
    scale = OffsetScale.of(corpus)
    normalised = np.concatenate([scale.apply(s.offset) for s in corpus])
    assert_allclose(normalised.mean(0), 0, atol=1e-14)
    assert_allclose(normalised.std(0), 1, rtol=1e-14)
    padded = np.concatenate([s.offset for s in corpus] + [np.zeros((44, 2))])
    counted = OffsetScale(padded.mean(0), padded.std(0))
    assert abs(np.concatenate([counted.apply(s.offset) for s in corpus]).std() - 1) > 0.2


@given(
    st.lists(st.tuples(*[st.floats(-1e4, 1e4)] * 2), min_size=1, max_size=5),
    st.floats(-100, 100),
    st.floats(0.01, 100),
)
def test_undo_is_the_inverse_of_apply(offsets, mean, scale):
    """Identity. Planted: (d + mean) * scale, which gave samples that no one could read."""
    affine = OffsetScale(np.array([mean, 1.0]), np.array([scale, 2.0]))
    offsets = np.array(offsets)
    found = affine.undo(affine.apply(offsets))
    assert_allclose(found, offsets, rtol=1e-9, atol=1e-9)
    wrong = (affine.apply(offsets) + affine.mean) * affine.scale
    assert np.abs(wrong - offsets)[:, 1].min() > 0.9  # y: mean 1, scale 2


def test_jumps_are_clipped_before_the_statistics_are_taken():
    """Oracle: numpy on offsets clipped by hand. Planted: statistics first, where one jump sets the scale."""
    corpus = strokes_of(200)
    offset = np.array(corpus[0].offset)
    offset[17] = [17_720.0, -9_000.0]
    corpus = [Strokes(offset, corpus[0].pen)]
    scale = OffsetScale.of(corpus, clip=100.0)
    by_hand = np.minimum(np.maximum(offset, -100), 100)
    assert_allclose(scale.scale, by_hand.std(0), rtol=1e-14)
    assert_allclose(scale.undo(scale.apply(offset)), by_hand, rtol=1e-12, atol=1e-12)
    assert OffsetScale.of(corpus).scale.min() > 10 * scale.scale.max()


@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan, math.inf])
def test_a_clip_that_is_no_positive_number_is_refused(clip):
    with pytest.raises(UserError, match="give a positive number or none"):
        OffsetScale.of(strokes_of(4), clip=clip)


def test_offsets_without_a_scale_are_refused():
    flat = [Strokes(np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([0.0, 1.0]))]
    with pytest.raises(UserError, match="The y offsets of the training split are all equal"):
        OffsetScale.of(flat)
    with pytest.raises(UserError, match="No training sequences"):
        OffsetScale.of([])


# Pictures


def test_polylines_pass_through_the_points_and_break_at_lifted_pens():
    """Oracle: points written down by hand; the first offset leads to the first point drawn.
    Planted: a picture that skips the first offset is shifted."""
    offset = np.array([[1.0, 1.0], [1.0, 0.0], [5.0, 5.0], [0.0, -1.0], [2.0, 2.0]])
    strokes = Strokes(offset, np.array([0.0, 1.0, 0.0, 1.0, 0.0]))
    first, second, third = positions(strokes)
    assert_array_equal(first, [[1, 1], [2, 1]])
    assert_array_equal(second, [[7, 6], [7, 5]])
    assert_array_equal(third, [[9, 7]])  # the pen is still down at the end
    assert not np.array_equal(np.cumsum(offset[1:], axis=0)[0], first[1])


def test_one_point_is_one_line_of_one_point():
    (line,) = positions(Strokes(np.array([[3.0, 4.0]]), np.array([1.0])))
    assert_array_equal(line, [[3, 4]])


# Thinning


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 100))
def test_thinning_keeps_points_where_they_are_and_the_ends_of_strokes(num_steps, every, seed):
    """Identity: every polyline is the old one at steps 0, every, 2 every, ... and its last point."""
    (whole,) = stroke_rows("train", [path_of(num_steps, seed)])
    thin = thinned(whole, every)
    old_lines, new_lines = positions(whole), positions(thin)
    assert len(old_lines) == len(new_lines)
    for old, new in zip(old_lines, new_lines, strict=True):
        kept = sorted({*range(0, len(old), every), len(old) - 1})
        assert_array_equal(new, old[kept])
    assert_array_equal(thin.offset[0], whole.offset[0])
    assert thin.pen.sum() == whole.pen.sum()


def test_taking_every_fifth_row_would_lose_strokes():
    """Planted: rows taken without summing what lies between them or minding the pen."""
    (whole,) = strokes_of(60)
    naive = Strokes(whole.offset[::5], whole.pen[::5])
    assert naive.pen.sum() != whole.pen.sum()
    assert not np.array_equal(np.sum(naive.offset, axis=0), np.sum(whole.offset, axis=0))
    assert_array_equal(np.sum(thinned(whole, 5).offset, axis=0), np.sum(whole.offset, axis=0))


def test_a_path_that_ends_with_the_pen_down_keeps_its_end():
    offset = np.arange(14.0).reshape(7, 2)
    thin = thinned(Strokes(offset, np.zeros(7)), 4)
    assert_array_equal(thin.offset.sum(0), offset.sum(0))
    assert len(thin.pen) == 3
    with pytest.raises(UserError, match="Every 0th point was asked for"):
        thinned(Strokes(offset, np.zeros(7)), 0)


# Cutting


@given(st.integers(1, 50), st.integers(1, 20))
def test_windows_are_the_path_cut_into_few_even_pieces(num_steps, max_length):
    """Identity: joined they are the path. Oracle: ceil(n / max) pieces, no two lengths 2 apart."""
    (whole,) = strokes_of(num_steps)
    pieces = windows(whole, max_length)
    lengths = [len(piece.pen) for piece in pieces]
    assert_array_equal(np.concatenate([piece.offset for piece in pieces]), whole.offset)
    assert_array_equal(np.concatenate([piece.pen for piece in pieces]), whole.pen)
    assert len(pieces) == math.ceil(num_steps / max_length)
    assert max(lengths) <= max_length
    assert max(lengths) - min(lengths) <= 1


def test_a_whole_path_is_not_cut():
    (whole,) = strokes_of(9)
    assert windows(whole, None) == [whole]
    with pytest.raises(UserError, match="at most 0 steps"):
        windows(whole, 0)


# Splits


def test_splits_are_normalised_by_the_training_split_alone():
    """Oracle: the scale of the training paths, applied by hand. Planted: the test split's own
    statistics give other numbers. Padding is zero and masked, and pen bits are left alone."""
    corpus = {
        "train": strokes_of(9, 4, 1),
        "valid": strokes_of(5),
        "test": strokes_of(3, 8),
    }
    splits, scale = stroke_splits(corpus)
    again = OffsetScale.of(corpus["train"])
    assert_array_equal(scale.mean, again.mean)
    own = OffsetScale.of(corpus["test"])
    for name, paths in corpus.items():
        split = splits[name]
        assert_array_equal(split.num_units, [len(path.pen) for path in paths])
        assert_array_equal(split.mask, split.x.mask)
        values = split.x.values
        assert values.offset.dtype == values.pen.dtype == np.float32
        assert not values.offset[~split.mask].any()
        for row, path in enumerate(paths):
            expected = (path.offset - again.mean) / again.scale
            assert_allclose(values.offset[row, : len(path.pen)], expected, rtol=1e-6, atol=1e-6)
            assert_array_equal(values.pen[row, : len(path.pen)], path.pen)
    wrong = own.apply(corpus["test"][0].offset)
    assert np.abs(wrong - splits["test"].x.values.offset[0, :3]).max() > 0.05
    assert splits["test"].description == "test (normalised offsets)"


def test_windows_keep_the_group_of_their_path_and_the_law_says_what_was_done():
    """Oracle: group 4 has ceil(9 / 4) windows, group 2 one."""
    corpus = {"train": strokes_of(9, 4)}
    splits, _ = stroke_splits(
        corpus,
        clip=20.0,
        max_length=4,
        groups={"train": np.array([4, 2])},
        group_names=tuple("abcde"),
    )
    train = splits["train"]
    assert train.groups.tolist() == [4, 4, 4, 2]
    assert train.group_names == tuple("abcde")
    assert train.law == "normalised offsets, clipped at 20, pieces of at most 4 steps"
    thin, _ = stroke_splits(corpus, every=2)
    assert thin["train"].law == "normalised offsets, 1 point in 2"


def test_a_batch_of_strokes_maps_to_single_steps():
    """The record has no batch axis of its own: `vmap` over rows and time gives one step at a time."""
    splits, _ = stroke_splits({"train": strokes_of(5, 3)})
    values = splits["train"].take(np.array([1, 0])).x.values

    def one(step):
        return Strokes(step.offset, step.pen).offset.sum() + step.pen

    assert jax.vmap(jax.vmap(one))(values).shape == (2, 5)


# What is refused


def test_a_single_step_is_a_sequence():
    splits, _ = stroke_splits({"train": strokes_of(6), "test": strokes_of(1)})
    assert splits["test"].num_units.tolist() == [1]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_offset_that_is_not_finite_is_refused_by_its_row(value):
    rows = [path_of(4), path_of(6)]
    rows[1][3, 1] = value
    with pytest.raises(
        UserError, match=f"Row 1 of the test split has the offset {value} at step 3"
    ):
        stroke_rows("test", rows)


@pytest.mark.parametrize("value", [2.0, -1.0, 0.5, math.nan])
def test_a_pen_that_is_not_a_bit_is_refused_by_its_row(value):
    rows = [path_of(4), path_of(6), path_of(3)]
    rows[2][1, 2] = value
    with pytest.raises(UserError, match=f"Row 2 of the valid split has the pen {value} at step 1"):
        stroke_rows("valid", rows)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (np.zeros((0, 3)), "Row 1 of the train split is an empty sequence"),
        (
            np.zeros((4, 2)),
            r"Row 1 of the train split is an array of type float64 and shape \(4, 2\)",
        ),
        (np.zeros(3), r"shape \(3,\)"),
        (np.array([["a", "b", "c"]]), "type <U1"),
    ],
)
def test_rows_that_are_no_strokes_are_refused(row, sentence):
    with pytest.raises(UserError, match=sentence):
        stroke_rows("train", [path_of(4), row])


@needs_data
def test_drawing_a_normalised_row_gives_the_points_of_the_file():
    """Oracle: running sums of the file's own whole numbers, y turned upwards."""
    splits, scale, _ = load_omniglot(max_rows=50)
    split = splits["test"]
    path = os.path.join(os.environ["TIGHTBOUND_DATA"], "omniglot_strokes", "omniglot_stroke3.npz")
    with np.load(path) as arrays:
        points = arrays["test_points"].astype(float)
        ends = np.cumsum(arrays["test_lengths"])
    for row, (start, end) in enumerate(zip(np.append(0, ends), ends[:50], strict=False)):
        steps = int(split.num_units[row])
        offset = scale.undo(split.x.values.offset[row, :steps])
        lines = positions(Strokes(offset, split.x.values.pen[row, :steps]))
        expected = np.cumsum(points[start:end, :2] * [1, -1], axis=0)
        assert_allclose(np.concatenate(lines), expected, atol=0.01)
        assert len(lines) == points[start:end, 2].sum()
