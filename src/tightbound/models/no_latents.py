"""The proposal of a model that has nothing to propose: all its latents are summed out."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from tightbound.models.base import AbstractProposal


class NoLatents(AbstractProposal):
    """q of no latents. Every draw is the same nothing, and every weight is log p(x)."""

    def proposal(self, x: PyTree[Array]) -> "Nothing":
        return Nothing()


class Nothing(eqx.Module):
    """The distribution of no latents: a draw has size 0 and no site is scored."""

    def sample(self, key: PRNGKeyArray) -> Float[Array, "0"]:
        return jnp.zeros(0)

    def log_prob(self, value: Float[Array, "0"]) -> dict[str, Array]:
        return {}
