"""Sequences of unequal length: the padded record, and splits made of them."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, PyTree

from tightbound.data.batch import Split
from tightbound.errors import UserError


class Sequence(eqx.Module):
    """One padded sequence: its values and which of them are real. Padding comes last.

    A batch of sequences is the same record with a leading axis on every leaf, so it can be the
    `x` of a `Batch`, whose own `mask` is then this one.
    """

    values: PyTree[Array | np.ndarray]  # leaves have a time axis
    mask: Bool[Array | np.ndarray, "..."]  # time, or batch and time; one element as a step sees it


def sequence_split(
    name: str,
    sequences: list[Any],
    *,
    law: str = "",
    groups: np.ndarray | None = None,
    group_names: tuple[str, ...] = (),
) -> Split:
    """A split of sequences, each a pytree of arrays with a time axis, padded with zeros to the
    longest. One unit is one step. An empty sequence is refused, by its row."""
    lengths = np.array([len(jax.tree.leaves(sequence)[0]) for sequence in sequences], np.int32)
    if not len(lengths):
        raise UserError(f"The {name} split has no sequences. Give at least one.")
    if lengths.min() < 1:
        raise UserError(
            f"Row {int(lengths.argmin())} of the {name} split is an empty sequence: it has nothing to "
            "score. Leave it out."
        )
    mask = np.arange(lengths.max()) < lengths[:, None]

    def padded(*rows: np.ndarray) -> np.ndarray:
        whole = np.zeros((*mask.shape, *np.shape(rows[0])[1:]), np.asarray(rows[0]).dtype)
        for row, values in zip(whole, rows, strict=True):
            row[: len(values)] = values
        return whole

    values = jax.tree.map(padded, *sequences)
    return Split(
        name=name,
        x=Sequence(values, mask),
        mask=mask,
        num_units=lengths,
        law=law,
        groups=groups,
        group_names=group_names,
    )
