"""A text of one's own: one sequence a line, or FASTA."""

import os
import re
from collections.abc import Sequence
from typing import Literal

from tightbound.data.catalogue import DataError
from tightbound.data.formats.fasta import read_fasta
from tightbound.data.formats.text_lines import numbered_lines
from tightbound.data.shuffled_splits import shuffled_splits

TokenUnits = Literal["words", "raw-words", "characters"]

_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")  # letters and digits, or one other sign
# `.fa` is also the language code of Persian, so such a file is known by its content alone.
_FASTA_NAME = re.compile(r"\.(?:fasta|fas|faa|fna)(?:\.gz|\.xz)?$", re.IGNORECASE)


def units_of(text: str, units: TokenUnits) -> Sequence[str]:
    """The tokens of a line.

    words       lower-cased words, every other sign a token of its own
    raw-words   lower-cased and cut at white space only, so that a comma sticks to its word
    characters  each character, as it stands
    """
    if units == "characters":
        return text
    return _WORD.findall(text.lower()) if units == "words" else text.lower().split()


def text_rows(
    path: str | os.PathLike[str], *, max_rows: int | None = None
) -> tuple[list[str], int]:
    """The first `max_rows` lines of a text that are not blank, and how many blank ones were passed."""
    lines = (line.strip() for _, line in numbered_lines(path))
    rows: list[str] = []
    num_blank = 0
    for line in lines:
        if len(rows) == max_rows:
            break
        if line:
            rows.append(line)
        else:
            num_blank += 1
    if not rows:
        raise DataError(f"{path} has no line with text. Give one sequence a line.")
    return rows, num_blank


def is_fasta(path: str | os.PathLike[str]) -> bool:
    """Whether a file is named so, or its first line that is not blank begins with `>`."""
    if _FASTA_NAME.search(os.fspath(path)):
        return True
    first = next((line for _, line in numbered_lines(path) if line.strip()), "")
    return first.startswith(">")


def load_text_file(
    path: str | os.PathLike[str], *, max_rows: int | None = None
) -> tuple[dict[str, list[str]], tuple[str, ...], bool]:
    """The lines (of FASTA: the residues) of train, valid and test, notes, and whether it is FASTA.

    80, 10 and 10 %, in an order that never changes. A line that stands in the file twice may be in
    two splits; a note counts those.
    """
    fasta = is_fasta(path)
    if fasta:
        records, repairs = read_fasta(path, max_rows=max_rows)
        rows = [record.residues for record in records]
        read = f"{len(rows):,} sequences of FASTA; {repairs}."
    else:
        rows, num_blank = text_rows(path, max_rows=max_rows)
        read = f"{len(rows):,} lines, {num_blank:,} blank ones passed over."
    splits = shuffled_splits([[row] for row in rows], path)
    return (
        splits,
        (read + " Shuffled into 80 % training, 10 % validation, 10 % test.", _repeats(splits)),
        fasta,
    )


def _repeats(splits: dict[str, list[str]]) -> str:
    known = set(splits["train"])
    repeated = sum(row in known for row in splits["test"])
    return f"{repeated:,} of {len(splits['test']):,} test rows stand in the training split too."
