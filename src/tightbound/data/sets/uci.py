"""Regression sets of the UCI repository with ten given folds: yacht, energy, concrete, wine, protein.

The folds are those of the collection treforevans/uci_datasets, not the 20 random splits of papers on
Bayesian networks (Hernandez-Lobato & Adams 2015, arXiv:1502.05336), so figures compare only roughly.
Nor are all its targets those of the repository, which those papers predict: of yacht it has the log
of the resistance, of protein the log of one more than the distance, and of wine the alcohol, with
the quality among the inputs. `target` chooses.
"""

import math
import os
from array import array
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from tightbound.data.batch import Split
from tightbound.data.catalogue import DataError, find, is_published
from tightbound.data.formats.text_lines import numbered_lines
from tightbound.data.point_tables import (
    MOST_CELLS,
    PointTable,
    TargetScale,
    rows_of_splits,
    table_splits,
)
from tightbound.errors import UserError

UCISet = Literal["yacht", "energy", "concrete", "wine", "protein"]
Target = Literal["stored", "repository"]

# Means that the collection has subtracted from log y and from log(1 + y). With the first, every
# resistance is a multiple of 0.01 again; with the second, the smallest distance is 0.
_YACHT_LOG_MEAN = 1.0845
_PROTEIN_LOG_MEAN = 1.8912


def load_uci(
    name: UCISet,
    fold: int,
    path: str | os.PathLike[str] | None = None,
    *,
    target: Target = "stored",
    num_valid: int | None = None,
    normalise: bool = True,
) -> tuple[dict[str, Split], TargetScale]:
    """The splits train, valid and test, whose rows are points (`Points`, 32 bits), and the scale of
    their targets.

    Test are the rows that the published mask gives to `fold`, 0 to 9 as its columns are counted. Of
    the others, in the order of `fixed_order`, the first `num_valid` (None: a tenth, rounded, at
    least 1) validate. The target is the last column as it is stored, or the "repository"'s own,
    which is another for yacht, wine and protein: undone is then what the collection did to it. That
    is known of the collection's own files alone (by their checksum): of any other the target is the
    last column, and the law says so.

    Inputs and target are normalised to mean 0 and variance 1 by the training rows alone; a column
    that is constant there is refused. Without `normalise` they are left as they are, centred by the
    collection over all rows (all but a target whose log was undone), and the scale changes nothing.

    `path` is a folder with files of one's own under the published names, plain or `.gz`: numbers
    separated by commas, the target last, and as many lines of 0 and 1, a column for each fold.
    """
    data_file, mask_file = find(f"uci-{name}", path)
    table = _read_table(data_file)
    fold_of_row, num_folds = _read_folds(mask_file, len(table))
    if table.shape[1] < 2:
        raise DataError(f"{data_file} has one column; give at least one input and the target.")
    if not 0 <= fold < num_folds:
        raise UserError(
            f"Fold {fold} was asked for, but {mask_file} has {num_folds}: give 0 to {num_folds - 1}."
        )
    rows = rows_of_splits(fold_of_row == fold, num_valid, f"fold {fold} of {mask_file}")
    law, column = "target as stored", table.shape[1] - 1
    if path is not None and not is_published(f"uci-{name}", data_file):
        law = "target in the last column of a file that is not the collection's"
    elif target == "repository":
        table, column = _with_repository_target(name, table)
        law = "target of the repository"
    law += f", fold {fold} of {num_folds}"
    named = PointTable(
        table,
        tuple(str(number + 1) for number in range(table.shape[1])),
        np.arange(1, len(table) + 1),
        data_file,
    )
    return table_splits(named, column, rows, law=law, normalise=normalise)


def _with_repository_target(
    name: UCISet, table: Float[np.ndarray, "rows columns"]
) -> tuple[Float[np.ndarray, "rows columns"], int]:
    """The table with the repository's own target, and the column that it is in."""
    last = table.shape[1] - 1
    if name == "wine":
        return table, last - 1
    table = table.copy()
    with np.errstate(over="ignore"):  # `_in_32_bits` refuses what overflows
        if name == "yacht":
            table[:, last] = np.exp(table[:, last] + _YACHT_LOG_MEAN)
        elif name == "protein":
            table[:, last] = np.expm1(table[:, last] + _PROTEIN_LOG_MEAN)
    return table, last


def _read_folds(path: Path, num_rows: int) -> tuple[Int[np.ndarray, " rows"], int]:
    """The fold whose test rows each row belongs to, and how many folds there are."""
    mask = _read_table(path)
    if len(mask) != num_rows:
        raise DataError(
            f"{path} has {len(mask):,} lines, but the data have {num_rows:,}. It needs one for each "
            "row. Are both files of the same set?"
        )
    folds = mask.sum(1)
    wrong = (folds != 1) | ((mask != 0) & (mask != 1)).any(1)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"Line {row + 1} of {path} is not a single 1 among zeros, so its row is not tested in "
            f"exactly one fold (the line adds up to {folds[row]:g}). Correct it."
        )
    return mask.argmax(1), mask.shape[1]


def _read_table(path: Path) -> Float[np.ndarray, "rows columns"]:
    """Lines of numbers separated by commas, all equally many; no header."""
    cells, width = array("d"), 0
    for number, text in numbered_lines(path):
        where = f"Line {number} of {path}"
        row = text.split(",")
        width = width or len(row)
        if len(row) != width:
            raise DataError(f"{where} has {len(row)} cells, but the first has {width}. Correct it.")
        if len(cells) + width > MOST_CELLS:
            raise DataError(
                f"{path} has more than {MOST_CELLS:,} numbers, which no set here comes near. Is it "
                "the right file? If so, leave rows out."
            )
        cells.extend(_numbers(row, where))
    if not cells:
        raise DataError(f"{path} is empty. Give lines of numbers separated by commas.")
    return np.array(cells).reshape(-1, width)


def _numbers(row: list[str], where: str) -> list[float]:
    values = []
    for text in row:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(
                f"{where} has {text[:30]!r} where a finite number was meant. Correct it."
            )
        values.append(value)
    return values
