"""Arrays out of a `.npz` that nobody vouches for: headers first, no pickles, and only what is named."""

import math
import os
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np

from tightbound.files.opening import most_unpacked, open_regular

_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those that NumPy writes
_MOST_MEMBERS = 100_000
_MOST_EMPTY = 1_000_000  # rows of an array without bytes: nothing else would bound them
_CHUNK = 1 << 20


def read_arrays(
    path: str | os.PathLike[str],
    names: Collection[str] | None = None,
    *,
    limit: int,
    follow_links: bool = True,
) -> dict[str, np.ndarray]:
    """Those of the named arrays (None: all) that the file has, in stored order. ValueError, with half a
    sentence, where they cannot be read; FileNotFoundError is the caller's.

    All together may have at most `limit` bytes, and not many more than the file packs into itself
    (`files.opening`). What an array announces is known before memory is taken for it.
    """
    arrays = {}
    with _archive(path, follow_links) as (archive, most):
        budget = min(limit, most)
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if names is not None and name not in names:
                continue
            if info.compress_type not in _PACKINGS or info.flag_bits & 1:
                raise ValueError(f"its member {name!r} is packed or locked in a way NumPy has not")
            if info.file_size > budget:
                raise ValueError(
                    f"its member {name!r} unpacks to {info.file_size:,} bytes, and no more than "
                    f"{budget:,} can be meant of so small a file"
                )
            budget -= info.file_size
            with archive.open(info) as member:
                arrays[name] = _read_array(member, info.file_size, name)
    return arrays


def array_names(path: str | os.PathLike[str]) -> list[str]:
    """The names of all arrays, without reading any; ValueError as `read_arrays` has it."""
    with _archive(path, follow_links=True) as (archive, _):
        return [name.removesuffix(".npy") for name in archive.namelist()]


@contextmanager
def _archive(
    path: str | os.PathLike[str], follow_links: bool
) -> Iterator[tuple[zipfile.ZipFile, int]]:
    """The archive, and how much it may unpack to; what zipfile and zlib raise of one that is damaged is a ValueError."""
    try:
        with (
            open_regular(path, follow_links=follow_links) as raw,
            zipfile.ZipFile(raw) as archive,
        ):
            if len(archive.infolist()) > _MOST_MEMBERS:
                raise ValueError(f"it has more than {_MOST_MEMBERS:,} members")
            yield archive, most_unpacked(raw)
    except FileNotFoundError:
        raise
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        strerror = error.strerror if isinstance(error, OSError) else None
        raise ValueError(strerror or str(error) or "it ends too early") from error
    except (NotImplementedError, RuntimeError, OverflowError, MemoryError) as error:
        raise ValueError(str(error) or "it asks for more memory than there is") from error


def _read_array(member: zipfile.ZipExtFile | IO[bytes], size: int, name: str) -> np.ndarray:
    try:
        version = np.lib.format.read_magic(member)
        shape, fortran_order, dtype = _READ_HEADER[version](member)
    except Exception as error:  # NumPy's parser, and Python's behind it, each raise their own
        raise ValueError(f"its member {name!r} is not an array in NumPy's format") from error
    stored = size - member.tell()
    announced = math.prod(shape) * dtype.itemsize
    said = f"its array {name!r} announces type {dtype} and shape {shape} and has {stored:,} bytes"
    empty = announced == 0 and max(shape, default=0) > _MOST_EMPTY
    if dtype.hasobject:
        raise ValueError(f"its array {name!r} holds pickles, and those are not opened")
    if min(shape, default=0) < 0 or announced != stored or empty:
        raise ValueError(said)
    content = bytearray()
    while len(content) < stored and (chunk := member.read(min(_CHUNK, stored - len(content)))):
        content += chunk
    try:
        array = np.frombuffer(content, dtype) if announced else np.empty(math.prod(shape), dtype)
        return array.reshape(shape, order="F" if fortran_order else "C")
    except ValueError as error:
        raise ValueError(said) from error
