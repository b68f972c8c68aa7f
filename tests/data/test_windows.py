"""Windows hold every step of every row in order; exact throughout."""

from itertools import islice, pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.batch import epoch_rows, rows
from tightbound.data.sequences import sequence_split
from tightbound.data.windows import epochs_of_windows, window_of, windowed_batches
from tightbound.errors import UserError

LENGTHS = [7, 4, 1, 9, 3, 7, 2]
STRIDE, SPAN = 2, 3


@pytest.fixture(scope="module")
def split():
    """Step t of row r holds 100 r + t + 1, so that every value says where it is from."""
    rows = [100.0 * row + 1 + np.arange(length) for row, length in enumerate(LENGTHS)]
    return sequence_split("train", rows)


def num_windows(longest):
    """By hand: windows end at span, span + stride, ... until the longest row has ended."""
    return next(w for w in range(1, 99) if SPAN + (w - 1) * STRIDE >= longest)


def windows_of_an_epoch(split, seed=0):
    rows = epoch_rows(split, 2, seed, 0)
    total = sum(num_windows(max(LENGTHS[row] for row in batch)) for batch in rows)
    return list(islice(windowed_batches(split, 2, STRIDE, SPAN, seed=seed), total))


def counted(window):
    """What its last `STRIDE` steps hold, of the first window all."""
    values = window.x.values if window.first_clock == 0 else window.x.values[:, SPAN - STRIDE :]
    mask = window.mask if window.first_clock == 0 else window.mask[:, SPAN - STRIDE :]
    return values[mask]


def test_every_step_of_every_row_counts_once_in_an_epoch(split):
    """Oracle: the values of the epoch's rows, each telling its place. Planted: all steps of all
    windows, of which those that two share come twice."""
    windows = windows_of_an_epoch(split)
    rows = epoch_rows(split, 2, 0, 0).ravel()
    expected = np.sort(np.concatenate([split.x.values[row][split.mask[row]] for row in rows]))
    assert_array_equal(np.sort(np.concatenate([counted(w) for w in windows])), expected)
    doubled = np.concatenate([w.x.values[w.mask] for w in windows])
    assert len(doubled) > len(expected)


def test_rows_keep_their_places_until_the_longest_has_ended_and_begin_together(split):
    """Law: the clock goes up by the stride with the rows unchanged, and new rows begin at 0."""
    windows = windows_of_an_epoch(split)
    for before, now in pairwise(windows):
        if now.first_clock == 0:
            assert max(LENGTHS[row] for row in before.rows) <= before.first_clock + SPAN
        else:
            assert now.first_clock == before.first_clock + STRIDE
            assert_array_equal(now.rows, before.rows)
            assert_array_equal(now.x.values[:, : SPAN - STRIDE], before.x.values[:, STRIDE:])
    assert windows[0].first_clock == 0
    assert {w.x.values.shape for w in windows} == {(2, SPAN)}


def test_padding_holds_the_first_observation_of_its_row(split):
    """By hand. Zeros there could be outside the support of x."""
    window = window_of(split, np.array([1, 2]), 2, SPAN)
    assert_array_equal(window.x.values, [[103.0, 104.0, 101.0], [201.0, 201.0, 201.0]])
    assert_array_equal(window.mask, [[True, True, False], [False, False, False]])
    assert_array_equal(window.x.mask, window.mask)
    assert_array_equal(window.num_units, [2, 0])


@pytest.mark.parametrize("start", [1, 6, 25])
def test_the_windows_from_a_step_on_are_those_of_an_uninterrupted_run(split, start):
    """Oracle: the same stream from its beginning, over several epochs. Planted: another seed."""
    whole = list(islice(windowed_batches(split, 2, STRIDE, SPAN, seed=3), start + 12))

    def from_start(seed):
        return list(islice(windowed_batches(split, 2, STRIDE, SPAN, seed=seed, start=start), 12))

    for found, expected in zip(from_start(3), whole[start:], strict=True):
        assert_array_equal(found.rows, expected.rows)
        assert_array_equal(found.first_clock, expected.first_clock)
        assert_array_equal(found.x.values, expected.x.values)
    other = np.stack([window.rows for window in from_start(4)])
    assert (other != np.stack([window.rows for window in whole[start:]])).any()


def test_epochs_count_windows(split):
    """Oracle: the windows of the first epoch, counted."""
    total = len(windows_of_an_epoch(split))
    found = [
        epochs_of_windows(split, 2, STRIDE, SPAN, seed=0, step=step)
        for step in (0, 1, total - 1, total)
    ]
    assert_allclose(found, [0, 1 / total, 1 - 1 / total, 1], rtol=1e-15)


def test_rows_without_steps_have_no_windows():
    """The sentence."""
    split = rows("train", np.zeros((4, 3)))
    with pytest.raises(UserError, match="rows of the train split are no sequences: they have no"):
        window_of(split, np.arange(2), 0, 1)
