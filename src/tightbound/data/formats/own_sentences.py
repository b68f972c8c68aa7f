"""Sentences of one's own: a treebank in CoNLL-U, or any text with one sentence a line."""

import os
from pathlib import Path

from tightbound.data.batch import Split
from tightbound.data.formats.conllu import read_conllu
from tightbound.data.formats.own_files import own_rows
from tightbound.data.formats.text_files import text_rows, units_of
from tightbound.data.sentence_splits import Units, sentence_splits
from tightbound.data.sentences import Dropped
from tightbound.data.vocabulary import Vocabulary

Sentences = tuple[dict[str, Split], Vocabulary, dict[str, Dropped]]


def load_treebank(
    path: str | os.PathLike[str],
    *,
    units: Units = "words",
    min_count: int = 3,
    vocabulary_size: int = 4000,
    lowercase: bool = True,
    max_length: int = 24,
    max_swaps: int | None = 24,
    max_rows: int | None = None,
) -> tuple[Sentences, str]:
    """Splits of sentences with their trees, vocabulary and what was dropped, as `load_ewt` has them, and a
    note on how they were divided (`own_rows`).

    `path` is a file in CoNLL-U, or a folder of such files, `.conllu` at their end: those of any treebank of
    Universal Dependencies are split as they are called. `max_rows` reads the first sentences of each file.
    """
    parsed, how = own_rows(path, (".conllu",), lambda file: read_conllu(file, max_rows=max_rows))
    return (
        sentence_splits(
            {name: [sentence.words for sentence in part] for name, part in parsed.items()},
            heads={name: [sentence.heads for sentence in part] for name, part in parsed.items()},
            units=units,
            min_count=min_count,
            vocabulary_size=vocabulary_size,
            lowercase=lowercase,
            max_length=max_length,
            max_swaps=max_swaps,
        ),
        how,
    )


def load_text_sentences(
    path: str | os.PathLike[str],
    *,
    units: Units = "words",
    min_count: int = 2,
    vocabulary_size: int = 4000,
    lowercase: bool = True,
    max_length: int = 20,
    max_rows: int | None = None,
) -> tuple[Sentences, str]:
    """Splits of sentences without trees, vocabulary and what was dropped, and a note on how they were
    divided (`own_rows`).

    `path` is a UTF-8 text, plain, `.gz` or `.xz`, one sentence a line, or a folder of `.txt`. Words are in
    lower case, every other sign is a word of its own (`units_of`). Blank lines are passed over.
    """

    def read(file: Path) -> list[list[str]]:
        lines, _ = text_rows(file, max_rows=max_rows)
        return [list(units_of(line, "words")) for line in lines]

    rows, how = own_rows(path, (".txt",), read)
    return (
        sentence_splits(
            rows,
            units=units,
            min_count=min_count,
            vocabulary_size=vocabulary_size,
            lowercase=lowercase,
            max_length=max_length,
        ),
        how,
    )
