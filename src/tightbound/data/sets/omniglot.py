"""Omniglot drawn online: characters of 50 alphabets as pen strokes (Lake et al. 2015)."""

import os

import numpy as np

from tightbound.data.batch import Split
from tightbound.data.catalogue import DataError, find_one
from tightbound.data.formats.ragged import cut_rows, read_named
from tightbound.data.strokes import OffsetScale, stroke_rows, stroke_splits, turned
from tightbound.errors import UserError

_SPLITS = ("train", "valid", "test")
_ADVICE = (
    "It must be a .npz with, for each of train, valid and test, an array `train_points` of shape "
    "(steps, 3) with dx, dy and whether the pen is lifted after the point, and `train_lengths`."
)


def load_omniglot(
    path: str | os.PathLike[str] | None = None,
    *,
    max_length: int | None = None,
    max_rows: int | None = None,
    clip: float | None = None,
    every: int = 1,
) -> tuple[dict[str, Split], OffsetScale, tuple[str, ...]]:
    """The splits train (30,000), valid and test (1,000 each), the scale of their offsets, and notes
    on what was done.

    Without `path` the published file is used; `path` is one of the same format, or a folder that
    holds one of its name. In the file y grows downwards, here upwards. `max_rows` reads only the
    first drawings of each split (they are in random order); `clip`, `every` and `max_length` are
    those of `stroke_splits`. The offsets lie on a grid, and a quarter of them have dx = 0: a
    density can grow there as far as the floor of its scale lets it.
    """
    if max_rows is not None and max_rows < 1:
        raise UserError(f"{max_rows} drawings were asked for; give at least 1, or none for all.")
    file = find_one("omniglot", path)
    names = [f"{split}_{what}" for split in _SPLITS for what in ("points", "lengths")]
    arrays = read_named(file, names, advice=_ADVICE)
    try:
        rows = {
            name: cut_rows(np.atleast_1d(arrays[f"{name}_points"]), arrays[f"{name}_lengths"])
            for name in _SPLITS
        }
        corpus = {
            name: [turned(path) for path in stroke_rows(name, rows[name][:max_rows])]
            for name in _SPLITS
        }
    except ValueError as error:
        raise DataError(f"{file} cannot be used: {error}") from error
    splits, scale = stroke_splits(corpus, clip=clip, every=every, max_length=max_length)
    notes = tuple(
        f"{name}: {len(corpus[name]):,} drawings in {len(split):,} sequences of at most "
        f"{split.mask.shape[1]:,} steps"
        for name, split in splits.items()
    )
    return splits, scale, notes
