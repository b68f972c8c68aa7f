"""Which rows laws are asked about, and the numbers in them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from tightbound.data.batch import Batch
from tightbound.data.labelled import image_of
from tightbound.data.points import PointSet
from tightbound.data.sequences import Sequence
from tightbound.diagnose.laws.compiled import jit_once
from tightbound.diagnose.probes import probe_batches, repeated
from tightbound.train.setup import Setup

REPEATS = 32  # of a single row
_FEW_POINTS = 64  # of a data set, where each is scored for thousands of draws


def flat_rows(x: PyTree[Any]) -> np.ndarray:
    """All numbers of every row side by side; of labelled images the image only, and of rows that carry
    their own number (for a proposal with parameters of every row) not that."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(image_of(x))]
    measured = [leaf for leaf in leaves if not _numbers_rows(leaf)]
    leaves = measured or leaves
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def _numbers_rows(leaf: np.ndarray) -> bool:
    """One whole number for every row, and never the same one. Of fewer than eight rows nobody can tell."""
    whole = np.issubdtype(leaf.dtype, np.integer) and leaf.ndim == 1
    return whole and len(leaf) >= 8 and len(np.unique(leaf)) == len(leaf)


def real_rows(x: PyTree[Any]) -> list[np.ndarray]:
    """The numbers of every row; of sequences those of real steps, step by step."""
    if not isinstance(x, Sequence):
        return list(np.ascontiguousarray(flat_rows(x)))
    mask = np.asarray(x.mask)
    leaves = [np.asarray(leaf).reshape(*mask.shape, -1) for leaf in jax.tree.leaves(x.values)]
    values = np.concatenate(leaves, axis=-1)
    return [row[real].ravel() for row, real in zip(values, mask, strict=True)]


def few_points(batch: Batch) -> Batch:
    """The first points of a data set; other batches as they are."""
    if not isinstance(batch.x, PointSet):
        return batch
    cut = lambda leaf: leaf[:, :_FEW_POINTS]  # noqa: E731
    return eqx.tree_at(
        lambda b: (b.x, b.mask), batch, (jax.tree.map(cut, batch.x), cut(batch.mask))
    )


def batches_of_claim(setup: Setup, noise_key: PRNGKeyArray) -> tuple[Batch, Batch]:
    """Up to 32 training rows and as many others, under the noise of training."""
    batch, other = (repeated(b, REPEATS) for b in probe_batches(setup)[:2])
    size = min(32, len(batch.rows))
    batch, other = (jax.tree.map(lambda leaf: jnp.asarray(leaf[:size]), b) for b in (batch, other))
    if setup.noise is not None:
        batch, other = (jit_once(setup.noise)(b, noise_key) for b in (batch, other))
    return batch, other


def rows_of_record(setup: Setup, key: PRNGKeyArray, num_rows: int = 4) -> Batch:
    """A few training rows, under the noise of training."""
    batch, _ = batches_of_claim(setup, key)
    return jax.tree.map(lambda leaf: leaf[:num_rows], batch)
