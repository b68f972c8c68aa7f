"""Dropout along a sequence: where it acts, and whether one mask serves all positions."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


@dataclass(frozen=True)
class Dropout:
    """Probabilities with which entries are set to 0 in training; the others are scaled by 1 / (1 - p).

    `shared` draws one mask for all positions of a sequence (variational dropout: Gal & Ghahramani
    2016, arXiv:1512.05287, sec. 4); `state` acts on the recurrent state and is always shared.
    """

    input: float = 0.0
    output: float = 0.0
    state: float = 0.0
    shared: bool = False

    def __post_init__(self):
        for name in ("input", "output", "state"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"The {name} dropout is {getattr(self, name)}, but it is a probability below 1 "
                    "with which entries are dropped. Give a number from 0 on, below 1."
                )


def dropped(
    values: Float[Array, "time size"], rate: float, shared: bool, key: PRNGKeyArray | None
) -> Float[Array, "time size"]:
    """The values under dropout; as they are without a key or at rate 0. Every position has a key of
    its own, so that padding after it changes nothing."""
    if key is None or rate == 0.0:
        return values
    size = values.shape[1]
    if shared:
        return values * dropout_mask(rate, (size,), key)[None]
    keys = jax.vmap(lambda position: jax.random.fold_in(key, position))(jnp.arange(len(values)))
    return values * jax.vmap(lambda key: dropout_mask(rate, (size,), key))(keys)


def dropout_mask(rate: float, shape: tuple[int, ...], key: PRNGKeyArray) -> Float[Array, "*shape"]:
    """0 with probability `rate`, else 1 / (1 - rate): 1 on average."""
    keep = 1.0 - rate
    return jnp.where(jax.random.bernoulli(key, keep, shape), 1.0 / keep, 0.0)
