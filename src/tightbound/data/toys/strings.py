"""Strings of letters that need no download: doublings, prefix doublings, and remapped strings.

A toy has three splits: train has the letters `trained`; valid and test have the same letters, or,
held out, the letters `unseen`. One vocabulary holds both. Rows are grouped by their first letter.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from tightbound.data.batch import Split
from tightbound.data.sentences import sentences
from tightbound.data.vocabulary import Vocabulary, letter_vocabulary
from tightbound.errors import UserError

TRAINED, UNSEEN = "abc", "xyz"
_LONGEST = 4096  # letters of a row; a doubling too many asks for more memory than there is

Seed = int | tuple[int, ...]  # of numpy's generator


def doubling(
    letters: str, doublings: int = 3, *, vocabulary: Vocabulary, name: str = "train"
) -> Split:
    """One row for each letter: that letter, 2^doublings times."""
    repeats = _repeats(doublings)
    texts = [letter * repeats for letter in letters]
    return _split(name, texts, letters, vocabulary, max_length=repeats)


def prefix_doubling(
    letters: str,
    prefix_length: int,
    num_rows: int,
    doublings: int = 3,
    *,
    seed: Seed,
    vocabulary: Vocabulary,
    name: str = "train",
) -> Split:
    """Rows u u ... u (2^doublings times) of random strings u, the first of which is given."""
    repeats = _repeats(doublings)
    prefixes = _random_strings(letters, num_rows, prefix_length, prefix_length, seed)
    return _split(
        name,
        [prefix * repeats for prefix in prefixes],
        letters,
        vocabulary,
        max_length=prefix_length * repeats,
        num_given=prefix_length,
    )


def remap(
    letters: str,
    permutation: Mapping[str, str],
    num_rows: int,
    min_length: int,
    max_length: int,
    *,
    seed: Seed,
    vocabulary: Vocabulary,
    name: str = "train",
) -> Split:
    """Rows pi(u) of random strings u: every letter replaced by its image under a permutation.

    All lengths from `min_length` to `max_length` are equally likely. `symbol_images` leads from u
    to the row, and with the inverse permutation back.
    """
    if not sorted(letters) == sorted(permutation) == sorted(permutation.values()):
        raise UserError(
            f"{dict(permutation)} is no permutation of `{letters}`: every letter needs one image, "
            "and must be the image of one."
        )
    strings = _random_strings(letters, num_rows, min_length, max_length, seed)
    texts = ["".join(permutation[letter] for letter in string) for string in strings]
    return _split(name, texts, letters, vocabulary, max_length=max_length)


def doubling_toy(
    *, held_out: bool, doublings: int = 3, trained: str = TRAINED, unseen: str = UNSEEN
) -> tuple[dict[str, Split], Vocabulary]:
    """t -> tt -> tttt -> tttttttt. Nothing is random."""
    vocabulary = letter_vocabulary(trained + unseen)

    def make(name: str, letters: str, seed: Seed) -> Split:
        return doubling(letters, doublings, vocabulary=vocabulary, name=name)

    return _three(make, trained, unseen if held_out else trained, seed=0), vocabulary


def prefix_doubling_toy(
    *,
    held_out: bool,
    prefix_length: int = 2,
    doublings: int = 2,
    num_rows: int = 64,
    seed: int = 0,
    trained: str = TRAINED,
    unseen: str = UNSEEN,
) -> tuple[dict[str, Split], Vocabulary]:
    """u -> uu -> uuuu for a random string u, which is given."""
    vocabulary = letter_vocabulary(trained + unseen)

    def make(name: str, letters: str, seed: Seed) -> Split:
        return prefix_doubling(
            *(letters, prefix_length, num_rows, doublings),
            seed=seed,
            vocabulary=vocabulary,
            name=name,
        )

    return _three(make, trained, unseen if held_out else trained, seed), vocabulary


def remap_toy(
    *,
    held_out: bool,
    shift: int = 1,
    min_length: int = 2,
    max_length: int = 6,
    num_rows: int = 64,
    seed: int = 0,
    trained: str = TRAINED,
    unseen: str = UNSEEN,
) -> tuple[dict[str, Split], Vocabulary]:
    """u -> pi(u) for a random string u and pi = `shifted`; a shift of 0 copies it."""
    vocabulary = letter_vocabulary(trained + unseen)

    def make(name: str, letters: str, seed: Seed) -> Split:
        return remap(
            *(letters, shifted(letters, shift), num_rows, min_length, max_length),
            seed=seed,
            vocabulary=vocabulary,
            name=name,
        )

    return _three(make, trained, unseen if held_out else trained, seed), vocabulary


def shifted(letters: str, shift: int) -> dict[str, str]:
    """The permutation that moves every letter `shift` places on, the last ones to the front."""
    return {letter: letters[(place + shift) % len(letters)] for place, letter in enumerate(letters)}


def symbol_images(
    permutation: Mapping[str, str], vocabulary: Vocabulary
) -> Int[np.ndarray, " symbols"]:
    """The image of every symbol, to be indexed with symbols; all but the letters stay themselves."""
    table = np.arange(len(vocabulary), dtype=np.int32)
    table[vocabulary.encode(permutation)] = vocabulary.encode(permutation.values())
    return table


def _three(
    make: Callable[[str, str, Seed], Split], trained: str, others: str, seed: int
) -> dict[str, Split]:
    """The three splits, each with random rows of its own."""
    letters = {"train": trained, "valid": others, "test": others}
    return {name: make(name, letters[name], (seed, at)) for at, name in enumerate(letters)}


def _split(
    name: str,
    texts: list[str],
    letters: str,
    vocabulary: Vocabulary,
    *,
    max_length: int,
    num_given: int = 0,
) -> Split:
    if max_length > _LONGEST:
        raise UserError(
            f"Strings of {max_length:,} letters were asked for; the longest made are {_LONGEST:,}."
        )
    rows = [vocabulary.encode(text) for text in texts]
    split, _ = sentences(name, rows, max_length=max_length, num_given=num_given)
    groups = np.array([letters.index(text[0]) for text in texts])
    return replace(split, groups=groups, group_names=tuple(letters))


def _repeats(doublings: int) -> int:
    largest = _LONGEST.bit_length() - 1
    if not 0 <= doublings <= largest:
        raise UserError(f"{doublings} doublings were asked for; give from 0 to {largest}.")
    return 2**doublings


def _random_strings(
    letters: str, num_rows: int, min_length: int, max_length: int, seed: Seed
) -> list[str]:
    if num_rows < 1 or not 1 <= min_length <= max_length:
        raise UserError(
            f"{num_rows} strings of {min_length} to {max_length} letters were asked for; give at "
            "least 1 row, and lengths from 1 up."
        )
    random = np.random.default_rng(seed)
    lengths = random.integers(min_length, max_length + 1, num_rows)
    return ["".join(random.choice(list(letters), length)) for length in lengths]
