"""Points of one's own out of a table in text: CSV, with commas, semicolons, tabs or spaces."""

import csv
import difflib
import math
import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tightbound.data.batch import Split
from tightbound.data.catalogue import DataError
from tightbound.data.formats.text_lines import numbered_lines
from tightbound.data.point_tables import (
    MOST_CELLS,
    PointTable,
    TargetScale,
    rows_of_splits,
    table_splits,
)
from tightbound.data.sets.digits import fixed_order
from tightbound.errors import UserError

NUM_FOLDS = 10
_SEPARATORS = ",;\t"


def load_csv_points(
    path: str | os.PathLike[str],
    target: str | None = None,
    *,
    fold: int = 0,
    leave_out: Sequence[str] = (),
    num_valid: int | None = None,
    normalise: bool = True,
) -> tuple[dict[str, Split], TargetScale, tuple[str, ...]]:
    """The splits train, valid and test, whose rows are points (`Points`, 32 bits), the scale of
    their targets, and notes on what was read.

    Cells are separated by whichever of comma, semicolon and tab stands most often in the first line,
    else by spaces. A first line without numbers names the columns; without one they are called "1",
    "2", ... `target` and `leave_out` are such names (None: the last column is the target); every
    other column is an input. All must be finite numbers.

    The rows, in the order of `fixed_order`, are dealt to ten folds; `fold`, 0 to 9, is tested, and a
    tenth of the others validates (`rows_of_splits`). Normalising is that of `table_splits`.
    """
    path = Path(path)
    if not 0 <= fold < NUM_FOLDS:
        raise UserError(f"Fold {fold} was asked for; the rows are dealt to ten: give 0 to 9.")
    table, names = _read(path, leave_out)
    column = len(names) - 1 if target is None else _place(target, names, path)
    if len(names) < 2:
        raise UserError(
            f"{path} has {names[column]!r} and no other column that is not left out: a regression "
            "needs at least one input beside the target."
        )
    tested = np.zeros(len(table.values), bool)
    tested[fixed_order(len(tested))[fold::NUM_FOLDS]] = True
    rows = rows_of_splits(tested, num_valid, f"fold {fold} of {path}")
    law = f"target {names[column]} of {path.name}, fold {fold} of {NUM_FOLDS}"
    splits, scale = table_splits(table, column, rows, law=law, normalise=normalise)
    known = {table.values[row].tobytes() for row in rows["train"]}
    repeated = sum(table.values[row].tobytes() in known for row in rows["test"])
    inputs = [name for place, name in enumerate(names) if place != column]
    notes = (
        f"{len(tested):,} points of {path}: the target is column {names[column]!r}, the inputs are "
        f"{', '.join(map(repr, inputs[:20]))}{' and so on' if len(inputs) > 20 else ''}.",
        f"{repeated:,} of {len(rows['test']):,} test points stand in the training split too.",
    )
    return splits, scale, notes


def _read(path: Path, leave_out: Sequence[str]) -> tuple[PointTable, tuple[str, ...]]:
    """The table without the columns to leave out, and the names of the columns left."""
    names: tuple[str, ...] = ()
    kept: list[int] = []
    cells, lines, separator, width = array("d"), array("q"), None, 0
    for number, text in numbered_lines(path):
        if not text.strip():
            continue
        where = f"Line {number} of {path}"
        if not width:
            separator = max(_SEPARATORS, key=text.count)
            separator = separator if separator in text else None
        row = _cells(text, separator, where)
        if not width:
            width, header = len(row), _header(row, where)
            names = header or tuple(str(place + 1) for place in range(width))
            left = {_place(name, names, path) for name in leave_out}
            kept = [place for place in range(width) if place not in left]
            if header:
                continue
        if len(row) != width:
            raise DataError(f"{where} has {len(row)} cells, but the first has {width}. Correct it.")
        if len(cells) + width > MOST_CELLS:
            raise DataError(
                f"{path} has more than {MOST_CELLS:,} numbers. Is it the right file? If so, leave "
                "rows out."
            )
        cells.extend(_value(row[place], names[place], where) for place in kept)
        lines.append(number)
    if not lines or not kept:
        raise DataError(f"{path} has no numbers. Give lines of numbers, one point a line.")
    left_over = tuple(names[place] for place in kept)
    values = np.array(cells).reshape(len(lines), len(kept))
    quoted = tuple(map(repr, left_over))
    return PointTable(values, quoted, np.array(lines, np.int64), path), left_over


def _cells(text: str, separator: str | None, where: str) -> list[str]:
    if separator is None:
        return text.split()
    try:
        (row,) = csv.reader([text], delimiter=separator, skipinitialspace=True, strict=True)
    except (csv.Error, ValueError) as error:
        raise DataError(
            f'{where} cannot be cut into cells: {error}. A cell may be quoted with ", but must end '
            "on its line."
        ) from error
    return [cell.strip() for cell in row]


def _header(row: Sequence[str], where: str) -> tuple[str, ...]:
    """The names in a first line; () where it has numbers."""
    numbers = [cell for cell in row if _number(cell) is not None]
    if len(numbers) == len(row):
        return ()
    if numbers:
        word = next(cell for cell in row if _number(cell) is None)
        raise DataError(
            f"{where} has the number {numbers[0]!r} and {word[:30]!r}, which is none: is it a line of "
            "names or a point? Begin with a name for every column, or have numbers alone."
        )
    repeated = [name for name in row if row.count(name) > 1]
    if repeated or "" in row:
        raise DataError(
            f"{where} names the columns, and has the name {(repeated or [''])[0]!r} "
            f"{'twice' if repeated else 'for one'}. Give each a name of its own."
        )
    return tuple(row)


def _place(name: str, names: Sequence[str], path: Path) -> int:
    """Where a column is, by its name."""
    if name in names:
        return names.index(name)
    close = difflib.get_close_matches(name, names, n=1)
    meant = f"Did you mean {close[0]!r}? " if close else ""
    shown = ", ".join(map(repr, names[:20])) + (" and so on" if len(names) > 20 else "")
    raise UserError(f"{path} has no column {name!r}. {meant}It has {shown}.")


def _value(cell: str, name: str, where: str) -> float:
    value = _number(cell)
    if value is None or not math.isfinite(value):
        raise DataError(
            f"{where} has {cell[:30]!r} in column {name!r}, where a finite number was meant. Correct "
            "it, take the line out, or leave the column out."
        )
    return value


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
