"""scikit-learn's 8x8 digits: real data that needs no download."""

import gzip
import hashlib
import os
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Int

from tightbound.data.batch import Split, rows
from tightbound.data.catalogue import DataError

DIGITS_LEVELS = 16  # the largest grey value
_PIXELS = 64
_LARGEST = 1 << 28  # bytes of text; the published file has 0.5 million


def load_digits(
    path: str | os.PathLike[str] | None = None,
    *,
    num_valid: int = 200,
    num_test: int = 300,
    law: str = "dynamic binarisation",
) -> dict[str, Split]:
    """The splits train (1,297), valid (200) and test (300): grey images 0..16, labels in `groups`.

    The published rows are sorted by writer, so they are first put in the order of `fixed_order`.
    `path` is a file like the one scikit-learn ships: lines of 64 grey values and a label,
    separated by commas, packed by gzip or not. `law` says what the caller's noising makes of the
    grey values, and travels with every number.
    """
    grey, labels = _shipped() if path is None else read_digits(path)
    num_train = len(grey) - num_valid - num_test
    if min(num_train, num_valid, num_test) < 1:
        raise DataError(
            f"{len(grey):,} digits cannot be split into {num_valid} for validation, {num_test} "
            "for testing and some for training. Give more rows, or hold out fewer (at least 1)."
        )
    order = fixed_order(len(grey))
    parts = {
        "train": order[:num_train],
        "valid": order[num_train : num_train + num_valid],
        "test": order[num_train + num_valid :],
    }
    return {
        name: rows(name, grey[chosen], law=law, labels=labels[chosen])
        for name, chosen in parts.items()
    }


def fixed_order(num_rows: int) -> Int[np.ndarray, " rows"]:
    """A permutation that no library version can change: rows sorted by the sha256 of their number."""
    return np.array(
        sorted(range(num_rows), key=lambda row: hashlib.sha256(str(row).encode()).digest()),
        dtype=np.int64,
    )


def read_digits(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Grey values and labels of a text file, both as unsigned bytes."""
    text = _read_text(Path(path))
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        cells = [cell.strip() for cell in line.split(b",")]
        short = all(cell.isdigit() and len(cell) <= 3 for cell in cells)
        values = [int(cell) for cell in cells] if short else []
        right = len(values) == _PIXELS + 1 and max(values[:-1]) <= DIGITS_LEVELS
        if not right or values[-1] > 255:
            raise DataError(
                f"Line {number} of {path} is not {_PIXELS} grey values from 0 to {DIGITS_LEVELS} "
                "and a label, whole numbers separated by commas. Correct or remove it."
            )
        rows.append(values)
    if not rows:
        raise DataError(f"{path} is empty. Give lines of {_PIXELS} grey values and a label.")
    table = np.array(rows, np.uint8)
    return table[:, :-1], table[:, -1]


def _shipped() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError(
            "The digits ship with scikit-learn, which is not installed. Install "
            "`tightbound[demo]`, or give a file of your own."
        ) from error
    grey, labels = datasets.load_digits(return_X_y=True)
    return grey.astype(np.uint8), labels.astype(np.uint8)


def _read_text(path: Path) -> bytes:
    """The whole file, unpacked; refused where it is far larger than any file of digits."""
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) if packed else raw as stream:
                pieces, size = [], 0
                while size <= _LARGEST and (piece := stream.read(1 << 20)):
                    pieces.append(piece)
                    size += len(piece)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read: {error}. Give a text file, plain or .gz."
        ) from error
    if size > _LARGEST:
        raise DataError(f"{path} unpacks to more than {_LARGEST:,} bytes of text. Split it.")
    return b"".join(pieces)
