"""`steps.jsonl`, one record a line: read in a stream, from either end, and cut back in place.

A line without an end was cut off by a kill: it is no record. Any other line that cannot be read is said on
the logger, with its number, and the records around it are read.
"""

import json
import logging
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from tightbound.errors import UserError
from tightbound.files.documents import decoded
from tightbound.files.opening import open_regular
from tightbound.files.printed import printable
from tightbound.files.writing import replacing
from tightbound.train.documents import StepRecord

MOST_BYTES = 1 << 20  # of a line; a record has some hundreds
_BLOCK = 1 << 16  # read at once from the end

_decode = msgspec.json.Decoder().decode
_log = logging.getLogger(__name__)


def read_records(path: Path, having: str | None = None) -> Iterator[dict[str, Any]]:
    """The records, oldest first; with `having`, only those that have such an entry."""
    for _, record in _places(path, having):
        yield record


def newest_first(path: Path) -> Iterator[dict[str, Any]]:
    """The records, newest first: whoever needs few of them reads little."""
    file = _opened(path)
    if file is None:
        return
    with file:
        for line in _lines_backwards(file):
            try:
                yield _record(line)
            except ValueError:
                continue  # said, with its number, by whoever reads them all


def cut_back(path: Path, step: int) -> None:
    """Take away every record after `step`, and what a kill cut off, and wait until the disk has it. What
    stays is the same to the byte, damaged lines among it."""
    if not path.exists():
        return
    end = next((place for place, record in _places(path) if record["step"] > step), None)
    with open(path, "r+b") as file:
        file.truncate(_end_of_last_line(file) if end is None else end)
        file.flush()
        os.fsync(file.fileno())


def replace_newest(path: Path, record: dict[str, Any]) -> None:
    """Write a fuller record in place of the newest, which is of the same step: whole or not at all."""
    newest = next(newest_first(path), None)
    assert newest is not None, path
    assert newest["step"] == record["step"], (newest["step"], record["step"])
    with open(path, "rb") as old, replacing(path) as new:
        left = _start_of_last_line(old)
        old.seek(0)
        while left > 0 and (block := old.read(min(left, 1 << 20))):
            new.write(block)
            left -= len(block)
        new.write(json.dumps(record).encode() + b"\n")
        os.fchmod(new.fileno(), stat.S_IMODE(os.fstat(old.fileno()).st_mode))


def _opened(path: Path) -> BufferedReader | None:
    """The file; None where there is none. UserError for a link, a pipe or a device."""
    try:
        return open_regular(path, follow_links=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error


def _places(path: Path, having: str | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Where each record begins, in bytes, and the record."""
    file = _opened(path)
    if file is None:
        return
    entry = None if having is None else f'"{having}"'.encode()
    with file:
        place = 0
        for number, (line, num_bytes) in enumerate(_lines(file), start=1):
            if entry is None or entry in line:
                try:
                    record = _record(line)
                    if having is None or having in record:
                        yield place, record
                except ValueError as error:
                    _log.warning(
                        "Line %d of %s is no record (%s); it is left out, and the others are read.",
                        *(number, printable(str(path)), printable(str(error))),
                    )
            place += num_bytes


def _lines(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Whole lines without their ends, and how long they are with them; of one that is too long, so much of
    it that it can be told."""
    while line := file.readline(MOST_BYTES + 1):
        num_bytes, rest = len(line), line
        while not rest.endswith(b"\n"):
            rest = file.readline(MOST_BYTES)
            num_bytes += len(rest)
            if not rest:
                return  # cut off
        yield line.removesuffix(b"\n"), num_bytes


def _lines_backwards(file: BinaryIO) -> Iterator[bytes]:
    end, tail, is_newest = file.seek(0, os.SEEK_END), b"", True
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        tail, *lines = (file.read(end - start) + tail).split(b"\n")
        end = start
        if is_newest and lines:
            lines, is_newest = lines[:-1], False  # what stands behind the last end was cut off
        yield from reversed(lines)
        tail = tail[-(MOST_BYTES + 1) :]
    if not is_newest:
        yield tail


def _end_of_last_line(file: BinaryIO) -> int:
    """Where the last whole line ends, in bytes."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _start_of_last_line(file: BinaryIO) -> int:
    """Where the last whole line begins."""
    end = max(0, _end_of_last_line(file) - 1)
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _record(line: bytes) -> dict[str, Any]:
    """The record of a line. ValueError where it is none."""
    if len(line) > MOST_BYTES:
        raise ValueError(f"it is longer than {MOST_BYTES} bytes")
    decoded(line, StepRecord, "it")
    return _decode(line)  # with what other versions say besides
