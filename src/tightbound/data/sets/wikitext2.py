"""WikiText-2: tokenised articles of Wikipedia (Merity et al. 2016, arXiv:1609.07843)."""

import os

from tightbound.data.catalogue import find
from tightbound.data.formats.text_files import text_rows
from tightbound.data.sentences import UNKNOWN
from tightbound.data.vocabulary import MARKS

_LEFT_OUT = "<unk>"  # the publisher's sign for a word that occurs fewer than three times


def load_wikitext2(
    root: str | os.PathLike[str] | None = None, *, max_rows: int | None = None
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """The paragraphs and headings of the official train, valid and test, and notes."""
    rows, num_blank = {}, 0
    for name, path in zip(("train", "valid", "test"), find("wikitext2", root), strict=True):
        rows[name], blank = text_rows(path, max_rows=max_rows)
        num_blank += blank
    note = (
        f"Official splits, training articles in another order; {num_blank:,} blank lines passed over. "
        "Published perplexities carry the state from paragraph to paragraph and score blank lines: "
        "they are not comparable."
    )
    return rows, (note,)


def article_words(line: str) -> list[str]:
    """The published tokens; what the publisher left out is spelled as our own unknown word, and so
    becomes that symbol."""
    return [MARKS[UNKNOWN] if word == _LEFT_OUT else word for word in line.split()]
