"""What the networks of a language model are given: shifted embeddings, normalised along some axis."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Normalisation = Literal["none", "feature", "running", "time"]
_TINY = 1e-8  # in squared units of the inputs


def shifted(
    tokens: Int[Array, " time"], embedding: Float[Array, "symbols size"]
) -> Float[Array, "time size"]:
    """Position i is given the embedding of token i - 1, and position 0 a vector of ones.

    Embeddings are drawn with entries of variance 1 / size, which suits the softmax they are tied to;
    as inputs they are scaled back to entries of variance 1 (Vaswani et al. 2017,
    arXiv:1706.03762, sec. 3.4).
    """
    num_symbols, size = embedding.shape
    # A product with zeros and ones would be as wide as the vocabulary; rows are looked up.
    before = size**0.5 * embedding[jnp.clip(tokens[:-1], 0, num_symbols - 1)]
    return jnp.concatenate([jnp.ones((1, size), before.dtype), before])


def normalise(
    inputs: Float[Array, "time size"], normalisation: Normalisation
) -> Float[Array, "time size"]:
    """The inputs over a statistic of their size.

        feature   x_t / sqrt(mean_d x_td^2): of one position, over its entries
        running   x_td / sqrt(mean_{s <= t} x_sd^2): of every entry, over the positions so far
        time      x_td / std_s x_sd: of every entry, over all positions, those to come among them

    `time` reads the future: position t is told of every later word through the statistic, and so is
    asked for words it has seen. The study that docs/dlm.md replays did so, and it is here to show what
    that does; `tightbound check` names it (TB113).
    """
    match normalisation:
        case "none":
            return inputs
        case "feature":
            return inputs * jax.lax.rsqrt(jnp.square(inputs).mean(-1, keepdims=True) + _TINY)
        case "running":
            count = jnp.arange(1, len(inputs) + 1)[:, None]
            power = jnp.cumsum(jnp.square(inputs), axis=0) / count
            return inputs * jax.lax.rsqrt(power + _TINY)
        case "time":
            return inputs * jax.lax.rsqrt(inputs.var(0, keepdims=True) + _TINY)


def over_feature_deviation(
    states: Float[Array, "*position size"],
) -> Float[Array, "*position size"]:
    """Every state over the standard deviation of its entries."""
    return states * jax.lax.rsqrt(states.var(-1, keepdims=True) + _TINY)
