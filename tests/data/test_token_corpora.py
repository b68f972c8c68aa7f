"""Corpora of tokens: official splits, our rules and those of another study, and files of one's own."""

import os
import re

import numpy as np
import pytest

from tightbound.data.baselines.tokens import token_references
from tightbound.data.catalogue import DataError, find, find_one
from tightbound.data.formats.fasta import read_fasta
from tightbound.data.formats.text_files import units_of
from tightbound.data.formats.text_lines import numbered_lines
from tightbound.data.sentences import BOS, EOS, UNKNOWN
from tightbound.data.sets.cath import load_cath
from tightbound.data.sets.multi30k import multi30k_lines
from tightbound.data.shuffled_splits import shuffled_splits
from tightbound.data.token_corpora import load_tokens
from tightbound.data.token_split import scored
from tightbound.errors import UserError

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)

SPLITS = ("train", "valid", "test")


def load(source, **settings):
    return load_tokens(source, **{"max_length": None, "min_count": 1, **settings})


def texts(corpus, name):
    return [corpus.vocabulary.decode(row) for row in corpus.splits[name].x.values]


@pytest.fixture(scope="module")
def captions():
    return load("multi30k", min_count=2)


@needs_data
def test_captions_in_words_are_the_published_sentences_with_their_ends(captions):
    """Oracle: sentences and tokens as the data page states them; an end more for each sentence."""
    corpus = captions
    known = {"train": (29_000, 377_534), "valid": (1_014, 13_308), "test": (1_000, 12_968)}
    for name, (rows, words) in known.items():
        split = corpus.splits[name]
        assert (len(split), split.num_units.sum()) == (rows, words + rows)
        last = split.x.values[np.arange(rows), split.mask.sum(1) - 1]
        assert (last == EOS).all()
        assert not (split.x.values == BOS).any()
        assert split.mask.shape[1] == corpus.splits["train"].mask.shape[1]
    assert texts(corpus, "test")[0] == "a man in an orange hat starring at something ."
    train = corpus.splits["train"]
    share = (train.x.values == UNKNOWN).sum() / scored(train).sum()
    assert f"{share:.2%} of the train tokens" in corpus.notes[-1]
    assert "words, whole, end counted" in train.law


@needs_data
def test_kneser_ney_of_captions_has_its_known_perplexity(captions):
    """Oracle: a separate program, which gave 30.9 to 5-grams of words that occur twice."""
    corpus = captions
    test = corpus.splits["test"]
    found = token_references(corpus.splits["train"], test, len(corpus.vocabulary))
    per_word = {name: -nats.sum() / test.num_units.sum() for name, nats in found.items()}
    assert np.exp(per_word["kneser-ney-5"]) == pytest.approx(30.9, abs=0.05)
    ordered = ("uniform", "unigram", "kneser-ney-2", "kneser-ney-3", "kneser-ney-5")
    values = [per_word[name] for name in ordered]
    assert values == sorted(values, reverse=True)


@needs_data
@pytest.mark.parametrize("language", ["en", "de"])
def test_too_long_captions_are_dropped_in_words_and_cut_in_characters(language):
    """Oracle: the raw lines. What is cut has not ended."""
    lines = multi30k_lines(language=language, raw=True, max_rows=500)["test"]
    words = load("multi30k", language=language, units="raw-words", max_length=12, max_rows=500)
    expected = [line.lower().split() for line in lines]
    kept = [len(row) + 1 for row in expected if len(row) < 12]
    np.testing.assert_array_equal(words.splits["test"].num_units, kept)
    assert f"{500 - len(kept):,} of 500 in test; they are dropped" in words.notes[1]
    characters = load(
        "multi30k", language=language, units="characters", max_length=50, max_rows=500
    )
    split = characters.splits["test"]
    np.testing.assert_array_equal(split.num_units, [min(len(line) + 1, 50) for line in lines])
    ended = (split.x.values == EOS).sum(1)
    np.testing.assert_array_equal(ended, [len(line) < 50 for line in lines])
    assert "they are cut, and have no end there" in characters.notes[1]


@needs_data
def test_a_vocabulary_knows_held_out_words_only_if_asked_to():
    """Oracle: words of the test file that the training rows do not have."""
    lines = multi30k_lines(language="en", max_rows=300)
    known = {word for line in lines["train"] for word in line.split()}
    unseen = sum(word not in known for line in lines["test"] for word in line.split())
    honest = load("multi30k", max_rows=300)
    assert (honest.splits["test"].x.values == UNKNOWN).sum() == unseen > 100
    leaky = load("multi30k", max_rows=300, vocabulary_from="all-splits")
    assert not (leaky.splits["test"].x.values == UNKNOWN).any()
    assert "from all splits, so it knows what stands in held-out rows" in leaky.notes[-1]


