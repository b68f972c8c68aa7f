"""CoNLL-U: one word a line in ten columns, a blank line after each sentence.

    1  The  the  DET   DT  _  2  det    _  _
    2  cat  cat  NOUN  NN  _  0  root   _  _

Universal Dependencies (de Marneffe et al. 2021), https://universaldependencies.org/format.html.
Read are the columns ID, FORM and HEAD of the syntactic words; multiword tokens (`3-4`) and empty
nodes (`3.1`) are skipped.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from tightbound.data.catalogue import DataError
from tightbound.data.formats.text_lines import numbered_lines

_NUM_COLUMNS = 10
_ID, _FORM, _HEAD = 0, 1, 6

NumberedLines = list[tuple[int, str]]


@dataclass(frozen=True)
class ParsedSentence:
    """The words of a sentence and the position of each word's head, -1 at a root.

    Every word reaches a root; there may be several (a forest). A sentence without words is kept,
    for the caller to count.
    """

    name: str  # its `sent_id`, or "line 12" where it has none
    words: tuple[str, ...]
    heads: tuple[int, ...]


def read_conllu(
    path: str | os.PathLike[str], *, max_rows: int | None = None
) -> list[ParsedSentence]:
    """The sentences of a file, packed by gzip or xz or not; only the first `max_rows` if given.

    What is not CoNLL-U, and heads that form no tree, are a `DataError` that names the line.
    """
    blocks = islice(_blocks(Path(path)), max_rows)
    return [_parse(Path(path), block) for block in blocks]


def _blocks(path: Path) -> Iterator[NumberedLines]:
    """The lines of one sentence at a time."""
    block: NumberedLines = []
    for number, line in numbered_lines(path):
        if line:
            block.append((number, line))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _parse(path: Path, block: NumberedLines) -> ParsedSentence:
    name = f"line {block[0][0]}"
    words: list[str] = []
    heads: list[int] = []
    lines: list[int] = []
    for number, line in block:
        if line.startswith("#"):
            key, _, value = line[1:].partition("=")
            name = value.strip() if key.strip() == "sent_id" else name
        elif word := _word(path, number, line, len(words) + 1):
            words.append(word[0])
            heads.append(word[1] - 1)
            lines.append(number)
    for number, head in zip(lines, heads, strict=True):
        if not -1 <= head < len(words):
            raise _malformed(
                path, number, f"has the HEAD {head + 1}, but its sentence has {len(words)} words"
            )
    _check_tree(f"Sentence `{name}` at line {block[0][0]} of {path}", words, heads)
    return ParsedSentence(name, tuple(words), tuple(heads))


def _word(path: Path, number: int, line: str, expected: int) -> tuple[str, int] | None:
    """FORM and HEAD of the word with the expected ID; None for what is no syntactic word."""
    cells = line.split("\t")
    if len(cells) != _NUM_COLUMNS:
        raise _malformed(
            path, number, f"has {len(cells)} columns separated by tabs, expected {_NUM_COLUMNS}"
        )
    if cells[_ID] != str(expected):
        if isinstance(_number(_library().parse_id_value, cells[_ID]), tuple):
            return None
        raise _malformed(path, number, f"has the ID `{cells[_ID][:20]}`, expected {expected}")
    head = _number(_library().parse_int_value, cells[_HEAD])
    if head is None:
        raise _malformed(path, number, f"has the HEAD `{cells[_HEAD][:20]}`, not a number")
    if not cells[_FORM]:
        raise _malformed(path, number, "has no FORM")
    return cells[_FORM], head


def _number(parse: Callable[[str], Any], cell: str) -> Any:
    """The number in a cell, or the tuple of a `3-4` or `3.1`; None where it is neither."""
    try:
        return parse(cell)
    except (_library().ParseException, ValueError):  # more digits than Python converts
        return None


@cache
def _library() -> Any:
    try:
        from conllu import parser
    except ImportError as error:
        raise DataError(
            "Reading CoNLL-U needs the package conllu, which is not installed. Install "
            "`tightbound[text]`."
        ) from error
    return parser


def _malformed(path: Path, line: int, fault: str) -> DataError:
    return DataError(
        f"Line {line} of {path} {fault}. Is it CoNLL-U? If so, correct the line or remove its "
        "sentence."
    )


def _check_tree(sentence: str, words: Sequence[str], heads: Sequence[int]) -> None:
    advice = "Correct the heads, or remove the sentence."
    if words and -1 not in heads:
        raise DataError(f"{sentence} has no root: no word has HEAD 0. {advice}")
    if cycle := find_cycle(heads):
        named = ", ".join(f"{position + 1} `{words[position]}`" for position in cycle[:10])
        raise DataError(f"{sentence} has a cycle of heads through the words {named}. {advice}")


def find_cycle(heads: Sequence[int]) -> list[int]:
    """The positions of one cycle, in ascending order; empty where every word reaches a root."""
    walk_of = [-1] * len(heads)  # the walk that first came by
    for start in range(len(heads)):
        position = start
        while position != -1 and walk_of[position] == -1:
            walk_of[position] = start
            position = heads[position]
        if position != -1 and walk_of[position] == start:
            cycle = [position]
            while heads[cycle[-1]] != position:
                cycle.append(heads[cycle[-1]])
            return sorted(cycle)
    return []
