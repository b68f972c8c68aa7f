"""Vocabularies: made from training text, never confused with marks, and exactly restored."""

import itertools
import json
import os
import random
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tightbound.data.catalogue import DataError
from tightbound.data.sentences import NUM_MARKS, PAD, UNKNOWN
from tightbound.data.vocabulary import (
    MARKS,
    WORD_START,
    character_vocabulary,
    letter_vocabulary,
    subword_vocabulary,
    unknown_share,
    vocabulary_from_json,
    word_vocabulary,
)
from tightbound.errors import UserError

TEXT = [
    ["the", "lower", "the", "newer", "the", "better"],
    ["The", "lowest", "newest", "wide", "wider", "widest", "low"],
    ["new", "low", "wet", "tower"],
]
WORDS = word_vocabulary(TEXT, lowercase=True)
SUB_WORDS = subword_vocabulary(TEXT, size=40, lowercase=True)
LETTERS = letter_vocabulary("abcxyz")
CHARACTERS = character_vocabulary(["Abba ", "a\n"])


def test_words_are_ordered_by_count_and_rarer_ones_are_unknown():
    """Oracle: the counts by hand. the: 4, low: 2, all others once."""
    vocabulary = word_vocabulary(TEXT, min_count=2, lowercase=True)
    assert vocabulary.symbols == (*MARKS, "the", "low")
    assert vocabulary.encode(["The", "low", "new", "unseen"]) == [4, 5, UNKNOWN, UNKNOWN]
    assert vocabulary.decode([4, 3, 5, PAD, PAD]) == "the <unknown> low"


def test_without_lower_casing_the_two_spellings_are_two_words():
    vocabulary = word_vocabulary(TEXT)
    the, title_case = vocabulary.encode(["the", "The"])
    assert the != title_case
    assert min(the, title_case) > UNKNOWN


@pytest.mark.parametrize("vocabulary", [WORDS, SUB_WORDS], ids=lambda v: v.units)
def test_text_is_never_read_as_a_mark(vocabulary):
    """Planted: words spelled like the marks, and so many that end like one that its letters would
    be merged, in training text and in what is encoded."""
    planted = [*MARKS, "<PAD>"] * 50
    endings = [f"{letter}<pad>" for letter in "lowernst"] * 50
    build = {
        "words": lambda text: word_vocabulary(text, lowercase=True),
        "sub-words": lambda text: subword_vocabulary(text, size=60, lowercase=True),
    }[vocabulary.units]
    for trained in (vocabulary, build([*TEXT, planted, endings, list("<pad>")])):
        assert trained.symbols[: len(MARKS)] == MARKS
        assert set(trained.encode(planted)) == {UNKNOWN}
        assert min(trained.encode([*endings, "<eos><pad>"])) >= NUM_MARKS


@pytest.mark.parametrize("vocabulary", [WORDS, SUB_WORDS], ids=lambda v: v.units)
def test_known_text_comes_back(vocabulary):
    for words in TEXT:
        assert vocabulary.decode(vocabulary.encode(words)) == " ".join(words).lower()


@given(st.lists(st.text("wideslothr", min_size=1, max_size=8), max_size=6))
def test_the_pieces_of_each_word_spell_it(words):
    """Oracle: the words. Any word over known characters is spelled by its own pieces, in order."""
    symbols, word_of = SUB_WORDS.encode_pieces(words)
    assert word_of == sorted(word_of)
    assert set(word_of) == set(range(len(words)))
    for index, word in enumerate(words):
        pieces = [symbol for symbol, of in zip(symbols, word_of, strict=True) if of == index]
        assert SUB_WORDS.decode(pieces) == word
        assert SUB_WORDS.symbols[pieces[0]].startswith(WORD_START)


def test_a_character_that_training_lacks_is_one_unknown_piece():
    symbols, word_of = SUB_WORDS.encode_pieces(["ψlowψψ", "low"])
    start, low = SUB_WORDS.encode([""]), SUB_WORDS.encode(["low"])
    assert symbols[: len(start)] == start
    assert symbols.count(UNKNOWN) == 3
    assert symbols[-len(low) :] == low
    assert word_of[-len(low) :] == [1] * len(low)


def test_a_character_that_training_lacks_is_unknown_and_no_error():
    """Oracle: the characters by hand, in the order of Unicode, case and white space kept."""
    assert CHARACTERS.symbols == (*MARKS, "\n", " ", "A", "a", "b")
    symbols = CHARACTERS.encode("Ab ψ\n<pad>")
    assert symbols == [6, 8, 5, UNKNOWN, 4, UNKNOWN, UNKNOWN, 7, UNKNOWN, UNKNOWN]
    assert CHARACTERS.decode([*CHARACTERS.encode("A b"), PAD]) == "A b"
    assert character_vocabulary(["Abba ", "a\n"], min_count=2).symbols == (*MARKS, "a", "b")
    with pytest.raises(DataError, match=r"No character occurs 9 times in the training split, whi"):
        character_vocabulary(["Abba"], min_count=9)


def byte_pairs(counts, num_merges):
    """Sennrich et al. 2016, algorithm 1, by counting everything again after every merge; a tie is
    an assertion, so that no rule for ties is part of the oracle."""
    words = {word: (WORD_START, *word) for word in counts}
    merges = []
    for _ in range(num_merges):
        pairs = Counter()
        for word, pieces in words.items():
            for pair in itertools.pairwise(pieces):
                pairs[pair] += counts[word]
        (best, top), (_, second) = pairs.most_common(2)
        assert top > second
        merges.append(best)
        for word, pieces in words.items():
            merged = []
            for piece in pieces:
                if merged and (merged[-1], piece) == best:
                    merged[-1] += piece
                else:
                    merged.append(piece)
            words[word] = tuple(merged)
    return merges, words


