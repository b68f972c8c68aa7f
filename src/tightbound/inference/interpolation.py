"""Between two latents: along the straight line, or along the arc."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def linear_mixture(
    a: Float[Array, " latent"], b: Float[Array, " latent"], share: Float[Array, ""]
) -> Float[Array, " latent"]:
    """(1 - share) a + share b: shorter than both in between, where they are not parallel."""
    return (1 - share) * a + share * b


def spherical_mixture(
    a: Float[Array, " latent"], b: Float[Array, " latent"], share: Float[Array, ""]
) -> Float[Array, " latent"]:
    """(sin((1 - share) w) a + sin(share w) b) / sin(w), with w the angle between a and b.

    Shoemake 1985, eq. of Slerp; White 2016 (arXiv:1609.04468), sec. 2, for latents: Gaussian draws of
    many dimensions have like lengths, and so have these mixtures. Of vectors that are parallel,
    opposite or zero, the linear mixture.
    """
    lengths = jnp.linalg.norm(a) * jnp.linalg.norm(b)
    cosine = a @ b / jnp.where(lengths > 0, lengths, 1.0)
    angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
    flat = (jnp.sin(angle) < 1e-3) | (lengths == 0)
    sine = jnp.where(flat, 1.0, jnp.sin(angle))
    mixed = (jnp.sin((1 - share) * angle) * a + jnp.sin(share * angle) * b) / sine
    return jnp.where(flat, linear_mixture(a, b, share), mixed)
