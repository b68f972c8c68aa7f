"""The activation functions a setting can name."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Activation = Literal["softplus", "relu", "tanh", "elu", "gelu"]


def softplus(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log(1 + e^x), stable on both sides. `jax.nn.softplus` also repairs infinities, which costs a
    VAE's training step 8 %; here an infinite x gives what the formula gives."""
    return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


def activation(name: Activation) -> Callable[[Array], Array]:
    """The function of this name."""
    functions = {
        "softplus": softplus,
        "relu": jax.nn.relu,
        "tanh": jnp.tanh,
        "elu": jax.nn.elu,
        "gelu": jax.nn.gelu,
    }
    return functions[name]
