"""Symbols of text: characters, words, or pieces of words by byte-pair encoding.

A vocabulary is made from the training split only. Its first symbols are PAD, BOS, EOS and
UNKNOWN, and nothing in a text is ever read as one of them, however it is spelled.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Array, Int

from tightbound.data.catalogue import DataError
from tightbound.data.sentences import NUM_MARKS, PAD, UNKNOWN
from tightbound.errors import UserError

MARKS = ("<pad>", "<bos>", "<eos>", "<unknown>")  # in the order of their symbols
WORD_START = "▁"  # begins the first piece of every word
_FORMAT = "tightbound vocabulary 1"

Units = Literal["letters", "characters", "words", "sub-words"]


@dataclass(frozen=True)
class Vocabulary:
    """The symbols a model knows, as text; the place of each is its number.

    letters     one symbol each; another character is a `UserError`
    characters  one symbol each, whatever a text is written in; another character is UNKNOWN
    words       a word that is not there is UNKNOWN
    sub-words   a word becomes pieces by the `merges`, in their order; a character that the
                training split does not have is UNKNOWN
    """

    symbols: tuple[str, ...]
    units: Units
    lowercase: bool = False
    merges: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, words: Iterable[str]) -> list[int]:
        """The symbols of these words (or letters), marks of begin and end not added."""
        return self.encode_pieces(words)[0]

    def encode_pieces(self, words: Iterable[str]) -> tuple[list[int], list[int]]:
        """The symbols of these words, and of which word each is a piece."""
        symbols: list[int] = []
        word_of: list[int] = []
        for index, word in enumerate(words):
            pieces = self._pieces(word.lower() if self.lowercase else word)
            symbols += pieces
            word_of += [index] * len(pieces)
        return symbols, word_of

    def decode(self, symbols: Sequence[int] | Int[Array | np.ndarray, " length"]) -> str:
        """The text of these symbols, words separated by spaces; PAD, BOS and EOS are left out."""
        shown = (symbol for symbol in np.asarray(symbols).tolist() if symbol >= NUM_MARKS)
        pieces = [self.symbols[symbol] for symbol in shown]
        if self.units == "sub-words":
            return "".join(pieces).replace(WORD_START, " ").strip()
        return (" " if self.units == "words" else "").join(pieces)

    def to_json(self) -> str:
        """All of it as text, for `vocabulary_from_json`."""
        content = {
            "format": _FORMAT,
            "units": self.units,
            "lowercase": self.lowercase,
            "symbols": self.symbols,
            "merges": self.merges,
        }
        return json.dumps(content, ensure_ascii=False, indent=0)

    def _pieces(self, word: str) -> list[int]:
        if self.units == "sub-words":
            if word in MARKS:
                return [UNKNOWN]
            return [token.id for token in self._encoder.tokenize(WORD_START + word)]
        symbol = self._numbers.get(word, UNKNOWN)
        if symbol == UNKNOWN and self.units == "letters":
            raise UserError(
                f"`{word}` is not a letter of this alphabet, which has "
                f"{', '.join(self.symbols[len(MARKS) :])}."
            )
        return [symbol]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """The symbol of each text that may be read, so not of the marks."""
        after = len(MARKS)
        return {text: symbol for symbol, text in enumerate(self.symbols[after:], start=after)}

    @cached_property
    def _encoder(self) -> Any:
        numbers = {text: symbol for symbol, text in enumerate(self.symbols)}
        return _tokenizers().models.BPE(
            vocab=numbers, merges=list(self.merges), unk_token=MARKS[UNKNOWN]
        )


def letter_vocabulary(letters: str) -> Vocabulary:
    """One symbol for each of these letters, in their order."""
    if not letters or len(set(letters)) != len(letters):
        raise UserError(f"An alphabet needs distinct letters, at least one; `{letters}` came.")
    return Vocabulary((*MARKS, *letters), "letters")


def word_vocabulary(
    sentences: Iterable[Sequence[str]], *, min_count: int = 1, lowercase: bool = False
) -> Vocabulary:
    """The words that occur at least `min_count` times, the most frequent first, ties by spelling."""
    counts = _word_counts(sentences, lowercase)
    frequent = [word for word in counts if counts[word] >= min_count]
    if not frequent:
        raise DataError(
            f"No word occurs {min_count} times in the training split, which has "
            f"{counts.total():,} words. Lower `min_count`, or give more text."
        )
    frequent.sort(key=lambda word: (-counts[word], word))
    return Vocabulary((*MARKS, *frequent), "words", lowercase)


def character_vocabulary(texts: Iterable[str], *, min_count: int = 1) -> Vocabulary:
    """The characters that occur at least `min_count` times, in the order of Unicode; case is kept."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    frequent = sorted(character for character in counts if counts[character] >= min_count)
    if not frequent:
        raise DataError(
            f"No character occurs {min_count} times in the training split, which has "
            f"{counts.total():,} characters. Lower `min_count`, or give more text."
        )
    return Vocabulary((*MARKS, *frequent), "characters")


