"""A corpus for language models: splits of tokens, their vocabulary, and what must be known of them."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tightbound.data.batch import Split
from tightbound.data.catalogue import DataError
from tightbound.data.formats.text_files import TokenUnits
from tightbound.data.original_rules import original_texts
from tightbound.data.sentences import NUM_MARKS, UNKNOWN
from tightbound.data.token_rules import our_texts
from tightbound.data.token_split import scored, token_splits
from tightbound.data.token_texts import Language, Path, Source, Texts
from tightbound.data.vocabulary import Vocabulary, character_vocabulary, word_vocabulary
from tightbound.errors import UserError
from tightbound.estimators.estimate import Estimate


@dataclass(frozen=True)
class Corpus:
    """Splits whose x is a `Sequence` of symbols, and what their symbols stand for.

    A unit is a token that is predicted: words and the end, never BOS. `entropy`, in nats per
    unit, is the least a causal model can reach on average, where the source is known.
    """

    splits: dict[str, Split]  # "train", "valid", "test"
    vocabulary: Vocabulary
    notes: tuple[str, ...]  # a sentence each
    entropy: Estimate | None = None


def load_tokens(
    source: Source,
    *,
    language: Language = "en",
    units: TokenUnits = "words",
    rules: Literal["ours", "original"] = "ours",
    max_length: int | None,
    min_count: int,
    path: Path = None,
    max_rows: int | None = None,
    vocabulary_from: Literal["train", "all-splits"] = "train",
) -> Corpus:
    """Read a source as tokens.

    `rules` "ours" is `our_texts`, "original" is `original_texts`: see them for what becomes a row.
    `max_length` counts all that stands in a row, so the end (and the begin of the rules "original")
    too; None is whole, or the length of those rules. `units` is for text: residues are letters and the
    toy grammar is words whatever it says. Units that occur fewer than `min_count` times in the
    training split are UNKNOWN, as are those that do not occur there; made-up sources, and the
    rules "original", have a vocabulary of their own. "all-splits" makes it from held-out rows as
    well, as one should not. `path` is the user's own file, or folder of files, of that format.
    """
    _check_call(max_length, min_count, max_rows)
    read = original_texts if rules == "original" else our_texts
    texts = read(
        source,
        language=language,
        units=units,
        max_length=max_length,
        path=path,
        max_rows=max_rows,
    )
    _check_lengths(texts, source if path is None else path)
    vocabulary = texts.vocabulary
    if vocabulary is None:
        names = ("train",) if vocabulary_from == "train" else tuple(texts.rows)
        # From what is trained on: a word of a sentence that is left out would never be seen.
        known = [
            piece
            for name in names
            for text in texts.rows.get(name, [])
            for piece, _ in texts.layout.pieces(text)
        ]
        vocabulary = _vocabulary(known, texts.unit, min_count)
    splits = token_splits(
        {name: _rows(part, texts, vocabulary) for name, part in texts.rows.items()},
        law=_law(texts, rules, vocabulary),
    )
    _check_alphabet(splits["train"], source if path is None else path)
    notes = (*texts.notes, *_length_notes(texts))
    if texts.vocabulary is None:
        notes = (*notes, _unknown_note(splits, vocabulary, texts.unit, min_count, vocabulary_from))
    return Corpus(splits, vocabulary, notes, texts.entropy)


def _check_lengths(texts: Texts, source: Path | Source) -> None:
    """DataError where every sequence of a split is dropped for its length, with the shortest of them."""
    for name, part in texts.rows.items():
        if len(part) and not any(texts.layout.pieces(text) for text in part):
            shortest = min(map(len, part))
            raise DataError(
                f"All {len(part):,} sequences of the {name} split of {source} are longer than "
                f"{texts.layout.max_length} {texts.unit} with their marks, and longer ones are dropped: the "
                f"shortest has {shortest:,}. Raise `max_length`, write shorter lines, or take the units "
                "'characters', which are cut instead."
            )


def _vocabulary(rows: Iterable[Sequence[str]], unit: str, min_count: int) -> Vocabulary:
    if unit in ("characters", "residues"):
        return character_vocabulary(("".join(row) for row in rows), min_count=min_count)
    return word_vocabulary(rows, min_count=min_count)


def _rows(part: Iterable[Sequence[str]], texts: Texts, vocabulary: Vocabulary) -> list[list[int]]:
    return [
        texts.layout.row(vocabulary.encode(piece), ended)
        for text in part
        for piece, ended in texts.layout.pieces(text)
    ]


def _law(texts: Texts, rules: str, vocabulary: Vocabulary) -> str:
    """What a number on the split is about: "words, at most 20, end counted, vocabulary of 8,012". Of
    another vocabulary other words are one symbol, unknown, so its figures are about other events."""
    layout = texts.layout
    extent = {"drop": "at most", "cut": "first", "windows": "windows of"}[layout.excess]
    parts = [
        "original rules" if rules == "original" else "",
        texts.unit,
        "whole" if layout.max_length is None else f"{extent} {layout.max_length}",
        "begin given" if layout.begin else "",
        "end counted" if layout.end else "no end",
        f"vocabulary of {len(vocabulary):,}",
    ]
    return ", ".join(part for part in parts if part)


def _length_notes(texts: Texts) -> tuple[str, ...]:
    """How many sequences did not fit, and what became of them."""
    fate = {
        "drop": "are dropped",
        "cut": "are cut, and have no end there"
        if texts.layout.end and not texts.layout.always_end
        else "are cut",
        "windows": "are cut into windows, each read without what comes before it",
    }[texts.layout.excess]
    counts = {
        name: sum(texts.layout.pieces(text) != [(text, texts.layout.end)] for text in part)
        for name, part in texts.rows.items()
    }
    if not any(counts.values()):
        return ()
    shares = ", ".join(
        f"{counts[name]:,} of {len(part):,} in {name}" for name, part in texts.rows.items()
    )
    return (
        f"Longer than {texts.layout.max_length} tokens with their marks: {shares}; they {fate}.",
    )


def _unknown_note(
    splits: dict[str, Split],
    vocabulary: Vocabulary,
    unit: str,
    min_count: int,
    vocabulary_from: str,
) -> str:
    shares = ", ".join(
        f"{_unknown_share(split):.2%} of the {name} tokens" for name, split in splits.items()
    )
    origin = (
        "the training split"
        if vocabulary_from == "train"
        else "all splits, so it knows what stands in held-out rows"
    )
    rare = f"fewer than {min_count} times there" if min_count > 1 else "not once there"
    return (
        f"A vocabulary of {len(vocabulary):,} symbols from {origin}; {unit} that occur {rare} are one "
        f"unknown symbol: {shares}."
    )


def _unknown_share(split: Split) -> float:
    return float((split.x.values == UNKNOWN).sum() / scored(split).sum())


def _check_call(max_length: int | None, min_count: int, max_rows: int | None) -> None:
    for name, value in (
        ("max_length", max_length),
        ("min_count", min_count),
        ("max_rows", max_rows),
    ):
        if value is not None and value < 1:
            raise UserError(f"`{name}` is {value}, but it counts something: give at least 1.")


def _check_alphabet(train: Split, source: str | os.PathLike[str]) -> None:
    symbols = np.unique(train.x.values[scored(train)])
    if (symbols >= NUM_MARKS).sum() < 2:
        raise DataError(
            f"The training split of {source} has one symbol only, so there is nothing to predict. "
            "Lower `min_count`, take other units, or give another text."
        )
