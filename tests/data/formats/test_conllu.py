"""The CoNLL-U reader: what is written comes back, and what is malformed is named by its line."""

import gzip
import lzma
import os
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tightbound.data.catalogue import DataError, find
from tightbound.data.formats import text_lines
from tightbound.data.formats.conllu import ParsedSentence, _library, find_cycle, read_conllu

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)


def row(identity, form, head):
    return "\t".join([str(identity), form, "_", "_", "_", "_", str(head), "_", "_", "_"])


TWO_SENTENCES = "\n".join(
    [
        "# newdoc",
        "# sent_id = first-1",
        "# text = I can't sleep = awake",
        row(1, "I", 4),
        row("2-3", "can't", "_"),
        row(2, "ca", 4),
        row(3, "n't", 4),
        row(4, "sleep", 0),
        row("4.1", "ghost", "_"),
        "",
        row(1, "a b", 0),  # a form may hold a space, and other separators than a line feed
        row(2, "c\u2028d", 0),
        "",
    ]
)
PARSED = [
    ParsedSentence("first-1", ("I", "ca", "n't", "sleep"), (3, 3, 3, -1)),
    ParsedSentence("line 11", ("a b", "c\u2028d"), (-1, -1)),
]


@pytest.fixture
def written(tmp_path):
    """A file of this content."""

    def write(content):
        path = tmp_path / "trees.conllu"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize("pack", [lambda content: content, gzip.compress, lzma.compress])
@pytest.mark.parametrize(
    "form",
    [
        lambda text: text,
        lambda text: text + "\n\n\n",
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
    ],
)
def test_what_is_written_comes_back(written, pack, form):
    """Oracle: the words and heads themselves. Multiword tokens and empty nodes are skipped, two
    roots are a forest, and packing is recognised by content, whatever the name."""
    assert read_conllu(written(pack(form(TWO_SENTENCES).encode()))) == PARSED


def test_only_the_first_rows_are_read_if_no_more_are_wanted(written):
    """Planted: junk behind the first sentence, which is not looked at."""
    path = written(TWO_SENTENCES.split("\n\n")[0] + "\n\njunk\n")
    assert read_conllu(path, max_rows=1) == PARSED[:1]
    with pytest.raises(DataError, match="Line 11 of"):
        read_conllu(path)


def test_a_sentence_without_words_is_kept_to_be_counted(written):
    assert read_conllu(written("# sent_id = s\n\n")) == [ParsedSentence("s", (), ())]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("1 a _ _ _ _ 0 _ _ _", "Line 7 of .* has 1 columns separated by tabs, expected 10"),
        (row(1, "a", 0) + "\tmore", "Line 7 of .* has 11 columns"),
        (row("x", "a", 0), "Line 7 of .* has the ID `x`, expected 1"),
        (row(2, "a", 0), "Line 7 of .* has the ID `2`, expected 1"),
        (row("9" * 5000, "a", 0), "Line 7 of .* has the ID `9{20}`, expected 1"),
        (row(1, "a", "_"), "Line 7 of .* has the HEAD `_`, not a number"),
        (row(1, "a", "1.5"), "Line 7 of .* has the HEAD `1.5`, not a number"),
        (row(1, "a", "9" * 5000), "Line 7 of .* has the HEAD `9{20}`, not a number"),
        (row(1, "a", 2), "Line 7 of .* has the HEAD 2, but its sentence has 1 words"),
        (row(1, "a", -1), "Line 7 of .* has the HEAD -1, but"),
        (row(1, "", 0), "Line 7 of .* has no FORM"),
        (row(1, "a", 1), "Sentence `line 7` at line 7 of .* has no root: no word has HEAD 0"),
    ],
)
def test_a_malformed_line_is_named_by_its_number(written, line, sentence):
    good = "# a comment\n" + row(1, "b", 0) + "\n\n# sent_id = s\n" + row(1, "c", 0) + "\n\n"
    with pytest.raises(DataError, match=sentence):
        read_conllu(written(good + line + "\n"))


