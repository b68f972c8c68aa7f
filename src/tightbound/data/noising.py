"""What a model sees of a stored image: transforms `(batch, key) -> batch`, run in the compiled step.

Each names its law. Random draws take their key from the row of the sequence, so that neither
neighbours nor the filling of the last batch change them.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Real

from tightbound.data.batch import Batch
from tightbound.data.catalogue import DataError
from tightbound.data.labelled import image_of


class Binarise(eqx.Module):
    """pixel ~ Bernoulli(x / levels), drawn afresh at every call.

    The protocol of Burda et al. 2016 (arXiv:1509.00519), sec. 5, after Salakhutdinov and Murray
    2008. Black stays 0 and full ink stays 1, always.
    """

    levels: int = eqx.field(static=True)  # the largest grey value
    law: ClassVar[str] = "dynamic binarisation"

    def __call__(self, batch: Batch, key: PRNGKeyArray) -> Batch:
        def draw(grey, key) -> Bool[Array, " pixels"]:
            # 32-bit uniforms in every mode: 2^-23 resolves grey levels, and the draws stay the same
            return jax.random.bernoulli(key, grey.astype(jnp.float32) / self.levels)

        return _with_image(batch, _as_float(_by_row(draw, batch, key)))


class AsFloat(eqx.Module):
    """The stored bits as numbers: nothing is drawn. For data that was binarised once and for all."""

    law: ClassVar[str] = "static binarisation"

    def __call__(self, batch: Batch, key: PRNGKeyArray) -> Batch:
        return _with_image(batch, _as_float(image_of(batch.x)))


class Rescale(eqx.Module):
    """x / levels in [0, 1], for densities. Nothing is drawn.

    The values are still a grid, so a density can grow without limit at the grid points: floor the
    output's variance, or use `Dequantise`.
    """

    levels: int = eqx.field(static=True)
    law: ClassVar[str] = "grey levels"

    def __call__(self, batch: Batch, key: PRNGKeyArray) -> Batch:
        return _with_image(batch, _as_float(image_of(batch.x)) / self.levels)


class Dequantise(eqx.Module):
    """(x + u) / (levels + 1),  u ~ U[0, 1): grey values spread over the interval they stand for.

    Theis et al. 2016 (arXiv:1511.01844), sec. 3.1: the expected log-density, less
    D log(levels + 1) nats, is a lower bound on the log-probability of the grey values.
    """

    levels: int = eqx.field(static=True)
    law: ClassVar[str] = "dequantised grey levels"

    def __call__(self, batch: Batch, key: PRNGKeyArray) -> Batch:
        def draw(grey, key) -> Float[Array, " pixels"]:
            noise = jax.random.uniform(key, grey.shape)
            return (grey.astype(noise.dtype) + noise) / (self.levels + 1)

        return _with_image(batch, _by_row(draw, batch, key))


def validate_images(
    x: Real[Array | np.ndarray, "rows pixels"], name: str, levels: int = 255
) -> None:
    """Raise `DataError` at the first row with a NaN or a value outside 0..levels. On the host."""
    x = np.asarray(x)
    with np.errstate(invalid="ignore"):
        bad = ~((x >= 0) & (x <= levels)).all(axis=1)  # so written that NaN is bad
    if bad.any():
        row = int(bad.argmax())
        value = x[row][~((x[row] >= 0) & (x[row] <= levels))][0]
        raise DataError(
            f"Row {row} of `{name}` has the value {value}, but grey values must be numbers from "
            f"0 to {levels} ({int(bad.sum()):,} of {len(x):,} rows are wrong). Correct the data, "
            "or state its largest value."
        )


def _by_row(draw: Callable[[Any, Any], Any], batch: Batch, key: PRNGKeyArray) -> Array:
    """`draw(image, key)` for every sequence, with the key of its row."""

    def one(image, row):
        return draw(image, jax.random.fold_in(key, row))

    return jax.vmap(one)(jnp.asarray(image_of(batch.x)), jnp.asarray(batch.rows))


def _as_float(image: Any) -> Array:
    return jnp.asarray(image).astype(jnp.zeros(()).dtype)


def _with_image(batch: Batch, image: Array) -> Batch:
    return eqx.tree_at(lambda batch: image_of(batch.x), batch, image)
