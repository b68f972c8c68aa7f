"""Multi30K: captions of images in English and German (Elliott et al. 2016, W16-3210).

The published files, raw or lower-case and tokenised (tokens separated by spaces): one sentence a
line; line i of one language translates line i of the other.
"""

import os
from itertools import islice
from typing import Literal

from tightbound.data.batch import Split
from tightbound.data.catalogue import find
from tightbound.data.formats.text_lines import numbered_lines
from tightbound.data.sentence_splits import Units, sentence_splits
from tightbound.data.sentences import Dropped
from tightbound.data.vocabulary import Vocabulary


def load_multi30k(
    root: str | os.PathLike[str] | None = None,
    *,
    language: Literal["en", "de"] = "en",
    units: Units = "words",
    min_count: int = 2,
    vocabulary_size: int = 4000,
    lowercase: bool = True,
    max_length: int = 20,
    max_rows: int | None = None,
    law: str = "",
) -> tuple[dict[str, Split], Vocabulary, dict[str, Dropped]]:
    """The splits train, valid and test (test_2016_flickr) of one language, without trees.

    The vocabulary comes from the training split: words that occur `min_count` times, or
    `vocabulary_size` sub-words. Sentences of more than `max_length` tokens are dropped and
    counted. `max_rows` reads only the first sentences of each file, and then the vocabulary is
    made from those. The published text is lower-case; `lowercase` is for files of your own.

    Without `root` the published files are used; `root` is a folder with files of the same names.
    """
    corpora = {
        name: [line.split() for line in lines]
        for name, lines in multi30k_lines(root, language=language, max_rows=max_rows).items()
    }
    return sentence_splits(
        corpora,
        units=units,
        min_count=min_count,
        vocabulary_size=vocabulary_size,
        lowercase=lowercase,
        max_length=max_length,
        law=law,
    )


def multi30k_lines(
    root: str | os.PathLike[str] | None = None,
    *,
    language: Literal["en", "de"],
    raw: bool = False,
    max_rows: int | None = None,
) -> dict[str, list[str]]:
    """The first lines of train, valid and test in one language: tokenised in lower case, or raw.

    Blank lines are among them, so that line i still translates line i.
    """
    files = find("multi30k-raw" if raw else "multi30k", root)
    paths = [path for path in files if f".{language}" in path.suffixes]
    return {
        name: [line for _, line in islice(numbered_lines(path), max_rows)]
        for name, path in zip(("train", "valid", "test"), paths, strict=True)
    }