def subword_vocabulary(
    sentences: Iterable[Sequence[str]], *, size: int, lowercase: bool = False
) -> Vocabulary:
    """`size` symbols, marks included: the characters of the text and the most frequent merges.

    Byte-pair encoding over words (Sennrich et al. 2016, arXiv:1508.07909, algorithm 1): the
    adjacent pair that is most frequent becomes a piece, again and again; ties go to the pair of
    earlier symbols. Fewer symbols come where every word is one piece already.
    """
    counts = _word_counts(sentences, lowercase)
    # else a merge could spell a mark, and text would be read as padding
    words = [word for word in counts if not any(mark in word for mark in MARKS)]
    alphabet = {character for word in words for character in WORD_START + word}
    smallest = len(MARKS) + len(alphabet)
    if not words or size < smallest:
        raise DataError(
            f"{size:,} symbols were asked for, but the training split has {len(alphabet):,} "
            f"characters in {counts.total():,} words: with {len(MARKS)} marks that is {smallest:,}"
            " symbols at least. Raise `vocabulary_size`, or give more text."
        )
    library = _tokenizers()
    tokenizer = library.Tokenizer(library.models.BPE())
    trainer = library.trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(MARKS), show_progress=False
    )
    occurrences = (WORD_START + word for word in words for _ in range(counts[word]))
    tokenizer.train_from_iterator(occurrences, trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    symbols = sorted(trained["vocab"], key=trained["vocab"].__getitem__)
    merges = tuple((left, right) for left, right in trained["merges"])
    return Vocabulary(tuple(symbols), "sub-words", lowercase, merges)


def text_vocabulary(
    sentences: Iterable[Sequence[str]],
    *,
    units: Literal["words", "sub-words"],
    min_count: int,
    vocabulary_size: int,
    lowercase: bool,
) -> Vocabulary:
    """Words from `min_count` occurrences, or `vocabulary_size` sub-words."""
    if units == "words":
        return word_vocabulary(sentences, min_count=min_count, lowercase=lowercase)
    return subword_vocabulary(sentences, size=vocabulary_size, lowercase=lowercase)


def vocabulary_from_json(text: str, source: str) -> Vocabulary:
    """What `Vocabulary.to_json` wrote; `source` names it where it is something else."""
    try:
        content = json.loads(text)
        symbols, merges = tuple(content["symbols"]), tuple(map(tuple, content["merges"]))
        known = set(symbols)
        right = (
            content["format"] == _FORMAT
            and content["units"] in get_args(Units)
            and isinstance(content["lowercase"], bool)
            and all(isinstance(symbol, str) for symbol in symbols)
            and symbols[: len(MARKS)] == MARKS
            and len(known) == len(symbols)
            and all(len(merge) == 2 and {*merge, "".join(merge)} <= known for merge in merges)
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        right = False
    if not right:
        raise DataError(
            f"{source} is no vocabulary of the format `{_FORMAT}`. Was it edited, or given in the "
            "place of another file?"
        )
    return Vocabulary(symbols, content["units"], content["lowercase"], merges)


def unknown_share(tokens: Int[np.ndarray, "rows length"]) -> float:
    """The share of tokens that are UNKNOWN, padding not counted."""
    return float((tokens == UNKNOWN).sum() / (tokens != PAD).sum())


def _word_counts(sentences: Iterable[Sequence[str]], lowercase: bool) -> Counter[str]:
    """How often each word occurs; words spelled like a mark are left out."""
    words = (word.lower() if lowercase else word for words in sentences for word in words)
    return Counter(word for word in words if word not in MARKS)


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise DataError(
            "Sub-words need the package tokenizers, which is not installed. Install "
            "`tightbound[text]`, or take words as units."
        ) from error
    return tokenizers
