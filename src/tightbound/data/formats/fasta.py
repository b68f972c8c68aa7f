"""FASTA: strings of residues, each under a header line that begins with `>`."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from string import ascii_letters

from tightbound.data.catalogue import DataError
from tightbound.data.formats.text_lines import numbered_lines

_GAPS = "-."
_STOP = "*"


@dataclass(frozen=True)
class FastaRecord:
    """One sequence: its header without the `>`, and its residues in capitals, gaps taken out."""

    header: str
    residues: str
    line: int  # of the header, counted from 1


@dataclass(frozen=True)
class FastaRepairs:
    """What was changed while reading, so that nothing is changed silently."""

    raised: int = 0  # residues in lower case (soft-masked), made capitals
    gaps: int = 0  # `-` and `.`, taken out
    stops: int = 0  # `*` at the end of a sequence, taken out

    def __str__(self) -> str:
        return (
            f"{self.raised:,} lower-case residues raised, {self.gaps:,} gaps and {self.stops:,} "
            "final stops taken out"
        )


def read_fasta(
    path: str | os.PathLike[str], *, max_rows: int | None = None
) -> tuple[list[FastaRecord], FastaRepairs]:
    """The first `max_rows` records of a file (None: all), and what was repaired in them.

    Residues are the letters A to Z; they may be wrapped over lines, and blanks between them count
    for nothing. Refused, with the line: residues before the first header, a header without
    residues, a stop that is not the last sign of its sequence, any other sign.
    """
    records: list[FastaRecord] = []
    lower = gaps = stops = 0
    for header, lines in islice(_blocks(path), max_rows):
        for number, text in lines:
            _check_signs(path, number, text)
        joined = "".join(text for _, text in lines)
        residues = joined.removesuffix(_STOP)
        _check_stops(path, lines)
        stripped = residues.translate(str.maketrans("", "", _GAPS))
        if not stripped:
            raise DataError(
                f"Line {header[0]} of {path} is the header `>{header[1][:60]}`, and no residues "
                "follow it. Delete the header, or give its sequence."
            )
        stops += len(joined) - len(residues)
        gaps += len(residues) - len(stripped)
        lower += sum(letter.islower() for letter in stripped)
        records.append(FastaRecord(header[1], stripped.upper(), header[0]))
    if not records:
        raise DataError(f"{path} has no sequence. Is it FASTA, with `>` before every header?")
    return records, FastaRepairs(lower, gaps, stops)


def _blocks(
    path: str | os.PathLike[str],
) -> Iterator[tuple[tuple[int, str], list[tuple[int, str]]]]:
    """Each header, and the lines below it that are not blank, all with their numbers."""
    header: tuple[int, str] | None = None
    lines: list[tuple[int, str]] = []
    for number, line in numbered_lines(path):
        if line.startswith(">"):
            if header is not None:
                yield header, lines
            header, lines = (number, line[1:].strip()), []
        elif text := "".join(line.split()):
            if header is None:
                raise DataError(
                    f"Line {number} of {path} comes before any header, so this is no FASTA. Every "
                    "sequence needs a line that begins with `>` above it."
                )
            lines.append((number, text))
    if header is not None:
        yield header, lines


def _check_signs(path: str | os.PathLike[str], number: int, text: str) -> None:
    wrong = next((sign for sign in text if sign not in ascii_letters + _GAPS + _STOP), None)
    if wrong is not None:
        raise DataError(
            f"Line {number} of {path} holds {wrong!r}, which is no residue. Residues are the letters "
            "A to Z, gaps `-` or `.`, and a stop `*` at the end."
        )


def _check_stops(path: str | os.PathLike[str], lines: list[tuple[int, str]]) -> None:
    last = lines[-1][0] if lines else 0
    for number, text in lines:
        if _STOP in (text[:-1] if number == last else text):
            raise DataError(
                f"Line {number} of {path} has a stop `*` inside a sequence, so this is more than one "
                "protein. Cut it into records of its own."
            )
