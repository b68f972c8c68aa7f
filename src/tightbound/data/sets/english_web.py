"""Universal Dependencies English-EWT: web text with gold trees (Silveira et al. 2014)."""

import os
from typing import Literal

from tightbound.data.batch import Split
from tightbound.data.catalogue import find
from tightbound.data.formats.conllu import read_conllu
from tightbound.data.sentences import Dropped, piece_heads, sentences
from tightbound.data.vocabulary import Vocabulary, text_vocabulary


def load_ewt(
    root: str | os.PathLike[str] | None = None,
    *,
    units: Literal["words", "sub-words"] = "words",
    min_count: int = 3,
    vocabulary_size: int = 4000,
    lowercase: bool = True,
    max_length: int = 24,
    max_swaps: int | None = 24,
    max_rows: int | None = None,
    law: str = "",
) -> tuple[dict[str, Split], Vocabulary, dict[str, Dropped]]:
    """The splits train, valid (the treebank's dev) and test, each a `Sentence` with heads.

    The vocabulary comes from the training split: words that occur `min_count` times, or
    `vocabulary_size` sub-words. Sentences of more than `max_length` tokens, or whose equal tokens
    can be rearranged in more than `max_swaps` ways, are dropped and counted. `max_rows` reads
    only the first sentences of each file, and then the vocabulary is made from those.

    Without `root` the published files are used; `root` is a folder with three of the same names.
    """
    files = zip(("train", "valid", "test"), find("ewt", root), strict=True)
    parsed = {name: read_conllu(path, max_rows=max_rows) for name, path in files}
    vocabulary = text_vocabulary(
        (sentence.words for sentence in parsed["train"]),
        units=units,
        min_count=min_count,
        vocabulary_size=vocabulary_size,
        lowercase=lowercase,
    )
    splits, dropped = {}, {}
    for name, corpus in parsed.items():
        pieces = [vocabulary.encode_pieces(sentence.words) for sentence in corpus]
        splits[name], dropped[name] = sentences(
            name,
            [symbols for symbols, _ in pieces],
            heads=[
                piece_heads(sentence.heads, word_of)
                for sentence, (_, word_of) in zip(corpus, pieces, strict=True)
            ],
            max_length=max_length,
            max_swaps=max_swaps,
            law=law,
        )
    return splits, vocabulary, dropped
