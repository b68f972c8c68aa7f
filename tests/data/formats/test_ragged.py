"""Sequences stored end to end: where they are cut, and lengths that do not fit."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tightbound.data.catalogue import DataError
from tightbound.data.formats.ragged import cut_rows, read_named


def test_row_i_begins_where_the_rows_before_it_end():
    """Oracle: the lists that were joined. Planted: cutting at the sums from the second on, which
    merges the first two rows and leaves an empty last one."""
    rows = [np.arange(3), np.arange(5), np.arange(0), np.arange(1)]
    values, lengths = np.concatenate(rows), np.array([len(row) for row in rows], np.int32)
    for found, row in zip(cut_rows(values, lengths), rows, strict=True):
        assert_array_equal(found, row)
    wrong = np.split(values, np.cumsum(lengths)[1:])
    assert len(wrong[0]) == 8
    assert len(wrong[-1]) == 0


@pytest.mark.parametrize(
    ("lengths", "sentence"),
    [
        (np.array([3, 5]), "do not add up to the 9 steps"),
        (np.array([10, -1]), "lengths from -1 to 10 do not add up"),
        (np.array([3, 7]), "do not add up"),
        (np.array([2**64 - 1, 10], np.uint64), "do not add up"),
        (np.array([[9]]), r"shape \(1, 1\) are no list of whole numbers"),
        (np.array([9.0]), "type float64"),
        (np.array([], np.int32), r"shape \(0,\)"),
    ],
)
def test_lengths_of_something_else_are_refused(lengths, sentence):
    with pytest.raises(ValueError, match=sentence):
        cut_rows(np.arange(9), lengths)


def test_a_file_without_the_array_or_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, here=np.arange(3), other=np.arange(4))
    assert_array_equal(read_named(path, ["here"], advice="x")["here"], np.arange(3))
    with pytest.raises(DataError, match=r"own.npz has no array 'gone'. It must be so."):
        read_named(path, ["here", "gone"], advice="It must be so.")
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"own.npz cannot be read: .* It must be so."):
        read_named(path, ["here"], advice="It must be so.")
