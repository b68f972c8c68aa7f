"""Images read row by row: MNIST as 28 steps of 28 pixels, scikit-learn's digits as 8 of 8."""

import math
import os
from dataclasses import replace
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from tightbound.data.batch import Batch, Split
from tightbound.data.catalogue import DataError
from tightbound.data.formats.idx import MNIST_LEVELS, load_mnist
from tightbound.data.sequences import Sequence
from tightbound.data.sets.digits import DIGITS_LEVELS, load_digits
from tightbound.data.sets.static_mnist import load_static_mnist
from tightbound.errors import UserError

PixelLaw = Literal["static", "thresholded", "dynamic", "grey"]

_LAWS = {
    "static": "static binarisation",
    "thresholded": "thresholded at one half",
    "dynamic": "dynamic binarisation",
    "grey": "grey levels",
}


class BinariseRows(eqx.Module):
    """pixel ~ Bernoulli(x), drawn afresh each time a batch is seen, from grey values in [0, 1].

    The noise that belongs to the law "dynamic": Burda et al. 2016 (arXiv:1509.00519), sec. 5. A
    sequence's draws come from the key of its row.
    """

    law: ClassVar[str] = _LAWS["dynamic"]

    def __call__(self, batch: Batch, key: PRNGKeyArray) -> Batch:
        def draw(grey: Any, row: Any) -> Float[Any, "time pixels"]:
            bits = jax.random.bernoulli(jax.random.fold_in(key, row), grey)
            return bits.astype(grey.dtype)

        values = jax.vmap(draw)(jnp.asarray(batch.x.values), jnp.asarray(batch.rows))
        return eqx.tree_at(lambda batch: batch.x.values, batch, values)


def load_sequential_mnist(
    path: str | os.PathLike[str] | None = None,
    *,
    law: PixelLaw = "static",
    num_valid: int = 400,
) -> dict[str, Split]:
    """The splits train, valid and test; values are in [0, 1], in 32 bits, of shape (28, 28).

    - "static": bits drawn once by the publisher, no labels, and its own splits (50,000 / 10,000 /
      10,000: `num_valid` is not used);
    - "thresholded": 1 where the grey value is above one half;
    - "dynamic": the grey values, which `BinariseRows()` as the run's noise makes bits of;
    - "grey": the same values as they are. They lie on a grid, so a density needs a floor.

    Labels are in `groups`. `path` is as `load_static_mnist` and `load_mnist` take it. One unit is
    one row of pixels.
    """
    if law not in _LAWS:
        raise UserError(f"There is no law '{law}' of pixels; take one of {', '.join(_LAWS)}.")
    if law == "static":
        splits, levels = load_static_mnist(path), 1
    else:
        splits, levels = load_mnist(path, num_valid), MNIST_LEVELS
    return {name: _by_rows(split, levels, law) for name, split in splits.items()}


def load_sequential_digits(
    path: str | os.PathLike[str] | None = None, *, num_valid: int = 200, num_test: int = 300
) -> dict[str, Split]:
    """scikit-learn's digits likewise, as grey values that `BinariseRows()` makes bits of: shape (8, 8).

    `path`, `num_valid` and `num_test` are as `load_digits` takes them; without a path no file is needed.
    """
    splits = load_digits(path, num_valid=num_valid, num_test=num_test)
    return {name: _by_rows(split, DIGITS_LEVELS, "dynamic") for name, split in splits.items()}


def _by_rows(images: Split, levels: int, law: PixelLaw) -> Split:
    side = math.isqrt(images.x.shape[1])
    if side * side != images.x.shape[1]:
        raise DataError(
            f"The {images.name} split has images of {images.x.shape[1]} pixels, which are no square: "
            "where their rows end is not known. Give square images."
        )
    values = images.x.reshape(-1, side, side).astype(np.float32) / np.float32(levels)
    if law == "thresholded":
        values = (values > 0.5).astype(np.float32)
    mask = np.ones(values.shape[:2], bool)
    return replace(
        images,
        x=Sequence(values, mask),
        mask=mask,
        num_units=np.full(len(values), side, np.int32),
        law=_LAWS[law],
    )
