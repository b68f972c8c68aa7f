"""FASTA: what is read, what is repaired and counted, and what is refused by its line."""

import lzma
import os

import pytest

from tightbound.data.catalogue import DataError, find_one
from tightbound.data.formats.fasta import FastaRecord, FastaRepairs, read_fasta

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)


def read(tmp_path, text, **settings):
    path = tmp_path / "own.fa"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_fasta(path, **settings)


def test_sequences_may_be_wrapped_and_packed(tmp_path):
    """Oracle: the residues as written."""
    text = b"\n>one of two\r\nACD\nEF G\n\n>two\nKLM\n"
    expected = [FastaRecord("one of two", "ACDEFG", 2), FastaRecord("two", "KLM", 6)]
    assert read(tmp_path, text) == (expected, FastaRepairs())
    assert read(tmp_path, lzma.compress(text)) == (expected, FastaRepairs())
    assert read(tmp_path, text, max_rows=1)[0] == expected[:1]


def test_what_is_repaired_is_counted(tmp_path):
    """Oracle: counted by hand: 3 in lower case, 3 gaps, one final stop of two sequences."""
    records, repairs = read(tmp_path, ">a\nACde-\nF.g-H*\n>b\nAC\n")
    assert [record.residues for record in records] == ["ACDEFGH", "AC"]
    assert repairs == FastaRepairs(raised=3, gaps=3, stops=1)
    assert str(repairs) == "3 lower-case residues raised, 3 gaps and 1 final stops taken out"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ACD\n>a\nAC\n", r"Line 1 of .* comes before any header, so this is no FASTA"),
        (">a\nAC\n\n>b\n>c\nAC\n", r"Line 4 of .* is the header `>b`, and no residues follow"),
        (">a\nAC\n>b\n", r"Line 3 of .* is the header `>b`, and no residues"),
        (">a\n--*\n", r"Line 1 of .* is the header `>a`, and no residues"),
        (">a\nAC\nA*C\n", r"Line 3 of .* has a stop `\*` inside a sequence"),
        (">a\nAC*\nAC\n", r"Line 2 of .* has a stop `\*` inside a sequence"),
        (">a\nAC\nA1\n", r"Line 3 of .* holds '1', which is no residue\. Residues are"),
        (">a\nA>C\n", r"Line 2 of .* holds '>', which is no residue"),
        (">a\nAÄ\n", r"Line 2 of .* holds 'Ä', which is no residue"),
        (b">a\nA\0\n", r"Line 2 of .* holds a zero byte"),
        (b">a\nAC\n>\xff\nAC\n", r"Line 3 of .* is not UTF-8"),
        ("", r"has no sequence\. Is it FASTA"),
    ],
)
def test_what_is_no_sequence_is_refused_by_its_line(tmp_path, text, sentence):
    with pytest.raises(DataError, match=sentence):
        read(tmp_path, text)


@needs_data
@pytest.mark.parametrize(
    ("name", "num_domains", "num_residues", "longest"),
    [("cath-s35", 21_155, 3_302_856, 1_174), ("cath-s20", 14_942, 2_318_318, 1_204)],
)
def test_the_published_domains_have_the_known_counts(name, num_domains, num_residues, longest):
    """Oracle: domains and residues as the page beside the data states them."""
    records, repairs = read_fasta(find_one(name))
    lengths = [len(record.residues) for record in records]
    assert (len(lengths), sum(lengths), max(lengths)) == (num_domains, num_residues, longest)
    assert repairs == FastaRepairs()