@needs_data
def test_domains_of_one_structure_stay_together():
    """Oracle: whole residues of the file by structure. Planted: domains shuffled one by one put one
    structure into two splits."""
    records, _ = read_fasta(find_one("cath-s35"), max_rows=3000)
    structures = {}
    for record in records:
        structures.setdefault(record.residues, set()).add(record.header.split("|")[2][:4])

    def shared(rows):
        found = [set().union(*(structures[text] for text in rows[name])) for name in SPLITS]
        return (found[0] & found[1]) | (found[0] & found[2]) | (found[1] & found[2])

    rows, _ = load_cath(max_rows=3000)
    assert not shared(rows)
    assert sum(map(len, rows.values())) == 3000
    assert [round(len(rows[name]) / 3000, 1) for name in SPLITS] == [0.8, 0.1, 0.1]
    assert shared(shuffled_splits([[record.residues] for record in records], "planted"))


@needs_data
def test_residues_are_cut_and_have_no_end_there():
    """Oracle: all but the shortest domains are longer than 20 residues."""
    corpus = load("cath", max_length=20, max_rows=2000)
    for split in corpus.splits.values():
        np.testing.assert_array_equal(
            (split.x.values == EOS).any(1), split.x.values[:, -1] < UNKNOWN
        )
        assert (split.num_units == 20).mean() > 0.99
    assert len(corpus.vocabulary) == 25


@needs_data
def test_the_originals_words_have_one_softmax_and_a_claimed_end():
    """Oracle: the raw training files. Begin, 18 words at most, end: 20."""
    corpus = load("multi30k", rules="original", max_rows=1000)
    lines = {
        name: [line.lower().split() for line in multi30k_lines(language=name, raw=True)["train"]]
        for name in ("en", "de")
    }
    words = {word for part in lines.values() for row in part[:1000] for word in row}
    assert len(corpus.vocabulary) == len(words) + 4
    train, valid, test = (corpus.splits[name] for name in SPLITS)
    np.testing.assert_array_equal(valid.x.values, test.x.values)
    assert (len(train), len(test)) == (800, 200)
    rows = np.concatenate([train.x.values, test.x.values])
    assert (rows[:, 0] == BOS).all()
    assert ((rows == EOS).sum(1) == 1).all()
    assert not (rows == UNKNOWN).any()
    expected = sorted(" ".join(row[:18]) for row in lines["en"][:1000])
    assert sorted(texts(corpus, "train") + texts(corpus, "test")) == expected
    np.testing.assert_array_equal(test.num_units, test.mask.sum(1) - 1)


@needs_data
def test_the_originals_characters_lose_the_first_line_and_have_no_end():
    """Oracle: the raw English file; every fifth of its lines from the second on is test."""
    corpus = load("multi30k", rules="original", units="characters", max_rows=501)
    lines = multi30k_lines(language="en", raw=True, max_rows=501)["train"][1:]
    assert texts(corpus, "test") == [line[:99] for line in lines[4::5]]
    assert len(corpus.splits["train"]) == 400
    assert not (corpus.splits["train"].x.values == EOS).any()
    assert corpus.splits["train"].mask.shape[1] == 100


@needs_data
def test_the_originals_residues_have_thirty_symbols():
    corpus = load("cath", rules="original", max_length=100, max_rows=100)
    assert len(corpus.vocabulary) == 30
    assert len(corpus.splits["train"]) == 80
    assert corpus.splits["test"].num_units.max() == 99
    assert "B, J, O, U and Z never occur" in corpus.notes[0]


@needs_data
def test_articles_are_cut_into_windows_that_lose_nothing():
    """Oracle: the words of the file's paragraphs, each with one end; what the publisher left out is
    our unknown word."""
    corpus = load("wikitext2", max_length=64, max_rows=60)
    lines = [line.split() for _, line in numbered_lines(find("wikitext2")[2]) if line.strip()][:60]
    test = corpus.splits["test"]
    assert test.num_units.sum() == sum(len(line) + 1 for line in lines)
    assert (test.x.values == EOS).sum() == 60
    assert test.num_units.max() == 64
    train = load("wikitext2", max_rows=1)
    assert texts(train, "train") == ["= 2013 – 14 York City F.C. season ="]
    everything = load("wikitext2", max_rows=60, vocabulary_from="all-splits")
    unknown = (everything.splits["test"].x.values == UNKNOWN).sum()
    assert unknown == sum(line.count("<unk>") for line in lines) > 0


