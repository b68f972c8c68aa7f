"""Images as PNG files: contact sheets in greys. NumPy and the standard library only."""

import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

GAP = 1  # pixels of the data between two images
SHEET_WIDTH = 640  # pixels aimed at: small images are enlarged by a whole number
PAPER = 128  # grey between images, unlike the black or white of their borders


def image_sheet(images: Float[np.ndarray, "n h w"], path: Path, columns: int) -> None:
    """Write the images row by row: 0 is black, 1 is white.

    Values outside [0, 1] are clipped and NaN is drawn as the grey of the gaps, so that a broken
    model still gives a picture. The last row is filled up with gaps.
    """
    if not len(images) or columns < 1:
        raise ValueError(
            f"A sheet needs at least one image and one column, but `images` has shape "
            f"{images.shape} and `columns` is {columns}."
        )
    sheet = _sheet(images, columns)
    scale = max(SHEET_WIDTH // sheet.shape[1], 1)
    path.write_bytes(png(np.kron(sheet, np.ones((scale, scale), np.uint8))))


def side_by_side(
    originals: Float[np.ndarray, "n h w"],
    reconstructions: Float[np.ndarray, "n h w"],
    path: Path,
    columns: int,
) -> None:
    """Write pairs: each original has its reconstruction on its right; `columns` counts pairs."""
    image_sheet(np.concatenate([originals, reconstructions], axis=2), path, columns)


def png(grey: UInt8[np.ndarray, "h w"]) -> bytes:
    """An 8-bit grey PNG: W3C Portable Network Graphics, 2nd edition, secs. 5 and 11.2."""
    height, width = grey.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), grey], axis=1)  # filter 0 on each line
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
        + _chunk(b"IEND", b"")
    )


def _sheet(images: Float[np.ndarray, "n h w"], columns: int) -> UInt8[np.ndarray, "height width"]:
    n, h, w = images.shape
    rows = -(-n // columns)
    columns = min(columns, n)
    sheet = np.full((rows * (h + GAP) + GAP, columns * (w + GAP) + GAP), PAPER, np.uint8)
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        top, left = GAP + row * (h + GAP), GAP + column * (w + GAP)
        grey = np.where(np.isnan(image), PAPER, np.clip(image, 0, 1) * 255)
        sheet[top : top + h, left : left + w] = np.round(grey)
    return sheet


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum
