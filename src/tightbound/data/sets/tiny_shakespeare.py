"""Tiny Shakespeare: a million characters of plays, as one text."""

import os

from tightbound.data.catalogue import find_one
from tightbound.data.formats.text_lines import numbered_lines

_SHARES = (0.90, 0.95)  # of the characters, where validation and test begin


def load_tiny_shakespeare(
    path: str | os.PathLike[str] | None = None, *, max_rows: int | None = None
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """The lines of train (first 90 % of the characters), valid and test (5 % each), and notes.

    Nobody publishes a test split; 90 % for training is customary. Lines keep their order and blank
    ones are kept, so that joined by line feeds they are the text. `max_rows` reads the first lines.
    """
    lines = [line for _, line in numbered_lines(find_one("tiny-shakespeare", path))][:max_rows]
    total = sum(len(line) + 1 for line in lines)
    rows: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    before = 0
    for line in lines:
        share = before / total
        name = "train" if share < _SHARES[0] else "valid" if share < _SHARES[1] else "test"
        rows[name].append(line)
        before += len(line) + 1
    note = "One text: the first 90 % are training, 5 % validation, 5 % test, divided between lines."
    return rows, (note,)
