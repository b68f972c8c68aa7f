"""Arrays out of a `.npz` that nobody vouches for: no pickles, and no memory for what is not there."""

import io
import math
import os
import zipfile
import zlib

import numpy as np

_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_arrays(path: str | os.PathLike[str], *, limit: int) -> dict[str, np.ndarray]:
    """Every array of the file, in stored order. ValueError, with half a sentence, where it cannot be.

    `numpy.load` trusts an array's header and reserves what it announces; here the bytes are read
    first, at most `limit` of them, and must be exactly as many as announced.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    content = member.read(limit + 1)
                limit -= len(content)
                if limit < 0:
                    raise ValueError("it unpacks to more than can be meant")
                arrays[name.removesuffix(".npy")] = _read_array(content)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(str(error) or "it ends too early") from error
    except (NotImplementedError, RuntimeError) as error:  # unknown compression; encrypted
        raise ValueError(str(error)) from error
    return arrays


def _read_array(content: bytes) -> np.ndarray:
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        shape, fortran_order, dtype = _READ_HEADER[version](stream)
    except (ValueError, KeyError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError("a member is not an array in NumPy's format") from error
    values = content[stream.tell() :]
    announced = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or min(shape, default=0) < 0 or announced != len(values):
        raise ValueError(
            f"an array announces type {dtype} and shape {shape} and has {len(values):,} bytes"
        )
    array = np.frombuffer(values, dtype)
    return array.reshape(shape, order="F" if fortran_order else "C")
