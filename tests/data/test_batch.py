"""Batches cut to a few lengths: few shapes, every row, nothing real lost, the same after a resume."""

from dataclasses import replace
from itertools import islice

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tightbound.data.batch import chunks, rows, rows_of, training_batches
from tightbound.data.sequences import sequence_split
from tightbound.data.strokes import Strokes
from tightbound.errors import UserError

LENGTHS = (16, 32, 64)


@pytest.fixture(scope="module")
def split():
    """Fifty rows of 1 to 64 steps, most of them short; each value says which row and step it is."""
    random = np.random.default_rng(0)
    lengths = np.minimum(1 + random.geometric(0.06, 50), 64)
    lengths[:3] = 1, 16, 64
    rows = [
        Strokes(row + np.arange(2.0 * n).reshape(n, 2), np.full(n, row + 0.5))
        for row, n in enumerate(lengths)
    ]
    return replace(sequence_split("train", rows), lengths=LENGTHS)


def test_batches_of_mixed_lengths_have_at_most_as_many_shapes_as_there_are_lengths(split):
    """Oracle: counting over two epochs. Planted: without lengths all are as wide as the split."""
    per_epoch = len(split) // 5
    batches = list(islice(training_batches(split, 5, seed=0), 2 * per_epoch))
    shapes = {batch.mask.shape for batch in batches}
    assert shapes <= {(5, length) for length in LENGTHS}
    assert len(shapes) == 3
    for batch in batches:
        assert {leaf.shape[:2] for leaf in jax.tree.leaves(batch.x)} == {batch.mask.shape}
    for epoch in (batches[:per_epoch], batches[per_epoch:]):
        assert sorted(np.concatenate([batch.rows for batch in epoch])) == list(range(50))
    whole = islice(training_batches(replace(split, lengths=()), 5, seed=0), per_epoch)
    assert {batch.mask.shape for batch in whole} == {(5, 64)}


def test_nothing_real_is_cut_away_and_no_smaller_length_would_do(split):
    """Oracle: the rows of the split itself. Planted: the next smaller length loses real steps."""
    for batch in islice(training_batches(split, 5, seed=1), 10):
        width = batch.mask.shape[1]
        assert_array_equal(batch.mask.sum(1), split.num_units[batch.rows])
        assert_array_equal(batch.x.values.offset, split.x.values.offset[batch.rows][:, :width])
        assert_array_equal(batch.x.values.pen, split.x.values.pen[batch.rows][:, :width])
        assert_array_equal(batch.x.mask, batch.mask)
        smaller = max((n for n in LENGTHS if n < width), default=0)
        assert split.mask[batch.rows][:, :smaller].sum() < batch.mask.sum()


def test_a_resumed_run_gets_the_batches_it_would_have_got(split):
    """Identity, across the end of an epoch, and the rows are those of the split without lengths."""
    all_batches = list(islice(training_batches(split, 5, seed=3), 14))
    whole = list(islice(training_batches(replace(split, lengths=()), 5, seed=3), 14))
    for start in (0, 4, 10, 13):
        for batch, expected in zip(
            training_batches(split, 5, seed=3, start=start), all_batches[start:], strict=False
        ):
            for leaf, other in zip(jax.tree.leaves(batch), jax.tree.leaves(expected), strict=True):
                assert_array_equal(leaf, other)
    for batch, uncut in zip(all_batches, whole, strict=True):
        assert_array_equal(batch.rows, uncut.rows)


def test_chunks_are_cut_too_and_hold_the_row_that_fills_up_the_last(split):
    """Oracle: row 0 fills up the last chunk; given the longest row as row 0 that chunk stays wide."""
    seen = []
    for batch, num_rows in chunks(split, 8):
        assert batch.mask.shape[1] in LENGTHS
        assert_array_equal(batch.mask.sum(1), split.num_units[batch.rows])
        seen += batch.rows[:num_rows].tolist()
    assert seen == list(range(50))
    turned = rows_of(split, np.array([2, 0, 1]))
    last, num_rows = list(chunks(turned, 2))[-1]
    assert (num_rows, last.mask.shape) == (1, (2, 64))


def test_a_batch_longer_than_every_length_stays_whole(split):
    narrow = replace(split, lengths=(8,))
    widths = {batch.mask.shape[1] for batch, _ in chunks(narrow, 1)}
    assert widths == {8, 64}


@pytest.mark.parametrize("lengths", [(32, 16), (16, 16), (0, 16)])
def test_lengths_out_of_order_are_refused(split, lengths):
    with pytest.raises(UserError, match="the smallest first"):
        replace(split, lengths=lengths)


def test_a_split_without_a_time_axis_cannot_be_cut():
    pictures = rows("train", np.zeros((4, 10)))
    with pytest.raises(UserError, match=r"not every array in it begins with the axes \(4, 1\)"):
        replace(pictures, lengths=(5,))
