"""English-EWT and Multi30K: the published counts, and files of one's own."""

import gzip
import itertools
import lzma
import math
import os
from collections import Counter

import numpy as np
import pytest

from tightbound.data.catalogue import DataError, find
from tightbound.data.formats.conllu import find_cycle, read_conllu
from tightbound.data.formats.text_lines import numbered_lines
from tightbound.data.sentences import PAD, UNKNOWN, Dropped
from tightbound.data.sets.english_web import load_ewt
from tightbound.data.sets.multi30k import load_multi30k
from tightbound.data.vocabulary import unknown_share

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)

SPLITS = ("train", "valid", "test")


@needs_data
def test_the_published_trees_have_the_known_counts():
    """Oracle: sentences and words as the data page states them."""
    known = ((12_544, 204_577), (2_001, 25_147), (2_077, 25_094))
    for path, (num_sentences, num_words) in zip(find("ewt"), known, strict=True):
        parsed = read_conllu(path)
        assert len(parsed) == num_sentences
        assert sum(len(sentence.words) for sentence in parsed) == num_words
        assert all(sentence.heads.count(-1) == 1 for sentence in parsed)


@needs_data
def test_words_of_web_text_are_kept_with_their_trees_or_counted():
    """Oracle: the parsed file, and the product of n! over words that occur n times."""
    splits, vocabulary, dropped = load_ewt(min_count=1, max_rows=800, max_length=20)
    for (name, split), path in zip(splits.items(), find("ewt"), strict=True):
        corpus = read_conllu(path, max_rows=800)
        short = [sentence for sentence in corpus if len(sentence.words) <= 20]
        expected = [
            (words, sentence.heads)
            for sentence in short
            if num_ways(words := vocabulary.encode(sentence.words)) <= 24
        ]
        counts = Dropped(len(expected), 0, 800 - len(short), len(short) - len(expected))
        assert dropped[name] == counts
        assert len(split) == counts.kept > 200
        for row, (words, heads) in enumerate(expected):
            assert split.x.tokens[row, : len(words)].tolist() == words
            assert tuple(split.x.heads[row, : len(words)]) == heads
            assert (split.x.swaps[row, :, 0] >= 0).sum() == num_ways(words)
            assert split.num_units[row] == len(words)
    assert unknown_share(splits["train"].x.tokens) == 0


def num_ways(words):
    return math.prod(math.factorial(count) for count in Counter(words).values())


@needs_data
def test_sub_words_of_web_text_are_trees_with_the_roots_of_their_words():
    """Oracle: the text of the file, which the pieces spell; gold trees have one root."""
    splits, vocabulary, dropped = load_ewt(units="sub-words", vocabulary_size=2000, max_rows=800)
    known = {" ".join(s.words).lower() for s in read_conllu(find("ewt")[0], max_rows=800)}
    x, lengths = splits["train"].x, splits["train"].num_units
    assert dropped["train"].kept == len(lengths) > 200
    assert lengths.max() == x.tokens.shape[1] == 24
    for tokens, heads, length in zip(x.tokens, x.heads, lengths, strict=True):
        assert vocabulary.decode(tokens) in known
        assert not find_cycle(heads[:length].tolist())
        assert (heads[:length] == -1).sum() == 1


@needs_data
def test_the_vocabulary_knows_the_training_split_only():
    """Oracle: words of the test file counted in the training file; fewer than three is unknown."""
    _, vocabulary, _ = load_ewt(max_rows=600)
    train, _, test = (read_conllu(path, max_rows=600) for path in find("ewt"))
    counts = Counter(word.lower() for sentence in train for word in sentence.words)
    for sentence in test:
        unknown = np.array(vocabulary.encode(sentence.words)) == UNKNOWN
        assert list(unknown) == [counts[word.lower()] < 3 for word in sentence.words]


@needs_data
def test_the_published_captions_have_the_known_counts():
    """Oracle: sentences, tokens and types as the data page states them."""
    known = (
        *((29_000, 377_534, 10_210), (1_014, 13_308, 1_964), (1_000, 12_968, 1_898)),
        *((29_000, 360_706, 18_722), (1_014, 12_828, 2_303), (1_000, 12_103, 2_125)),
    )
    for path, counts in zip(find("multi30k"), known, strict=True):
        lines = [line.split() for _, line in numbered_lines(path)]
        words = [word for line in lines for word in line]
        assert (len(lines), len(words), len(set(words))) == counts


@needs_data
@pytest.mark.parametrize("language", ["en", "de"])
def test_rows_of_captions_are_kept_or_counted(language):
    """Oracle: the line lengths of the files."""
    splits, vocabulary, dropped = load_multi30k(language=language, max_rows=4000)
    files = [path for path in find("multi30k") if f".{language}." in path.name]
    for (name, split), path in zip(splits.items(), files, strict=True):
        lines = itertools.islice(numbered_lines(path), 4000)
        lengths = np.array([len(line.split()) for _, line in lines])
        np.testing.assert_array_equal(split.num_units, lengths[lengths <= 20])
        assert dropped[name].too_long == (lengths > 20).sum()
        assert split.mask.shape[1] == 20
        assert split.x.heads is None
    first = vocabulary.decode(splits["train"].x.tokens[0])
    assert first.startswith({"en": "two young , white", "de": "zwei junge weiße"}[language])


def chains(*sentences):
    rows = (
        "".join(f"{i}\t{word}" + "\t_" * 4 + f"\t{i - 1}" + "\t_" * 3 + "\n" for i, word in enum)
        for enum in (list(enumerate(sentence.split(), 1)) for sentence in sentences)
    )
    return "\n".join(rows).encode()


def test_trees_of_ones_own_may_be_unpacked(tmp_path):
    """Oracle: the sentences as written; a word seen twice is known, others are not."""
    for name, text in (("train", ["a b", "a b c"]), ("dev", ["b x"]), ("test", ["a", "b a a"])):
        (tmp_path / f"en_ewt-ud-{name}.conllu").write_bytes(chains(*text))
    splits, vocabulary, dropped = load_ewt(tmp_path, min_count=2, max_swaps=1, max_length=3)
    assert [vocabulary.decode(row) for row in splits["train"].x.tokens] == ["a b", "a b <unknown>"]
    assert [vocabulary.decode(row) for row in splits["valid"].x.tokens] == ["b <unknown>"]
    assert str(dropped["test"]).endswith("0 too long, 1 with too many equal words")
    np.testing.assert_array_equal(splits["train"].x.heads[1], [-1, 0, 1])
    (tmp_path / "en_ewt-ud-dev.conllu").unlink()
    with pytest.raises(DataError, match=r"has no en_ewt-ud-dev.conllu.xz"):
        load_ewt(tmp_path)


def test_captions_of_ones_own_may_be_packed_otherwise(tmp_path):
    """Oracle: the lines as written. Packing is recognised by content, empty lines are counted."""
    lines = b"A cat .\n\na dog .\n"
    for split in ("train", "val", "test_2016_flickr"):
        for language, pack in (("en", lzma.compress), ("de", gzip.compress)):
            path = tmp_path / f"{split}.lc.norm.tok.{language}.gz"
            path.write_bytes(pack(lines))
    splits, vocabulary, dropped = load_multi30k(tmp_path, min_count=1, law="token drop")
    assert list(splits) == list(SPLITS)
    assert [vocabulary.decode(row) for row in splits["test"].x.tokens] == ["a cat .", "a dog ."]
    assert dropped["test"].empty == 1
    assert (splits["valid"].x.tokens == PAD).sum() == 2 * 17
    assert splits["valid"].description == "valid (token drop)"
