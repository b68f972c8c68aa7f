"""Training, validation and test rows of a corpus that nobody has split."""

import os
from collections.abc import Sequence
from typing import TypeVar

from tightbound.data.catalogue import DataError
from tightbound.data.sets.digits import fixed_order

Row = TypeVar("Row")

_SHARES = (0.8, 0.9)  # where, in the shuffled order, validation and test begin


def shuffled_splits(
    groups: Sequence[list[Row]], source: str | os.PathLike[str]
) -> dict[str, list[Row]]:
    """80, 10 and 10 % of the rows, whole groups in an order that never changes (`fixed_order`).

    A group is never divided, so large ones move the shares a little. DataError, which names the
    `source`, where a split would be empty.
    """
    total = sum(map(len, groups))
    rows: dict[str, list[Row]] = {"train": [], "valid": [], "test": []}
    before = 0
    for index in fixed_order(len(groups)):
        share = before / total
        name = "train" if share < _SHARES[0] else "valid" if share < _SHARES[1] else "test"
        rows[name] += groups[index]
        before += len(groups[index])
    if not all(rows.values()):
        stays = f" in {len(groups):,} groups that stay together" if len(groups) < total else ""
        raise DataError(
            f"{source} has {total:,} sequences{stays}: too few to make training, validation and test "
            "of them. Give at least 10 (in a text, one a line), or read more rows."
        )
    return rows
