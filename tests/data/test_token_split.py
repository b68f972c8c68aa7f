"""Rows of tokens: nothing is lost or invented where a sequence does not fit, and what is a unit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tightbound.data.batch import chunks
from tightbound.data.catalogue import DataError
from tightbound.data.sentences import BOS, EOS, PAD
from tightbound.data.token_split import Layout, scored, token_splits
from tightbound.errors import UserError

TEXTS = st.text("abc", min_size=1, max_size=12)
LENGTHS = st.integers(3, 8)


def rows(text, layout):
    """The rows of a text, whose letters are the symbols 4, 5 and 6."""
    return [
        layout.row(["abc".index(letter) + 4 for letter in piece], ended)
        for piece, ended in layout.pieces(text)
    ]


def joined(parts):
    return [symbol for part in parts for symbol in part]


@given(TEXTS, LENGTHS)
def test_windows_hold_the_text_and_its_end_once(text, length):
    """Oracle: the text, its end behind it."""
    found = rows(text, Layout(end=True, excess="windows", max_length=length))
    assert joined(found) == rows(text, Layout(end=True, excess="drop"))[0]
    assert all(0 < len(row) <= length for row in found)
    assert all(len(row) == length for row in found[:-1])
    without_end = joined(rows(text, Layout(end=False, excess="windows", max_length=length)))
    assert without_end == rows(text, Layout(end=False, excess="drop"))[0]


@given(TEXTS, LENGTHS)
def test_a_sentence_that_does_not_fit_with_its_end_is_dropped(text, length):
    whole = rows(text, Layout(end=True, excess="drop"))
    assert rows(text, Layout(end=True, excess="drop", max_length=length)) == (
        whole if len(text) < length else []
    )


@given(TEXTS, LENGTHS, st.booleans())
def test_what_is_cut_has_no_end_unless_one_is_claimed(text, length, begin):
    """Oracle: the first tokens of the whole row; only the rules "original" put an end there."""
    (whole,) = rows(text, Layout(end=True, excess="drop", begin=begin))
    (cut,) = rows(text, Layout(end=True, excess="cut", max_length=length, begin=begin))
    (claimed,) = rows(
        text, Layout(end=True, excess="cut", max_length=length, begin=begin, always_end=True)
    )
    assert cut == whole[:length]
    assert (EOS in cut) == (len(whole) <= length)
    assert claimed == (whole if len(whole) <= length else [*whole[: length - 1], EOS])
    assert (cut[0] == BOS) == begin


def test_units_are_the_tokens_that_are_predicted():
    """Oracle: counted by hand. The end is one, begin and padding are none."""
    given_begin = {name: [[BOS, 4, 5, EOS], [BOS, 4]] for name in ("train", "valid", "test")}
    split = token_splits(given_begin, law="by hand")["test"]
    np.testing.assert_array_equal(split.x.values, [[BOS, 4, 5, EOS], [BOS, 4, PAD, PAD]])
    np.testing.assert_array_equal(split.num_units, [3, 1])
    np.testing.assert_array_equal(scored(split).sum(1), split.num_units)
    np.testing.assert_array_equal(split.x.mask, split.mask)
    assert split.description == "test (by hand)"


def test_few_widths_serve_all_batches():
    """Oracle: no batch is wider than the smallest of the widths that holds its longest row; widths
    that would save less than a tenth are left out."""
    lengths = [3] * 5 + [6] * 4 + [10] * 4 + [11] * 3
    split = token_splits(
        {name: [[4] * length for length in lengths] for name in ("train", "valid")}, law=""
    )["train"]
    assert split.lengths == (3, 6, 11)
    assert [batch.mask.shape[1] for batch, _ in chunks(split, 4)] == [3, 6, 11, 11]
    equal = token_splits({"train": [[4, 5]] * 3}, law="")["train"]
    assert equal.lengths == ()


def test_a_split_without_rows_is_refused():
    with pytest.raises(DataError, match=r"The test split would be empty: no sequence fits\. Raise"):
        token_splits({"train": [[4]], "test": []}, law="")


def test_a_length_that_leaves_no_room_for_a_token_is_refused():
    with pytest.raises(UserError, match=r"at most 2 tokens were asked for, but .* they need 3\."):
        Layout(end=True, excess="cut", max_length=2, begin=True)
