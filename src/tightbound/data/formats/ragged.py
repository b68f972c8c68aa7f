"""Sequences stored one after another in one array, with their lengths in another."""

import os
from collections.abc import Iterable, Sequence

import numpy as np

from tightbound.data.catalogue import DataError
from tightbound.files.arrays import read_arrays

_LARGEST = 1 << 32  # bytes all arrays of a file may unpack to


def read_named(
    path: str | os.PathLike[str], names: Iterable[str], *, advice: str
) -> dict[str, np.ndarray]:
    """The named arrays of a `.npz`. `DataError` where one is missing or the file is not one;
    `advice` ends its sentence and says what the file must be."""
    wanted = list(names)
    arrays = _read(path, wanted, advice)
    if missing := [name for name in wanted if name not in arrays]:
        raise DataError(f"{path} has no array {missing[0]!r}. {advice}")
    return {name: arrays[name] for name in wanted}


def read_every(path: str | os.PathLike[str], *, advice: str) -> dict[str, np.ndarray]:
    """All arrays of a `.npz`, in stored order; `DataError` as `read_named` has it."""
    return _read(path, None, advice)


def _read(
    path: str | os.PathLike[str], names: Sequence[str] | None, advice: str
) -> dict[str, np.ndarray]:
    try:
        return read_arrays(path, names, limit=_LARGEST)
    except FileNotFoundError as error:
        raise DataError(f"{path} cannot be read: there is no such file. {advice}") from error
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
