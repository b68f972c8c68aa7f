"""Many draws from what makes one."""

from collections.abc import Callable

import jax
from jaxtyping import Array, PRNGKeyArray, PyTree


def repeated(
    draw: Callable[[PRNGKeyArray], PyTree[Array]],
    key: PRNGKeyArray | None,
    sample_shape: tuple[int, ...],
) -> PyTree[Array]:
    """`draw(key)` itself for an empty shape, else one draw per entry, each with a key of its own."""
    assert key is not None
    for _ in sample_shape:
        draw = jax.vmap(draw)
    return draw(jax.random.split(key, sample_shape) if sample_shape else key)
