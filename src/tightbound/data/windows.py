"""Windows of long sequences, in the order in which a state can be carried from one to the next."""

from collections.abc import Iterator

import jax
import numpy as np

from tightbound.data.batch import Batch, Split, epoch_rows
from tightbound.data.sequences import Sequence
from tightbound.errors import UserError


def windowed_batches(
    split: Split, batch_size: int, stride: int, span: int, *, seed: int, start: int = 0
) -> Iterator[Batch]:
    """Windows of `span` steps (k2) that advance by `stride` (k1), without end, from step `start` on.

    The rows of a batch begin together at clock 0 and keep their places until the longest has ended;
    then come the next. Rows of like length are together, as in `training_batches`, and every window
    has the same shape. The order is a function of (seed, step), so that a resumed run continues.
    """
    epoch, first = _place(split, batch_size, stride, span, seed, start)
    while True:
        rows, counts = _epoch(split, batch_size, stride, span, seed, epoch)
        windows = [(batch, w) for batch, count in enumerate(counts) for w in range(count)]
        for batch, window in windows[first:]:
            yield window_of(split, rows[batch], window * stride, span)
        epoch, first = epoch + 1, 0


def epochs_of_windows(
    split: Split, batch_size: int, stride: int, span: int, *, seed: int, step: int
) -> float:
    """How often all rows have been seen after `step` windows."""
    epoch, done = _place(split, batch_size, stride, span, seed, step)
    return epoch + done / _epoch(split, batch_size, stride, span, seed, epoch)[1].sum()


def window_of(split: Split, rows: np.ndarray, first: int, span: int) -> Batch:
    """Steps first, ..., first + span - 1 of these rows. Steps past the end of a row hold its first
    observation, under the mask: unlike zeros, every law of x can score it."""
    if not isinstance(split.x, Sequence):
        raise UserError(
            f"Windows were asked for, but the rows of the {split.name} split are no sequences: they "
            "have no steps to cut at. Make the split with `sequence_split`, or truncate nothing."
        )
    steps = first + np.arange(span)
    mask = steps < _lengths(split)[rows, None]
    positions = np.where(mask, steps, 0)
    values = jax.tree.map(lambda leaf: leaf[rows[:, None], positions], split.x.values)
    return Batch(
        x=Sequence(values, mask),
        mask=mask,
        num_units=mask.sum(1, dtype=np.int32),
        rows=np.asarray(rows, np.int32),
        first_clock=np.asarray(first, np.int32),
    )


def _lengths(split: Split) -> np.ndarray:
    """Steps of every row, padding left out."""
    return split.mask.sum(1)


def _epoch(
    split: Split, batch_size: int, stride: int, span: int, seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of an epoch's batches, and the number of windows of each: the first covers `span`
    steps, every other `stride` more."""
    rows = epoch_rows(split, batch_size, seed, epoch)
    left = np.maximum(_lengths(split)[rows].max(1) - span, 0)
    return rows, 1 + -(-left // stride)


def _place(
    split: Split, batch_size: int, stride: int, span: int, seed: int, step: int
) -> tuple[int, int]:
    """The epoch of a step, and the windows of that epoch that came before it. Epochs differ in
    their number of windows, so they are counted one by one: no data are read for that."""
    epoch = 0
    while step >= (total := int(_epoch(split, batch_size, stride, span, seed, epoch)[1].sum())):
        epoch, step = epoch + 1, step - total
    return epoch, step
