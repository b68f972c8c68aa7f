"""Tables of numbers whose rows are points: which column is the target, what normalises them, splits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tightbound.data.batch import Split
from tightbound.data.catalogue import DataError
from tightbound.data.point_splits import point_splits
from tightbound.data.points import Points
from tightbound.data.sets.digits import fixed_order

MOST_CELLS = 10_000_000  # of one file, 80 MB; the largest set here has half a million
_ROUNDING = 1e-12  # a column that spreads less than this, relative to its size, is constant


@dataclass(frozen=True)
class TargetScale:
    """The affine map between a file's targets and normalised ones.

        apply: (y - mean) / scale,    undo: y * scale + mean

    An error (RMSE) of normalised targets is `scale` times as large in the file's units.
    """

    mean: float  # in the file's units
    scale: float

    def apply(self, target: Float[Array | np.ndarray, "*points"]) -> Float[np.ndarray, "*points"]:
        """Normalised targets."""
        return np.asarray((np.asarray(target, float) - self.mean) / self.scale)

    def undo(self, target: Float[Array | np.ndarray, "*points"]) -> Float[np.ndarray, "*points"]:
        """Targets in the file's units."""
        return np.asarray(np.asarray(target, float) * self.scale + self.mean)

    def log_density(
        self, nats: Float[Array | np.ndarray, "*points"]
    ) -> Float[np.ndarray, "*points"]:
        """log p of targets in the file's units, in nats per point, from that of normalised ones:

        log p(y) = log p(apply(y)) - log scale
        """
        return np.asarray(np.asarray(nats, float) - math.log(self.scale))


@dataclass(frozen=True)
class PointTable:
    """Numbers with what is needed to name one of them in a sentence: its column and its line."""

    values: Float[np.ndarray, "rows columns"]
    columns: tuple[str, ...]  # "3", or "'alcohol'" where the file has names
    lines: Int[np.ndarray, " rows"]  # of the file, counted from 1
    path: Path


def table_splits(
    table: PointTable,
    column: int,
    rows: Mapping[str, Int[np.ndarray, " part"]],
    *,
    law: str,
    normalise: bool = True,
) -> tuple[dict[str, Split], TargetScale]:
    """Splits of these rows, in 32 bits, with the column as target and all others as inputs.

    Inputs and target are normalised to mean 0 and variance 1 by the rows of "train" alone; a column
    that is constant there is refused. Without `normalise` the scale changes nothing.
    """
    size = table.values.shape[1]
    mean, scale = np.zeros(size), np.ones(size)
    if normalise:
        mean, scale = _column_scales(table, rows["train"])
        law += ", normalised by the training rows"
    values = _in_32_bits(table, mean, scale)
    inputs, targets = np.delete(values, column, axis=1), values[:, column]
    parts = {split: Points(inputs[chosen], targets[chosen]) for split, chosen in rows.items()}
    return point_splits(parts, law=law), TargetScale(float(mean[column]), float(scale[column]))


def rows_of_splits(
    held_out: Bool[np.ndarray, " rows"], num_valid: int | None, where: str
) -> dict[str, Int[np.ndarray, " part"]]:
    """The rows of each split, in the order of the file: those held out test; of the others, in the
    order of `fixed_order`, the first `num_valid` (None: a tenth, rounded, at least 1) validate.

    DataError, which says `where`, if a split would be empty.
    """
    order = fixed_order(len(held_out))
    rest = order[~held_out[order]]
    if num_valid is None:
        num_valid = max(1, round(len(rest) / 10))
    if not held_out.any() or not 1 <= num_valid < len(rest):
        raise DataError(
            f"In {where}, {held_out.sum():,} rows are for testing and {len(rest):,} are not, of which "
            f"{num_valid:,} were to validate. Every split needs at least 1 row: hold out fewer."
        )
    return {
        "train": np.sort(rest[num_valid:]),
        "valid": np.sort(rest[:num_valid]),
        "test": np.flatnonzero(held_out),
    }


def _column_scales(
    table: PointTable, rows: Int[np.ndarray, " part"]
) -> tuple[Float[np.ndarray, " columns"], Float[np.ndarray, " columns"]]:
    """Mean and standard deviation of every column."""
    values = table.values[rows]
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = values.mean(0), values.std(0)
    endless = ~np.isfinite(scale)  # its square overflows: every normalised number would be 0
    if endless.any():
        column = int(endless.argmax())
        raise _too_large(table, int(rows[np.abs(values[:, column]).argmax()]), column)
    constant = scale <= _ROUNDING * np.abs(values).max(0)
    if constant.any():
        raise DataError(
            f"Column {table.columns[int(constant.argmax())]} of {table.path} is constant in the "
            f"{len(rows):,} training rows, so it has no scale to divide by. Leave it out."
        )
    return mean, scale


def _in_32_bits(
    table: PointTable, mean: Float[np.ndarray, " columns"], scale: Float[np.ndarray, " columns"]
) -> Float[np.ndarray, "rows columns"]:
    with np.errstate(over="ignore", invalid="ignore"):
        values = ((table.values - mean) / scale).astype(np.float32)
    wrong = ~np.isfinite(values)
    if wrong.any():
        raise _too_large(table, *np.argwhere(wrong)[0].tolist())
    return values


def _too_large(table: PointTable, row: int, column: int) -> DataError:
    return DataError(
        f"Line {table.lines[row]} of {table.path} has {table.values[row, column]:g} in column "
        f"{table.columns[column]}, which no 32-bit number holds beside the training rows. Correct it."
    )
