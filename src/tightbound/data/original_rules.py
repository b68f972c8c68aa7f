"""Captions and residues as another study cut them, to measure what its rules are worth.

The study compared some fifty small language models; docs/dlm.md replays it.
"""

from collections.abc import Sequence
from string import ascii_uppercase

from tightbound.data.formats.text_files import TokenUnits, units_of
from tightbound.data.sets.cath import read_domains
from tightbound.data.sets.digits import fixed_order
from tightbound.data.sets.multi30k import multi30k_lines
from tightbound.data.token_split import Layout
from tightbound.data.token_texts import Language, Path, Rows, Source, Texts
from tightbound.data.vocabulary import (
    MARKS,
    Vocabulary,
    character_vocabulary,
    word_vocabulary,
)
from tightbound.errors import UserError

_LENGTHS = {"words": 20, "characters": 100, "residues": 20}  # as it took them, marks included


def original_texts(
    source: Source,
    *,
    language: Language,
    units: TokenUnits,
    max_length: int | None,
    path: Path,
    max_rows: int | None,
) -> Texts:
    """The rows of train, and of one test split that is valid too.

    - captions in words: the raw training file alone, 80 % for training and 20 % for test at random,
      lower-case words cut at white space, the first 18 between begin and end; one softmax over the
      words of both languages;
    - captions in characters: the raw training file without its first line, begin and the first 99
      characters, no end; every fifth line is test;
    - residues: begin and the first `max_length` - 1, no end, every fifth domain is test.

    The vocabulary is made from everything.
    """
    if source == "multi30k" and units == "characters":
        return _characters(language, max_length, path, max_rows)
    if source == "multi30k":
        return _words(language, max_length, path, max_rows)
    if source == "cath":
        return _residues(max_length, path, max_rows)
    raise UserError(
        f"The rules 'original' were asked for on {source!r}, but there are such rules for 'multi30k' and "
        "'cath' only. Take one of those, or the rules 'ours'."
    )


def _words(language: Language, max_length: int | None, path: Path, max_rows: int | None) -> Texts:
    both = {
        name: multi30k_lines(path, language=name, raw=True, max_rows=max_rows)["train"]
        for name in ("en", "de")
    }
    words = {
        name: [units_of(line, "raw-words") for line in part if line.strip()]
        for name, part in both.items()
    }
    rows = words[language]
    order = fixed_order(len(rows))
    num_train = len(rows) * 4 // 5
    shared = {w for row in words["en"] for w in row} & {w for row in words["de"] for w in row}
    note = (
        "Original rules: the training file split 80 to 20 at random, the first words between begin "
        "and end (counted even where the sentence was cut), and one softmax over the words of both "
        f"languages, training and test ({len(shared):,} spelled alike in both are one symbol here)."
    )
    return Texts(
        _train_and_test([rows[i] for i in order[:num_train]], [rows[i] for i in order[num_train:]]),
        "words",
        Layout(
            end=True,
            excess="cut",
            max_length=max_length or _LENGTHS["words"],
            begin=True,
            always_end=True,
        ),
        (note,),
        word_vocabulary([*words["en"], *words["de"]]),
    )


def _characters(
    language: Language, max_length: int | None, path: Path, max_rows: int | None
) -> Texts:
    lines = multi30k_lines(path, language=language, raw=True, max_rows=max_rows)["train"][1:]
    rows = [line for line in lines if line]
    note = (
        "Original rules: the training file without its first line, every fifth line for test; begin, "
        "then the first characters, no end; the vocabulary is made from all lines."
    )
    return Texts(
        _every_fifth(rows),
        "characters",
        Layout(
            end=False, excess="cut", max_length=max_length or _LENGTHS["characters"], begin=True
        ),
        (note,),
        character_vocabulary(rows),
    )


def _residues(max_length: int | None, path: Path, max_rows: int | None) -> Texts:
    note = (
        "Original rules: begin, then the first residues, no end; every fifth domain is test. The 30 "
        "symbols of these rules are taken as the marks and all capital letters: B, J, O, U and Z never "
        "occur. The study they come from read release 4.3."
    )
    return Texts(
        _every_fifth(read_domains(path, max_rows=max_rows)),
        "residues",
        Layout(end=False, excess="cut", max_length=max_length or _LENGTHS["residues"], begin=True),
        (note,),
        Vocabulary((*MARKS, *ascii_uppercase), "characters"),
    )


def _every_fifth(rows: Sequence[Sequence[str]]) -> Rows:
    return _train_and_test([row for i, row in enumerate(rows) if i % 5 != 4], rows[4::5])


def _train_and_test(train: Sequence[Sequence[str]], test: Sequence[Sequence[str]]) -> Rows:
    """These rules have no validation rows: settings were chosen by the test rows."""
    return {"train": train, "valid": test, "test": test}
