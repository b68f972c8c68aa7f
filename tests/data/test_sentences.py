"""Rows of symbols: padded and never cut, counted where dropped, every rearrangement listed."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tightbound.data.catalogue import DataError
from tightbound.data.formats.conllu import find_cycle
from tightbound.data.sentences import Dropped, num_swaps, piece_heads, sentences, swaps_of
from tightbound.errors import UserError

ROWS = [[4, 5], [], [6, 4, 6], [7, 7, 7], [4, 5, 6, 7, 4]]
TREES = [[-1, 0], [], [1, -1, 1], [-1, 0, 1], [-1, 0, 1, 2, 3]]


def test_sentences_are_padded_and_the_dropped_ones_counted():
    """Oracle: the rows by hand. Nothing is cut: the row of five is gone, not shortened."""
    split, dropped = sentences("train", ROWS, max_length=4, law="a law", num_given=1)
    np.testing.assert_array_equal(split.x.tokens, [[4, 5, 0, 0], [6, 4, 6, 0], [7, 7, 7, 0]])
    np.testing.assert_array_equal(split.mask, split.x.tokens > 0)
    np.testing.assert_array_equal(split.num_units, [2, 3, 3])
    np.testing.assert_array_equal(split.x.num_given, [1, 1, 1])
    assert split.x.heads is None
    assert split.x.swaps is None
    assert split.description == "train (a law)"
    assert dropped == Dropped(kept=3, empty=1, too_long=1)
    assert str(dropped) == (
        "3 of 5 sentences kept; dropped: 1 empty, 1 too long, 0 with too many equal words"
    )


def test_trees_come_with_all_rearrangements_of_equal_words():
    """Oracle: the rearrangements by hand; 7 7 7 has six and goes where two are allowed."""
    split, dropped = sentences("train", ROWS, max_length=4, heads=TREES, max_swaps=2)
    np.testing.assert_array_equal(split.x.heads, [[-1, 0, -1, -1], [1, -1, 1, -1]])
    np.testing.assert_array_equal(
        split.x.swaps, [[[0, 1, 2, 3], [-1] * 4], [[0, 1, 2, 3], [2, 1, 0, 3]]]
    )
    assert dropped == Dropped(kept=2, empty=1, too_long=1, too_many_swaps=1)
    every, _ = sentences("train", ROWS, max_length=5, heads=TREES)
    assert every.x.swaps.shape == (4, 6, 5)
    batch = every.take(np.array([2, 0]))
    np.testing.assert_array_equal(batch.x.swaps, every.x.swaps[[2, 0]])


@settings(deadline=None)
@given(st.lists(st.integers(4, 6), min_size=1, max_size=5), st.integers(0, 2))
def test_the_rearrangements_are_all_permutations_that_leave_the_words_as_they_are(tokens, padding):
    """Oracle: every permutation of the positions, tried."""
    expected = {
        (*way, *range(len(tokens), len(tokens) + padding))
        for way in itertools.permutations(range(len(tokens)))
        if [tokens[position] for position in way] == tokens
    }
    ways = [tuple(way) for way in swaps_of(tokens, len(tokens) + padding)]
    assert ways[0] == tuple(range(len(tokens) + padding))
    assert len(ways) == len(set(ways)) == num_swaps(tokens)
    assert set(ways) == expected


def test_pieces_hang_from_the_first_piece_of_their_word():
    """Oracle: by hand. `un+like+ly` is the root, `sto+ry` its child, `.` a child of `story`."""
    assert piece_heads([-1, 0, 1], [0, 0, 0, 1, 1, 2]) == [-1, 0, 0, 0, 3, 3]


@given(st.data())
def test_a_tree_over_pieces_is_the_tree_over_words_with_leaves(data):
    """Oracle: contracting the pieces of each word gives the words' heads back, and no cycle."""
    length = data.draw(st.integers(1, 6))
    heads = [data.draw(st.integers(-1, word - 1)) for word in range(length)]
    order = data.draw(st.permutations(range(length)))  # heads may come after their words
    moved = [order[heads[word]] if heads[word] >= 0 else -1 for word in np.argsort(order)]
    word_of = [word for word in range(length) for _ in range(data.draw(st.integers(1, 3)))]
    pieces = piece_heads(moved, word_of)
    assert not find_cycle(pieces)
    for word in range(length):
        first, *others = (piece for piece, of in enumerate(word_of) if of == word)
        assert (word_of[pieces[first]] if pieces[first] >= 0 else -1) == moved[word]
        assert all(pieces[piece] == first for piece in others)


@pytest.mark.parametrize(
    ("rows", "arguments", "sentence"),
    [
        (
            [[4, 0]],
            {},
            "Row 0 of the train split holds the symbol 0, but words have symbols from 3",
        ),
        ([[4]], {"max_length": 0}, "both limits must be at least 1"),
        ([[4]], {"max_swaps": 0}, "both limits must be at least 1"),
        ([[4]], {"num_given": 2}, "2 leading tokens were to be given, but .* a sentence of 1"),
        ([[4]], {"num_given": -1}, "-1 leading tokens"),
        ([[4]], {"heads": []}, "has 1 rows and 0 trees"),
        ([[4]], {"heads": [[1]]}, r"Row 0 .* has 1 tokens and the heads \[1\]"),
        ([[4]], {"heads": [[-1, 0]]}, "Each token needs one"),
    ],
)
def test_calls_that_cannot_be_meant_are_refused(rows, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        sentences("train", rows, **{"max_length": 4, **arguments})


def test_a_split_without_rows_is_refused_with_the_counts():
    with pytest.raises(DataError, match=r"would be empty: 0 of 2 .* 1 empty, 1 too long"):
        sentences("valid", [[], [4, 4]], max_length=1)


def test_rearrangements_without_number_are_refused_before_they_are_made():
    """Planted: 30 equal words, whose 30! rearrangements no memory holds."""
    with pytest.raises(
        DataError, match="rearranged in 265,252,859,812,191,058,636,308,480,000,000"
    ):
        sentences("train", [[4] * 30], max_length=30, heads=[[-1] * 30])


def test_importing_the_text_data_computes_nothing():
    """Oracle: a JAX without any platform, where the first computation fails."""
    modules = (
        "sentences",
        "vocabulary",
        "formats.conllu",
        "sets.english_web",
        "sets.multi30k",
        "toys.grammar",
    )
    code = "; ".join(f"import tightbound.data.{module}" for module in modules)
    environment = {**os.environ, "JAX_PLATFORMS": "none-such"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)
