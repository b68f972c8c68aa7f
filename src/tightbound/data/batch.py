"""A split of a data set, and the batches cut from it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

from tightbound.data.points import PointSet
from tightbound.errors import UserError


class Batch(eqx.Module):
    """Sequences padded to one length. `rows` are their places in the split: the keys of every random
    draw come from them, so a sequence's draws do not depend on its neighbours or on the padding."""

    x: PyTree[
        Array | np.ndarray
    ]  # leaves have a leading batch axis; what one model call sees is a slice
    mask: Bool[Array | np.ndarray, "batch time"]
    num_units: Int[Array | np.ndarray, " batch"]
    rows: Int[Array | np.ndarray, " batch"]
    # Of a window of longer sequences, where in them it begins; None where they are whole.
    first_clock: Int[Array | np.ndarray, ""] | None = None


Noise = Callable[[Batch, PRNGKeyArray], Batch]  # drawn on the device each time a batch is seen


@dataclass(frozen=True)
class Split:
    """One split of a data set, on the host.

    `law` says how what a model sees is made from what is stored (for instance "dynamic
    binarisation") and travels with every number computed on the split. `groups` label the rows
    for `why` (digit classes, writers, lengths); None where there are none.
    """

    name: str  # "train", "valid" or "test"
    x: Any  # pytree of arrays with a leading axis of rows
    mask: np.ndarray  # (rows, time), True at real positions
    num_units: np.ndarray  # (rows,)
    law: str = ""
    groups: np.ndarray | None = None
    group_names: tuple[str, ...] = field(default=())
    # Widths that batches may be cut to, ascending, where every leaf of x has a time axis (as a
    # `Sequence` does): few shapes to compile, and little padding to compute. () cuts nothing.
    lengths: tuple[int, ...] = ()
    # True where the rows are points of one data set and share its latents: a batch of them is then a
    # single sequence, and a smaller one stands for them all.
    pooled: bool = False
    # The split whose posterior these rows are predicted from; "" where they are explained by their own.
    given: str = ""

    def __post_init__(self):
        if self.lengths:
            _check_lengths(self)
        if self.groups is not None and not self.group_names:
            names = tuple(str(group) for group in range(int(self.groups.max()) + 1))
            object.__setattr__(self, "group_names", names)

    def __len__(self) -> int:
        return len(self.mask)

    def take(self, rows: np.ndarray) -> Batch:
        """The batch of these rows; of a pooled split one sequence, each row in it for N / n of them."""
        if self.pooled:
            return _pooled(self, rows)
        return Batch(
            x=jax.tree.map(lambda leaf: leaf[rows], self.x),
            mask=self.mask[rows],
            num_units=self.num_units[rows],
            rows=np.asarray(rows, np.int32),
        )

    @property
    def description(self) -> str:
        """The split with its law, as an `Estimate` states it: "test (dynamic binarisation)"."""
        name = f"{self.name} given {self.given}" if self.given else self.name
        return f"{name} ({self.law})" if self.law else name


def _pooled(split: Split, rows: np.ndarray) -> Batch:
    """Points of one data set as the one sequence that they are."""
    size = max(len(rows), 1)
    return Batch(
        x=PointSet(
            points=jax.tree.map(lambda leaf: leaf[rows][None], split.x),
            weight=np.full((1, len(rows)), len(split) / size, np.float32),
        ),
        mask=split.mask[rows].T,
        num_units=np.array([len(split)], np.int32),
        rows=np.zeros(1, np.int32),
    )