def test_sub_words_are_the_merges_of_byte_pair_encoding():
    """Oracle: the published algorithm, written out over a text of no ties."""
    counts = {"low": 59, "lower": 5, "slow": 34, "newest": 8, "new": 25, "widest": 21}
    counts |= {"west": 45, "stew": 12, "ewes": 32, "own": 18}
    merges, words = byte_pairs(counts, 11)
    alphabet = {WORD_START, *"".join(counts)}
    vocabulary = subword_vocabulary(
        [[word] * count for word, count in counts.items()], size=len(MARKS) + len(alphabet) + 11
    )
    assert vocabulary.merges == tuple(merges)
    assert set(vocabulary.symbols) == {*MARKS, *alphabet, *("".join(pair) for pair in merges)}
    for word, pieces in words.items():
        assert [vocabulary.symbols[symbol] for symbol in vocabulary.encode([word])] == list(pieces)


@pytest.mark.parametrize("build", [word_vocabulary, lambda text: subword_vocabulary(text, size=40)])
def test_the_order_of_the_sentences_does_not_matter(build):
    """Oracle: the same text shuffled. All ties are broken by the text, none by the order."""
    shuffled = [random.Random(0).sample(words, len(words)) for words in reversed(TEXT)]
    assert build(shuffled) == build(TEXT)


def test_sub_words_are_the_same_in_every_process():
    """Oracle: other processes, whose hashes differ."""
    code = (
        "from tightbound.data.vocabulary import subword_vocabulary as build\n"
        f"print(build({TEXT!r}, size=40, lowercase=True).to_json())"
    )
    ran = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
        )
        for seed in ("1", "2")
    ]
    for process in ran:
        output, _ = process.communicate(timeout=60)
        assert output.decode().rstrip("\r\n") == SUB_WORDS.to_json()


@pytest.mark.parametrize(
    "vocabulary", [LETTERS, CHARACTERS, WORDS, SUB_WORDS], ids=lambda v: v.units
)
def test_json_restores_a_vocabulary(vocabulary):
    """Oracle: equality of the records, and of what the restored one encodes."""
    restored = vocabulary_from_json(vocabulary.to_json(), "here")
    assert restored == vocabulary
    text = list("abz") if vocabulary in (LETTERS, CHARACTERS) else ["the", "widow", "ψ"]
    assert restored.encode_pieces(text) == vocabulary.encode_pieces(text)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "another"},
        {"units": "bytes"},
        {"lowercase": "yes"},
        {"symbols": None},
        {"symbols": ["<pad>"]},
        {"symbols": [*MARKS, "a", "a"]},
        {"symbols": [*MARKS, 1]},
        {"symbols": [*MARKS, ["a"]]},
        {"merges": [["a", "b"]]},
        {"merges": [["t", "h", "e"]]},
        {"merges": 3},
    ],
)
def test_json_that_is_no_vocabulary_is_refused(change):
    content = json.loads(SUB_WORDS.to_json()) | change
    with pytest.raises(DataError, match=r"runs/x is no vocabulary of the format `tightbound voc"):
        vocabulary_from_json(json.dumps(content), "runs/x")


@pytest.mark.parametrize("text", ["", "{}", "[]", "[" * 100_000, '{"symbols": '])
def test_text_that_is_no_vocabulary_is_refused(text):
    with pytest.raises(DataError, match=r"runs/x is no vocabulary"):
        vocabulary_from_json(text, "runs/x")


def test_letters_are_one_symbol_each():
    assert LETTERS.encode("abcxyz") == [4, 5, 6, 7, 8, 9]
    assert LETTERS.decode([4, 4, 9, PAD]) == "aaz"
    assert len(LETTERS) == 10


def test_a_character_outside_the_alphabet_is_named_with_the_alphabet():
    with pytest.raises(UserError) as raised:
        LETTERS.encode("abd")
    assert str(raised.value) == (
        "`d` is not a letter of this alphabet, which has a, b, c, x, y, z."
    )


@pytest.mark.parametrize("letters", ["", "aba"])
def test_an_alphabet_needs_distinct_letters(letters):
    with pytest.raises(UserError, match="distinct letters, at least one"):
        letter_vocabulary(letters)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: word_vocabulary(TEXT, min_count=5), "No word occurs 5 times in .* has 17 words"),
        (lambda: word_vocabulary([]), "has 0 words. Lower `min_count`"),
        (lambda: subword_vocabulary([], size=10), "0 characters in 0 words"),
        (lambda: subword_vocabulary([["abc"]], size=7), "that is 8 symbols at least. Raise"),
    ],
)
def test_text_that_makes_no_vocabulary_is_refused(build, sentence):
    with pytest.raises(DataError, match=sentence):
        build()


def test_a_missing_library_is_named_with_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(DataError, match=r"need the package tokenizers.* `tightbound\[text\]`"):
        subword_vocabulary(TEXT, size=40)


def test_the_unknown_share_does_not_count_padding():
    tokens = np.array([[UNKNOWN, 5, 6, PAD], [7, PAD, PAD, PAD]], np.int32)
    assert unknown_share(tokens) == 0.25
