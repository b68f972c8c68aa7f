"""One fixed binarisation of MNIST (Larochelle and Murray 2011), eight pixels to a byte.

Numbers on it are about two nats away from those under dynamic binarisation, and models overfit
it; its law is stated with every number so that the two are never mixed.
"""

import os
from pathlib import Path

import numpy as np

from tightbound.data.batch import Split, rows
from tightbound.data.catalogue import DataError, find
from tightbound.data.formats.npz import read_arrays

_SPLITS = ("train", "valid", "test")
_LARGEST = 1 << 32  # bytes all arrays may unpack to
_ADVICE = (
    "It must be a .npz with the arrays train, valid and test: unsigned bytes of shape "
    "(rows, pixels / 8), as `numpy.packbits(x, axis=1)` makes them."
)


def load_static_mnist(path: str | os.PathLike[str] | None = None) -> dict[str, Split]:
    """The splits train (50,000), valid and test (10,000 each): flattened images of 0 and 1, no labels.

    Without `path` the published file is used. `path` is a `.npz` of the same format, or a folder
    that holds one named `binarized_mnist.npz`.
    """
    if path is not None and Path(path).is_file():
        file = Path(path)
    else:
        (file,) = find("mnist-static", path)
    packed = _read_packed(file)
    return {
        name: rows(name, np.unpackbits(packed[name], axis=1), law="static binarisation")
        for name in _SPLITS
    }


def _read_packed(path: Path) -> dict[str, np.ndarray]:
    try:
        arrays = read_arrays(path, limit=_LARGEST)
        packed = {name: arrays[name] for name in _SPLITS}
    except KeyError as error:
        raise DataError(f"{path} has no array {error}. {_ADVICE}") from error
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}. {_ADVICE}") from error
    for name, array in packed.items():
        if array.dtype != np.uint8 or array.ndim != 2 or array.size == 0:
            raise DataError(
                f"{path} has `{name}` of type {array.dtype} and shape {array.shape}. {_ADVICE}"
            )
    widths = [array.shape[1] for array in packed.values()]
    if len(set(widths)) != 1:
        raise DataError(f"{path} has splits of {widths} bytes per row, which must agree. {_ADVICE}")
    return packed
