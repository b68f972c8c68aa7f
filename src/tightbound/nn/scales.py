"""Scales of output laws: positive, and never below a floor that is part of the law."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from tightbound.nn.activations import softplus


def above_floor(raw: Float[Array, "*shape"], floor: float) -> Float[Array, "*shape"]:
    """floor + softplus(raw). A raw feature of 0 gives log 2 = 0.69 above the floor."""
    return floor + softplus(raw)


def raw_above_floor(value: float, floor: float) -> Float[Array, ""]:
    """The raw parameter that `above_floor` takes to `value`; `value` must lie above the floor."""
    above = jnp.asarray(value - floor, float)
    return above + jnp.log(-jnp.expm1(-above))  # softplus^-1; e^above may overflow


def require_floor(min_scale: float) -> None:
    """ValueError unless the floor is positive.

    A scale that a network reads off its input can shrink around one observation, and the density
    there then grows without bound.
    """
    if not min_scale > 0:
        raise ValueError(
            f"The floor of the output scale is {min_scale}, but a scale that is read from features "
            "needs a positive one: without it the density has no upper bound. Raise `min_scale`."
        )