@needs_data
def test_plays_are_one_text_in_windows():
    """Oracle: the lines of the file; line feeds at the ends of splits belong to none."""
    lines = [line for _, line in numbered_lines(find("tiny-shakespeare")[0])][:2000]
    plays = load("tiny-shakespeare", units="characters", max_length=100, max_rows=2000)
    whole = ["".join(texts(plays, name)) for name in SPLITS]
    assert "\n".join(whole) == "\n".join(lines)
    assert [round(len(text) / sum(map(len, whole)), 2) for text in whole] == [0.9, 0.05, 0.05]
    assert not (plays.splits["train"].x.values == EOS).any()
    spoken = load("tiny-shakespeare", max_length=30, max_rows=200)
    assert texts(spoken, "train")[1] == "before we proceed any further , hear me speak ."


def test_made_up_sources_need_no_download_and_know_their_entropy():
    """Oracle: sizes as stated; residues have a fixed length and no end."""
    residues = load("iid-residues", max_length=10, max_rows=50)
    assert [len(residues.splits[name]) for name in SPLITS] == [50, 50, 50]
    assert residues.splits["test"].mask.all()
    assert not (residues.splits["test"].x.values == EOS).any()
    assert residues.entropy is not None
    assert texts(residues, "train") != texts(residues, "test")
    toy = load("toy-grammar", max_rows=40)
    assert toy.entropy is not None
    assert load("toy-grammar", max_length=16, max_rows=40).entropy == toy.entropy
    assert load("toy-grammar", max_length=12, max_rows=40).entropy is None


def test_n_grams_of_five_do_not_know_the_grammar():
    """Oracle: the entropy of the source, which five words do not reach by more than 0.2 nats."""
    corpus = load("toy-grammar")
    test = corpus.splits["test"]
    assert [len(corpus.splits[name]) for name in SPLITS] == [2000, 500, 500]
    found = token_references(corpus.splits["train"], test, len(corpus.vocabulary))
    per_unit = -found["kneser-ney-5"].sum() / test.num_units.sum()
    assert corpus.entropy is not None
    assert per_unit > corpus.entropy.value + 0.2