def test_a_cycle_is_named_by_its_sentence_and_its_words(written):
    """Planted: 2 and 3 hang from each other, beside a root."""
    words = [row(1, "a", 0), row(2, "b", 3), row(3, "c", 2), row(4, "d", 2)]
    with pytest.raises(DataError) as raised:
        read_conllu(path := written("\n".join(["# sent_id = s-1", *words])))
    assert str(raised.value) == (
        f"Sentence `s-1` at line 1 of {path} has a cycle of heads through the words 2 `b`, 3 `c`. "
        "Correct the heads, or remove the sentence."
    )


@given(
    st.integers(1, 7).flatmap(lambda n: st.lists(st.integers(-1, n - 1), min_size=n, max_size=n))
)
def test_a_cycle_is_found_exactly_where_a_word_reaches_no_root(heads):
    """Oracle: n steps up from every word, which end at a root or have walked round a cycle."""

    def after(position, steps):
        for _ in range(steps):
            position = -1 if position == -1 else heads[position]
        return position

    endless = [p for p in range(len(heads)) if after(p, len(heads)) != -1]
    cycle = find_cycle(heads)
    assert bool(cycle) == bool(endless)
    if cycle:
        assert {heads[position] for position in cycle} == set(cycle)
        assert after(cycle[0], len(cycle)) == cycle[0]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lzma.compress(TWO_SENTENCES.encode())[:-30], "cannot be read: .*may be plain, .gz or .xz"),
        (gzip.compress(TWO_SENTENCES.encode())[:-9], "cannot be read: .*may be plain, .gz or .xz"),
        (b"\xfd7zXZ\0" + bytes(100), "cannot be read"),
        (b"# fine\n\x89PNG\xff\xfe", "Line 2 of .* is not UTF-8"),
        (bytes(1000), "Line 1 of .* holds a zero byte"),
        (gzip.compress(bytes(1 << 22)), "more than 1,048,576 bytes in line 1"),
    ],
)
def test_what_is_no_text_is_refused_in_one_sentence(written, content, sentence):
    with pytest.raises(DataError, match=sentence):
        read_conllu(written(content))


def test_a_text_without_end_is_refused(written, monkeypatch):
    """Planted: a small file that unpacks to more than any corpus has."""
    monkeypatch.setattr(text_lines, "_LARGEST", 10_000)
    with pytest.raises(DataError, match=r"more than .* or 10,000 in all"):
        read_conllu(written(lzma.compress(f"{TWO_SENTENCES}\n".encode() * 1000)))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.conllu cannot be read"):
        read_conllu(tmp_path / "nothing.conllu")


def test_a_missing_library_is_named_with_what_brings_it(written, monkeypatch):
    monkeypatch.setitem(sys.modules, "conllu", None)
    _library.cache_clear()
    with pytest.raises(DataError, match=r"needs the package conllu.* `tightbound\[text\]`"):
        read_conllu(written(TWO_SENTENCES))


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=st.floats(0, 1), junk=st.binary(min_size=1, max_size=6), packed=st.booleans())
def test_a_damaged_file_is_read_or_refused_and_never_anything_else(written, where, junk, packed):
    """Fuzz: a good file overwritten anywhere; only `DataError` may be raised."""
    content = TWO_SENTENCES.encode()
    content = lzma.compress(content) if packed else content
    at = int(where * len(content))
    try:
        read = read_conllu(written(content[:at] + junk + content[at + len(junk) :]))
    except DataError:
        return
    assert all(not find_cycle(sentence.heads) for sentence in read)


@needs_data
def test_the_published_trees_are_those_an_independent_parser_reads():
    """Oracle: `conllu.parse` of the whole text of the validation file."""
    conllu = pytest.importorskip("conllu")
    path = find("ewt")[1]
    with lzma.open(path, "rt", encoding="utf-8") as file:
        expected = [
            ParsedSentence(
                str(sentence.metadata["sent_id"]),
                tuple(token["form"] for token in sentence if isinstance(token["id"], int)),
                tuple(token["head"] - 1 for token in sentence if isinstance(token["id"], int)),
            )
            for sentence in conllu.parse(file.read())
        ]
    assert read_conllu(path) == expected
