"""Sentences as padded rows of symbols, with the tree over their words where there is one."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product

import equinox as eqx
import numpy as np
from jaxtyping import Array, Int

from tightbound.data.batch import Split
from tightbound.data.catalogue import DataError
from tightbound.errors import UserError

PAD, BOS, EOS, UNKNOWN = 0, 1, 2, 3
NUM_MARKS = 3  # PAD, BOS and EOS are never a word of a sentence; every other symbol may be

_LARGEST = 1 << 27  # entries of `swaps`, half a gigabyte


class Sentence(eqx.Module):
    """One sentence, or with a leading axis on every leaf many of them, as a `Batch` holds them.

    `tokens` are symbols of at least `NUM_MARKS`, then PAD; begin and end are not stored. `heads`
    is the position of each word's head, -1 at a root and at padding. `swaps` are all the ways of
    rearranging equal words (each a permutation of the positions; the identity first; rows of -1
    fill up), which is what the law of a pruned string needs to sum over. `num_given` leading
    tokens are given: nothing is scored for them.
    """

    tokens: Int[Array | np.ndarray, "*batch length"]
    num_given: Int[Array | np.ndarray, "*batch"]
    heads: Int[Array | np.ndarray, "*batch length"] | None = None
    swaps: Int[Array | np.ndarray, "*batch ways length"] | None = None


@dataclass(frozen=True)
class Dropped:
    """How many sentences of a corpus became rows of a split, and why the others did not."""

    kept: int
    empty: int = 0
    too_long: int = 0
    too_many_swaps: int = 0

    def __str__(self) -> str:
        total = self.kept + self.empty + self.too_long + self.too_many_swaps
        return (
            f"{self.kept:,} of {total:,} sentences kept; dropped: {self.empty:,} empty, "
            f"{self.too_long:,} too long, {self.too_many_swaps:,} with too many equal words"
        )


def sentences(
    name: str,
    rows: Sequence[Sequence[int]],
    *,
    max_length: int,
    law: str = "",
    heads: Sequence[Sequence[int]] | None = None,
    num_given: int = 0,
    max_swaps: int | None = None,
) -> tuple[Split, Dropped]:
    """A split of the rows of 1 to `max_length` tokens, in order, and the count of the others.

    No row is ever cut. With `heads` every row gets its `swaps`, and a row with more than
    `max_swaps` of them is dropped and counted too. All splits made with one `max_length` have one
    width, so that one compiled program serves them; the number of ways is the largest kept.
    """
    _check_call(name, rows, heads, max_length, max_swaps)
    fates = [_fate(row, max_length, max_swaps if heads is not None else None) for row in rows]
    dropped = Dropped(**{"kept": 0, **Counter(fates)})
    kept = [index for index, fate in enumerate(fates) if fate == "kept"]
    if not kept:
        raise DataError(f"The {name} split would be empty: {dropped}. Raise the limits.")
    lengths = np.array([len(rows[index]) for index in kept], np.int32)
    if not 0 <= num_given <= lengths.min():
        raise UserError(
            f"{num_given} leading tokens were to be given, but the {name} split has a sentence of "
            f"{lengths.min()}. Give from 0 to that many."
        )
    x = Sentence(
        tokens=_padded([rows[index] for index in kept], max_length, PAD),
        num_given=np.full(len(kept), num_given, np.int32),
        heads=None if heads is None else _padded([heads[i] for i in kept], max_length, -1),
        swaps=None if heads is None else _all_swaps([rows[i] for i in kept], max_length),
    )
    mask = np.arange(max_length) < lengths[:, None]
    return Split(name=name, x=x, mask=mask, num_units=lengths, law=law), dropped


def num_swaps(tokens: Sequence[int]) -> int:
    """Number of ways of rearranging equal words: the product of n! over words that occur n times."""
    return math.prod(math.factorial(count) for count in Counter(tokens).values())


def swaps_of(tokens: Sequence[int], length: int) -> Iterator[list[int]]:
    """Each rearrangement of equal words as a permutation of `length` positions, the identity first.

    It leaves `tokens` as it is: tokens[way[i]] = tokens[i]. Padding stays where it is.
    """
    places: dict[int, list[int]] = {}
    for position, token in enumerate(tokens):
        places.setdefault(token, []).append(position)
    for choice in product(*(permutations(positions) for positions in places.values())):
        way = list(range(length))
        for positions, images in zip(places.values(), choice, strict=True):
            for position, image in zip(positions, images, strict=True):
                way[position] = image
        yield way


def piece_heads(heads: Sequence[int], word_of: Sequence[int]) -> list[int]:
    """The tree over the pieces of words, from the tree over words and the word of each piece.

    A word's first piece hangs from the first piece of the head, its other pieces from its first.
    """
    first: dict[int, int] = {}
    for piece, word in enumerate(word_of):
        first.setdefault(word, piece)
    return [
        first[word] if piece != first[word] else -1 if heads[word] == -1 else first[heads[word]]
        for piece, word in enumerate(word_of)
    ]


def _fate(row: Sequence[int], max_length: int, max_swaps: int | None) -> str:
    """The field of `Dropped` that counts this row."""
    if len(row) == 0:
        return "empty"
    if len(row) > max_length:
        return "too_long"
    if max_swaps is not None and num_swaps(row) > max_swaps:
        return "too_many_swaps"
    return "kept"


def _check_call(
    name: str,
    rows: Sequence[Sequence[int]],
    heads: Sequence[Sequence[int]] | None,
    max_length: int,
    max_swaps: int | None,
) -> None:
    if max_length < 1 or (max_swaps is not None and max_swaps < 1):
        raise UserError(
            f"Sentences of at most {max_length} tokens and {max_swaps} rearrangements were asked "
            "for; both limits must be at least 1."
        )
    for index, row in enumerate(rows):
        if any(token < NUM_MARKS for token in row):
            raise UserError(
                f"Row {index} of the {name} split holds the symbol {min(row)}, but words have "
                f"symbols from {NUM_MARKS}: padding, begin and end are not stored."
            )
    if heads is None:
        return
    if len(heads) != len(rows):
        raise UserError(f"The {name} split has {len(rows)} rows and {len(heads)} trees.")
    for index, (row, tree) in enumerate(zip(rows, heads, strict=True)):
        if len(tree) != len(row) or any(not -1 <= head < len(row) for head in tree):
            raise UserError(
                f"Row {index} of the {name} split has {len(row)} tokens and the heads {list(tree)}."
                " Each token needs one, a position in the row or -1."
            )


def _padded(
    rows: Sequence[Sequence[int]], length: int, filling: int
) -> Int[np.ndarray, "rows length"]:
    padded = np.full((len(rows), length), filling, np.int32)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


def _all_swaps(rows: Sequence[Sequence[int]], length: int) -> Int[np.ndarray, "rows ways length"]:
    ways = max(num_swaps(row) for row in rows)
    if len(rows) * ways * length > _LARGEST:
        raise DataError(
            f"The equal words of one sentence can be rearranged in {ways:,} ways, too many to keep "
            f"for {len(rows):,} rows of {length}. Lower the largest number of rearrangements."
        )
    swaps = np.full((len(rows), ways, length), -1, np.int32)
    for index, row in enumerate(rows):
        swaps[index, : num_swaps(row)] = list(swaps_of(row, length))
    return swaps
