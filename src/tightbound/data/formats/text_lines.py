"""Numbered lines of a text file that nobody vouches for, packed by gzip or xz or not at all."""

import gzip
import io
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from tightbound.data.catalogue import DataError

_LONGEST = 1 << 20  # bytes of one line
_LARGEST = 1 << 30  # bytes a file may unpack to; no corpus here comes near it


def numbered_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text, counted from 1, without their ends.

    Packing is recognised by content, whatever the name. Only a line feed (with or without a
    carriage return before it) ends a line: the other separators of Unicode may stand in words.
    What is no text, or no end is seen of, is a `DataError`, and no more memory is taken for it
    than one line needs.
    """
    path = Path(path)
    size = 0
    for number, line in enumerate(_byte_lines(path), start=1):
        size += len(line)
        if len(line) > _LONGEST or size > _LARGEST:
            raise DataError(
                f"{path} has more than {_LONGEST:,} bytes in line {number} or {_LARGEST:,} in all. "
                "Is it a text of one sentence a line? If so, split it."
            )
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"Line {number} of {path} is not UTF-8: {error.reason} at byte {error.start}. "
                "Convert the file to UTF-8, or get it again."
            ) from error
        if "\0" in text:
            raise DataError(
                f"Line {number} of {path} holds a zero byte, so this is no text. Was it given in "
                "the place of another file?"
            )
        yield number, text.removesuffix("\n").removesuffix("\r")


def _byte_lines(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as raw:
            magic = raw.read(6)
            raw.seek(0)
            with _unpacked(raw, magic) as stream:
                while line := stream.readline(_LONGEST + 1):
                    yield line
    except FileNotFoundError as error:
        raise DataError(
            f"{path} cannot be read: there is no such file, seen from {Path.cwd()}. Give its path."
        ) from error
    except IsADirectoryError as error:
        raise DataError(
            f"{path} cannot be read: it is a folder. Give the path of a file in it."
        ) from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"{path} cannot be read: {error}. Get the file again; a text may be plain, .gz or .xz."
        ) from error


def _unpacked(raw: io.BufferedReader, magic: bytes) -> io.BufferedIOBase:
    if magic[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=raw)
    if magic == b"\xfd7zXZ\0":
        return lzma.LZMAFile(raw)
    return raw
