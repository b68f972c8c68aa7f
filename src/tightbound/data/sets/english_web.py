"""Universal Dependencies English-EWT: web text with gold trees (Silveira et al. 2014)."""

import os

from tightbound.data.batch import Split
from tightbound.data.catalogue import find
from tightbound.data.formats.conllu import read_conllu
from tightbound.data.sentence_splits import Units, sentence_splits
from tightbound.data.sentences import Dropped
from tightbound.data.vocabulary import Vocabulary


def load_ewt(
    root: str | os.PathLike[str] | None = None,
    *,
    units: Units = "words",
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
    return sentence_splits(
        {name: [sentence.words for sentence in corpus] for name, corpus in parsed.items()},
        heads={name: [sentence.heads for sentence in corpus] for name, corpus in parsed.items()},
        units=units,
        min_count=min_count,
        vocabulary_size=vocabulary_size,
        lowercase=lowercase,
        max_length=max_length,
        max_swaps=max_swaps,
        law=law,
    )
