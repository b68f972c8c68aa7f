"""Splits of sentences in words: one vocabulary, made from the training split, and a tree where there is one."""

from collections.abc import Mapping, Sequence
from typing import Literal

from tightbound.data.batch import Split
from tightbound.data.sentences import Dropped, piece_heads, sentences
from tightbound.data.vocabulary import Vocabulary, text_vocabulary

Units = Literal["words", "sub-words"]
Words = Sequence[str]
Heads = Sequence[int]  # of every word the position of its head, -1 at a root


def sentence_splits(
    corpora: Mapping[str, Sequence[Words]],
    *,
    heads: Mapping[str, Sequence[Heads]] | None = None,
    units: Units,
    min_count: int,
    vocabulary_size: int,
    lowercase: bool,
    max_length: int,
    max_swaps: int | None = None,
    law: str = "",
) -> tuple[dict[str, Split], Vocabulary, dict[str, Dropped]]:
    """The splits, their vocabulary, and how many sentences of each were dropped.

    The vocabulary has the words that occur `min_count` times in "train", or `vocabulary_size` sub-words.
    Sentences of more than `max_length` tokens, or with `heads` those whose equal tokens can be rearranged
    in more than `max_swaps` ways, are dropped and counted.
    """
    vocabulary = text_vocabulary(
        corpora["train"],
        units=units,
        min_count=min_count,
        vocabulary_size=vocabulary_size,
        lowercase=lowercase,
    )
    splits, dropped = {}, {}
    for name, corpus in corpora.items():
        pieces = [vocabulary.encode_pieces(words) for words in corpus]
        trees = None
        if heads is not None:
            trees = [
                piece_heads(tree, word_of)
                for tree, (_, word_of) in zip(heads[name], pieces, strict=True)
            ]
        splits[name], dropped[name] = sentences(
            name,
            [symbols for symbols, _ in pieces],
            heads=trees,
            max_length=max_length,
            max_swaps=max_swaps,
            law=law,
        )
    return splits, vocabulary, dropped
