"""Sequences stored one after another in one array, with their lengths in another."""

import os
from collections.abc import Iterable

import numpy as np

from tightbound.data.catalogue import DataError
from tightbound.data.formats.npz import read_arrays

_LARGEST = 1 << 32  # bytes all arrays of a file may unpack to


def read_named(
    path: str | os.PathLike[str], names: Iterable[str], *, advice: str
) -> dict[str, np.ndarray]:
    """The named arrays of a `.npz`. `DataError` where one is missing or the file is not one;
    `advice` ends its sentence and says what the file must be."""
    arrays = read_every(path, advice=advice)
    try:
        return {name: arrays[name] for name in names}
    except KeyError as error:
        raise DataError(f"{path} has no array {error}. {advice}") from error


def read_every(path: str | os.PathLike[str], *, advice: str) -> dict[str, np.ndarray]:
    """All arrays of a `.npz`, in stored order; `DataError` as `read_named` has it."""
    try:
        return read_arrays(path, limit=_LARGEST)
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}. {advice}") from error


def cut_rows(values: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """`values` cut into sequences: row i is values[sum(lengths[:i]) : sum(lengths[:i + 1])].

    An empty sequence is a row too. ValueError, with half a sentence, where the lengths are no
    lengths or are not those of `values`.
    """
    if lengths.dtype.kind not in "iu" or lengths.ndim != 1 or not len(lengths):
        raise ValueError(
            f"lengths of type {lengths.dtype} and shape {lengths.shape} are no list of whole numbers"
        )
    # A length may not exceed the whole: after that their sum cannot overflow.
    fits = lengths.min() >= 0 and lengths.max() <= len(values)
    ends = np.cumsum(lengths, dtype=np.int64)
    if not fits or ends[-1] != len(values):
        raise ValueError(
            f"{len(lengths):,} lengths from {lengths.min()} to {lengths.max()} do not add up to the "
            f"{len(values):,} steps there are"
        )
    return np.split(values, ends[:-1])
