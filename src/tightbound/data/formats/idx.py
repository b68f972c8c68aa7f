"""MNIST and whatever else comes as idx files (big-endian header, then unsigned bytes).

images: 00 00 08 03, rows, height, width (4 bytes each), then one byte a pixel, row by row
labels: 00 00 08 01, rows (4 bytes), then one byte a label
"""

import gzip
import io
import math
import os
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from tightbound.data.batch import Split, rows
from tightbound.data.catalogue import DataError, find

MNIST_LEVELS = 255  # the largest grey value

_CHUNK = 1 << 20
_LARGEST = 1 << 32  # bytes a file may unpack to: five million images of MNIST's size


def load_mnist(
    path: str | os.PathLike[str] | None = None,
    num_valid: int = 400,
    *,
    law: str = "dynamic binarisation",
) -> dict[str, Split]:
    """The splits train, valid and test: flattened grey images 0..255, labels in `groups`.

    `valid` is the last `num_valid` rows of the training file: 400 as in Burda et al. 2016
    (arXiv:1509.00519), sec. 5; other papers take 10,000. `law` says what the caller's noising
    makes of the grey values, and travels with every number.

    Without `path` the published files are used. `path` is a folder with four files of the same
    names, or one images file: its last `num_valid` rows are then the test split, the others the
    training file, and there are no labels.
    """
    if path is not None and Path(path).is_file():
        grey = _flat(read_images(path))
        cut = _cut(path, len(grey), num_valid)
        train, test = (grey[:cut], None), (grey[cut:], None)
    else:
        train_images, train_labels, test_images, test_labels = find("mnist", path)
        train = _labelled_rows(train_images, train_labels)
        test = _labelled_rows(test_images, test_labels)
        if train[0].shape[1] != test[0].shape[1]:
            raise DataError(
                f"{train_images} has {train[0].shape[1]} pixels per image, but {test_images} has "
                f"{test[0].shape[1]}. Both must have the same size."
            )
        path = train_images
    grey, labels = train
    cut = _cut(path, len(grey), num_valid)
    return {
        "train": rows("train", grey[:cut], law=law, labels=_rows(labels, slice(None, cut))),
        "valid": rows("valid", grey[cut:], law=law, labels=_rows(labels, slice(cut, None))),
        "test": rows("test", test[0], law=law, labels=test[1]),
    }


def read_images(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "rows height width"]:
    """The images of an idx file, packed by gzip or not."""
    return _read_idx(Path(path), num_axes=3)


def read_labels(path: str | os.PathLike[str]) -> UInt8[np.ndarray, " rows"]:
    """The labels of an idx file, packed by gzip or not."""
    return _read_idx(Path(path), num_axes=1)


def _read_idx(path: Path, num_axes: int) -> UInt8[np.ndarray, "..."]:
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not packed:
                return _parse(raw, path, num_axes)
            with gzip.GzipFile(fileobj=raw) as unpacked:
                return _parse(unpacked, path, num_axes)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read: {error}. Get the file again; idx files may be plain or .gz."
        ) from error


def _parse(stream: io.BufferedIOBase, path: Path, num_axes: int) -> np.ndarray:
    """Header, then exactly the bytes it announces. No more memory is taken than really arrives."""
    kind = {1: "labels", 3: "images"}[num_axes]
    magic = bytes([0, 0, 8, num_axes])
    header = stream.read(4 + 4 * num_axes)
    if header[:4] != magic:
        raise DataError(
            f"{path} is no idx file of {kind}: it begins with {header[:4].hex() or 'nothing'}, "
            f"expected {magic.hex()}. Was it given in the place of another file?"
        )
    if len(header) < 4 + 4 * num_axes:
        raise DataError(f"{path} ends inside its header. Get the file again.")
    shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
    announced = math.prod(shape)
    if not 0 < announced <= _LARGEST:
        raise DataError(
            f"{path} announces {kind} of shape {shape}, {announced:,} bytes, but 1 to "
            f"{_LARGEST:,} can be meant. Get the file again, or split it."
        )
    content = bytearray()
    while len(content) <= announced and (chunk := stream.read(_CHUNK)):
        content += chunk
    if len(content) != announced:
        found = "more" if len(content) > announced else f"only {len(content):,}"
        raise DataError(
            f"{path} announces {announced:,} bytes of {kind} and holds {found}. Get the file again."
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _labelled_rows(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    grey, labels = _flat(read_images(images_path)), read_labels(labels_path)
    if len(grey) != len(labels):
        raise DataError(
            f"{images_path} has {len(grey):,} images, but {labels_path} has {len(labels):,} "
            "labels. They must belong together."
        )
    return grey, labels


def _cut(path: str | os.PathLike[str], num_rows: int, num_held: int) -> int:
    """Where the held-out end of a file begins."""
    if not 0 < num_held < num_rows:
        raise DataError(
            f"{num_held:,} rows were to be held out of {num_rows:,} from {path}. "
            "Ask for at least 1 and fewer than there are."
        )
    return num_rows - num_held


def _flat(grey: np.ndarray) -> np.ndarray:
    return grey.reshape(len(grey), -1)


def _rows(labels: np.ndarray | None, rows: slice) -> np.ndarray | None:
    return None if labels is None else labels[rows]
