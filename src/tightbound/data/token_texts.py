"""What is read of a source before its units become symbols."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tightbound.data.token_split import Layout
from tightbound.data.vocabulary import Vocabulary
from tightbound.estimators.estimate import Estimate

Source = Literal[
    "multi30k", "cath", "wikitext2", "tiny-shakespeare", "iid-residues", "toy-grammar", "file"
]
Language = Literal["en", "de"]
Path = str | os.PathLike[str] | None
Rows = Mapping[str, Sequence[Sequence[str]]]  # of each split, in units: a list of words, or a text


@dataclass(frozen=True)
class Texts:
    """What was read of each split, in units that are to become symbols, and how rows are made of it.

    `vocabulary` is None where it has to be made from the rows; `entropy` is known of sources that
    are themselves made up.
    """

    rows: Rows
    unit: str  # of one token, in the plural: "words"
    layout: Layout
    notes: tuple[str, ...] = ()
    vocabulary: Vocabulary | None = None
    entropy: Estimate | None = None
