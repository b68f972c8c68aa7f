"""Toys: each row is what its name says, and held-out letters are never trained on."""

import numpy as np
import pytest

from tightbound.data.sentences import UNKNOWN
from tightbound.data.toys.strings import (
    doubling,
    doubling_toy,
    prefix_doubling,
    prefix_doubling_toy,
    remap,
    remap_toy,
    shifted,
    symbol_images,
)
from tightbound.data.vocabulary import letter_vocabulary
from tightbound.errors import UserError

LETTERS = letter_vocabulary("abcxyz")
TOYS = [doubling_toy, prefix_doubling_toy, remap_toy]


def texts(split, vocabulary=LETTERS):
    return [vocabulary.decode(row) for row in split.x.tokens]


def test_doubling_repeats_every_letter():
    """Oracle: the strings themselves."""
    split = doubling("abc", 3, vocabulary=LETTERS)
    assert texts(split) == ["a" * 8, "b" * 8, "c" * 8]
    assert split.mask.all()
    assert texts(doubling("az", 0, vocabulary=LETTERS)) == ["a", "z"]


def test_prefix_doubling_repeats_a_given_prefix():
    """Oracle: the row is its own first letters, eight times; those are given."""
    split = prefix_doubling("abc", 3, 40, 3, seed=0, vocabulary=LETTERS)
    assert split.mask.shape == (40, 24)
    assert (split.x.num_given == 3).all()
    rows = texts(split)
    assert all(row == row[:3] * 8 for row in rows)
    assert len({row[:3] for row in rows}) > 10


def test_remapped_strings_lead_back_to_random_strings():
    """Oracle: the inverse permutation of symbols turns the rows into those of the identity."""
    there = shifted("abc", 1)
    back = symbol_images({image: letter for letter, image in there.items()}, LETTERS)
    drawn = {"seed": 3, "vocabulary": LETTERS}
    mapped = remap("abc", there, 50, 2, 5, **drawn)
    copied = remap("abc", shifted("abc", 0), 50, 2, 5, **drawn)
    np.testing.assert_array_equal(back[mapped.x.tokens], copied.x.tokens)
    np.testing.assert_array_equal(symbol_images(there, LETTERS)[copied.x.tokens], mapped.x.tokens)
    assert set(mapped.num_units) == {2, 3, 4, 5}


def test_every_letter_and_every_length_is_equally_likely():
    """Oracle: the binomial law; 5 standard deviations of each of 7 counts of 9,000 draws or more."""
    split = remap("abc", shifted("abc", 1), 9_000, 1, 4, seed=1, vocabulary=LETTERS)
    lengths = np.bincount(split.num_units, minlength=5)[1:]
    letters = np.bincount(split.x.tokens[split.mask], minlength=7)[4:]
    for counts, chance in ((lengths, 1 / 4), (letters, 1 / 3)):
        deviation = np.sqrt(counts.sum() * chance * (1 - chance))
        assert (abs(counts - counts.sum() * chance) < 5 * deviation).all()


@pytest.mark.parametrize("toy", TOYS)
@pytest.mark.parametrize("held_out", [False, True])
def test_held_out_letters_are_seen_only_where_asked_for(toy, held_out):
    splits, vocabulary = toy(held_out=held_out)
    assert list(splits) == ["train", "valid", "test"]
    assert vocabulary == LETTERS
    for name, split in splits.items():
        expected = "xyz" if held_out and name != "train" else "abc"
        assert split.name == name
        assert set("".join(texts(split))) == set(expected)
        assert split.group_names == tuple(expected)
        assert [split.group_names[g] for g in split.groups] == [text[0] for text in texts(split)]
        assert (split.x.tokens != UNKNOWN).all()


@pytest.mark.parametrize("toy", TOYS)
def test_a_fourth_letter_joins_the_alphabet(toy):
    splits, vocabulary = toy(held_out=True, trained="abcd")
    assert vocabulary.symbols[4:] == tuple("abcdxyz")
    assert splits["train"].group_names == tuple("abcd")


@pytest.mark.parametrize("toy", [prefix_doubling_toy, remap_toy])
def test_a_seed_gives_the_same_rows_again_and_the_splits_others(toy):
    splits, _ = toy(held_out=False, seed=5)
    again, _ = toy(held_out=False, seed=5)
    other, _ = toy(held_out=False, seed=6)
    for name in splits:
        np.testing.assert_array_equal(splits[name].x.tokens, again[name].x.tokens)
        assert texts(splits[name]) != texts(other[name])
    assert texts(splits["valid"]) != texts(splits["test"]) != texts(splits["train"])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda v: doubling("abq", 3, vocabulary=v), "`q` is not a letter of this alphabet"),
        (lambda v: doubling("abc", 60, vocabulary=v), "60 doublings were asked for; give from 0"),
        (lambda v: doubling("abc", -1, vocabulary=v), "-1 doublings"),
        (
            lambda v: prefix_doubling("abc", 4, 2, 12, seed=0, vocabulary=v),
            "Strings of 16,384 letters were asked for; the longest made are 4,096",
        ),
        (lambda v: prefix_doubling("abc", 0, 2, 2, seed=0, vocabulary=v), "2 strings of 0 to 0"),
        (
            lambda v: remap("abc", shifted("abc", 1), 0, 1, 2, seed=0, vocabulary=v),
            "0 strings of 1 to 2 letters were asked for",
        ),
        (
            lambda v: remap("abc", shifted("abc", 1), 2, 3, 2, seed=0, vocabulary=v),
            "2 strings of 3 to 2 letters",
        ),
        (
            lambda v: remap("abc", {"a": "b", "b": "b", "c": "c"}, 2, 1, 2, seed=0, vocabulary=v),
            "is no permutation of `abc`",
        ),
    ],
)
def test_calls_that_cannot_be_meant_are_refused(make, sentence):
    with pytest.raises(UserError, match=sentence):
        make(LETTERS)


@pytest.mark.parametrize("toy", TOYS)
def test_an_alphabet_is_not_repeated(toy):
    with pytest.raises(UserError, match="needs distinct letters"):
        toy(held_out=True, trained="abx")