def rows(name: str, x: Any, *, law: str = "", labels: np.ndarray | None = None) -> Split:
    """A split whose rows have no time axis: each is a sequence of one."""
    num_rows = len(jax.tree.leaves(x)[0])
    return Split(
        name=name,
        x=x,
        mask=np.ones((num_rows, 1), bool),
        num_units=np.ones(num_rows, np.int32),
        law=law,
        groups=labels,
    )


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Full batches in one pass; the remainder is left for other epochs, whose order differs.

    ValueError where not one batch is full.
    """
    if batch_size > len(split):
        raise ValueError(
            f"A batch of {batch_size} was asked for, but the {split.name} split has "
            f"{len(split)} rows. Lower the batch size to at most {len(split)}."
        )
    return len(split) // batch_size


def training_batches(
    split: Split, batch_size: int, *, seed: int, start: int = 0
) -> Iterator[Batch]:
    """Shuffled batches without end, beginning with the batch of step `start`.

    The order of epoch e is a function of (seed, e) alone, so a resumed run continues where it
    stopped without replaying anything. Where lengths differ, rows of like length come together:
    padding that a whole batch shares need not be computed.
    """
    per_epoch = steps_per_epoch(split, batch_size)
    epoch, position = divmod(start, per_epoch)
    while True:
        for rows in epoch_rows(split, batch_size, seed, epoch)[position:]:
            yield _cut(split.take(rows), split.lengths)
        epoch, position = epoch + 1, 0


def epoch_rows(split: Split, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """The rows of every batch of one epoch, (batches, batch): a function of (seed, epoch) alone."""
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(split))[: steps_per_epoch(split, batch_size) * batch_size]
    if np.ptp(split.num_units) > 0:
        order = _by_length(order, split, batch_size, random)
    return order.reshape(-1, batch_size)


_POOL = 16  # batches sorted together: enough for like lengths, few enough to stay random


def _by_length(
    order: np.ndarray, split: Split, batch_size: int, random: np.random.Generator
) -> np.ndarray:
    """The same rows, sorted by length within pools of a few batches; the batches in random order."""
    pools = [order[i : i + _POOL * batch_size] for i in range(0, len(order), _POOL * batch_size)]
    by_length = [pool[np.argsort(split.num_units[pool], kind="stable")] for pool in pools]
    batches = np.concatenate(by_length).reshape(-1, batch_size)
    return batches[random.permutation(len(batches))].ravel()


def chunks(split: Split, size: int) -> Iterator[tuple[Batch, int]]:
    """The whole split in order, as (batch, number of real rows): every batch has `size` rows, so
    one compiled shape (or one for each of the split's `lengths`) serves all; the last is filled up
    with row 0, to be cut off by the caller."""
    for start in range(0, len(split), size):
        rows = np.arange(start, min(start + size, len(split)))
        filled = np.concatenate([rows, np.zeros(size - len(rows), rows.dtype)])
        yield _cut(split.take(filled), split.lengths), len(rows)


def _cut(batch: Batch, lengths: tuple[int, ...]) -> Batch:
    """The batch without the padding beyond the smallest of `lengths` that holds its longest row;
    whole where none does."""
    longest = int(np.flatnonzero(np.asarray(batch.mask).any(0))[-1]) + 1
    length = next((length for length in lengths if length >= longest), None)
    if length is None:
        return batch
    x = jax.tree.map(lambda leaf: leaf[:, :length], batch.x)
    return Batch(x=x, mask=batch.mask[:, :length], num_units=batch.num_units, rows=batch.rows)


def _check_lengths(split: Split) -> None:
    if list(split.lengths) != sorted(set(split.lengths)) or split.lengths[0] < 1:
        raise UserError(
            f"The {split.name} split was given the lengths {split.lengths}; give different whole "
            "numbers from 1 on, the smallest first."
        )
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(split.x)]
    if any(shape[:2] != split.mask.shape for shape in shapes):
        raise UserError(
            f"Batches of the {split.name} split were to be cut to the lengths {split.lengths}, but "
            f"not every array in it begins with the axes {split.mask.shape} of rows and time; the "
            f"shapes are {shapes}. Make the split with `sequence_split`, or give no lengths."
        )


def first_rows(split: Split, num_rows: int) -> Split:
    """The first rows of a split, with their groups."""
    if num_rows < 1:
        raise UserError(f"{num_rows} rows were asked for; give at least 1.")
    return rows_of(split, np.arange(min(num_rows, len(split))))


def first_batch(split: Split, num_rows: int) -> Batch:
    """The first rows of a split, or all it has, as one batch."""
    return split.take(np.arange(min(num_rows, len(split))))


def rows_of(split: Split, rows: np.ndarray) -> Split:
    """These rows of a split, with their groups."""
    return replace(
        split,
        x=jax.tree.map(lambda leaf: leaf[rows], split.x),
        mask=split.mask[rows],
        num_units=split.num_units[rows],
        groups=None if split.groups is None else split.groups[rows],
    )