def own(tmp_path, text, name="own.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_a_text_of_ones_own_is_one_sequence_a_line(tmp_path):
    """Oracle: the lines as written; 8, 1 and 1 of ten, blank ones counted."""
    lines = [f"The cat no. {number}, it's" for number in range(10)]
    path = own(tmp_path, "\n\n".join(lines))
    corpus = load("file", path=path)
    assert [len(corpus.splits[name]) for name in SPLITS] == [8, 1, 1]
    found = sorted(text for name in SPLITS for text in texts(corpus, name))
    assert all(re.fullmatch(r"the cat no \. (\d|<unknown>) , it's", text) for text in found)
    assert "10 lines, 9 blank ones passed over" in corpus.notes[0]
    assert "0 of 1 test rows stand in the training split" in corpus.notes[1]
    characters = load("file", path=path, units="characters")
    assert set(texts(characters, "train")) <= set(lines)


def test_fasta_of_ones_own_is_known_by_its_content(tmp_path):
    records = "".join(f">{number}\nACD\nEFGH{'ac' * number}\n" for number in range(10))
    corpus = load("file", path=own(tmp_path, records), max_length=8)
    assert {text[:7] for name in SPLITS for text in texts(corpus, name)} == {"ACDEFGH"}
    assert "10 sequences of FASTA; 90 lower-case residues raised" in corpus.notes[0]
    assert corpus.splits["train"].law == "residues, first 8, end counted, vocabulary of 11"


def test_a_word_of_dropped_sentences_alone_is_not_in_the_vocabulary(tmp_path):
    """Else it would be known and never trained on. Planted: a word that only long sentences have."""
    long = " ".join(["rare"] * 9)
    path = own(tmp_path, "".join(f"the cat sees the dog\n{long}\n" for _ in range(20)))
    corpus = load("file", path=path, max_length=8)
    assert "rare" not in corpus.vocabulary.symbols
    assert "cat" in corpus.vocabulary.symbols
    assert "rare" in load("file", path=path, max_length=None).vocabulary.symbols


def test_figures_of_two_vocabularies_are_under_two_laws(tmp_path):
    """Planted: the rarer words that are unknown, the better the figure; such runs are no pair."""
    path = own(
        tmp_path, "".join(f"the cat {number} sees the dog {number % 5}\n" for number in range(40))
    )
    laws = [load("file", path=path, min_count=count).splits["test"].law for count in (1, 5)]
    assert laws[0] != laws[1]


@pytest.mark.parametrize("name", ["own.fasta", "OWN.FAA.gz"])
def test_a_file_named_fasta_is_no_text_when_its_first_header_is_missing(tmp_path, name):
    """Read as a text, its headers would be sequences."""
    records = "ACD\n" + "".join(f">{number}\nACD\n" for number in range(10))
    with pytest.raises(DataError, match=r"Line 1 of .* comes before any header"):
        load("file", path=own(tmp_path, records, name))


def test_a_path_at_which_no_file_is_says_what_is_there_instead(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt cannot be read: there is no such file, seen"):
        load("file", path=str(tmp_path / "none.txt"))
    with pytest.raises(DataError, match=r"cannot be read: it is a folder\. Give the path of a"):
        load("file", path=str(tmp_path))


@pytest.mark.parametrize(
    ("units", "tokens"),
    [
        ("words", ["two", "dogs", ",", "one's", "well-known", "!"]),
        ("raw-words", ["two", "dogs,", "one's", "well-known", "!"]),
        ("characters", list("Two dogs, one's well-known !")),
    ],
)
def test_a_line_is_cut_into_the_units_asked_for(units, tokens):
    assert list(units_of("Two dogs, one's well-known !", units)) == tokens


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"a\nb\0\n", r"Line 2 of .* holds a zero byte"),
        (b"a\n\nb \xff\n", r"Line 3 of .* is not UTF-8"),
        ("\n  \n", r"has no line with text\. Give one sequence a line"),
        ("a b\nc\n", r"own\S* has 2 sequences: too few"),
        (
            "aa\n" * 12,
            r"training split of \S*own\S* has one symbol only, so there is nothing to pre",
        ),
    ],
)
def test_text_of_which_no_corpus_can_be_made_is_refused(tmp_path, text, sentence):
    with pytest.raises(DataError, match=sentence):
        load("file", path=own(tmp_path, text))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"source": "file"}, r"without its `path`\. Give one"),
        ({"source": "toy-grammar", "path": "x"}, r"'toy-grammar' is made up and reads no file"),
        ({"source": "toy-grammar", "rules": "original"}, r"rules for 'multi30k' and 'cath' only"),
        ({"source": "toy-grammar", "max_length": 0}, r"`max_length` is 0, but it counts"),
        (
            {"source": "toy-grammar", "max_length": 3},
            r"All 2,000 sequences of the train split of toy-grammar are longer than 3",
        ),
        ({"source": "iid-residues", "max_rows": -1}, r"`max_rows` is -1, but it counts"),
        ({"source": "toy-grammar", "min_count": 0}, r"`min_count` is 0, but it counts"),
    ],
)
def test_a_call_that_cannot_be_meant_is_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        load(**settings)


@needs_data
def test_a_play_in_characters_needs_a_width():
    with pytest.raises(UserError, match=r"one sequence of a million\. Give `max_length`"):
        load("tiny-shakespeare", units="characters")


@pytest.mark.parametrize(
    ("content", "units"),
    [
        (b"a b c\r\nd e f\r\n" * 20, "words"),
        ("Müller geht heim, und zwar bald.\n\n\nGrüße an alle!\n".encode() * 20, "words"),
        ("# Title\n\n- one two\n> said so\n" * 20, "raw-words"),
        ("one long line without an end " * 30 + "\n", "characters"),
        ("猫 は 座る\n" * 20, "words"),
    ],
)
def test_any_text_is_read_in_any_units(tmp_path, content, units):
    """Oracle: rows add up to the lines with text, and every split has some."""
    path = tmp_path / "anything"
    content = content if isinstance(content, bytes) else (content * 10).encode()
    path.write_bytes(content)
    corpus = load("file", path=path, units=units, max_length=20)
    lines = sum(bool(line.strip()) for line in content.decode().splitlines())
    assert sum(len(split) for split in corpus.splits.values()) == lines
    assert all(len(split) for split in corpus.splits.values())


def test_a_text_whose_lines_are_all_too_long_says_so(tmp_path):
    """Planted: prose, a paragraph a line. It had been blamed on rare words."""
    path = tmp_path / "prose.txt"
    path.write_text(("word and other " * 70 + "\n") * 30)
    sentence = r"All 24 sequences of the train split of .*prose.txt are longer than 20 words .* shortest has 210"
    with pytest.raises(DataError, match=sentence):
        load("file", path=path, max_length=20)
    assert len(load("file", path=path, max_length=20, units="characters").splits["train"]) == 24
