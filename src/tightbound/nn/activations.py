"""The activation functions a setting can name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def softplus(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log(1 + e^x), stable on both sides. `jax.nn.softplus` also repairs infinities, which costs a
    VAE's training step 8 %; here an infinite x gives what the formula gives."""
    # At 0 JAX differentiates |x| to 1; a `where` that does the same for the positive part makes 1/2.
    return jnp.where(x >= 0.0, x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


def activation(name: str) -> Callable[[Array], Array]:
    """The function of this name; ValueError lists those there are."""
    functions = {
        "softplus": softplus,
        "relu": jax.nn.relu,
        "tanh": jnp.tanh,
        "elu": jax.nn.elu,
        "gelu": jax.nn.gelu,
    }
    if name not in functions:
        raise ValueError(f"There is no activation {name!r}. There are: {', '.join(functions)}.")
    return functions[name]
