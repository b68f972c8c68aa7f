"""Models and proposals with one thing switched off, for finding out which part cannot learn.

To vary a family one wraps it. What these make is no bound, and every number computed with them
says so.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from tightbound.models.base import AbstractModel, AbstractProposal, Distribution


class Noiseless(AbstractProposal):
    """Every draw is the proposal's mean: a deterministic auto-encoder."""

    inner: AbstractProposal

    def proposal(self, x: PyTree[Array]) -> Distribution:
        return _AtMean(self.inner.proposal(x))


class _AtMean(eqx.Module):
    inner: Any  # a distribution with a mean

    def sample(self, key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.mean

    def log_prob(self, value: PyTree[Array]) -> Any:
        return self.inner.log_prob(value)


class SquaredError(AbstractModel):
    """The site "x" scores minus half the squared distance to the output's mean: no density.

    Needs a model with `residual(x, z)`: what was observed less the mean of the output.
    """

    inner: Any

    @property
    def kinds(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.kinds

    def sample_prior(self, key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample_prior(key)

    def score(self, x: PyTree[Array], z: PyTree[Array]) -> dict[str, Float[Array, " time"]]:
        half_square = -0.5 * jnp.square(self.inner.residual(x, z)).sum(keepdims=True)
        return self.inner.score(x, z) | {"x": half_square}

    def sample_likelihood(self, z: PyTree[Array], key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample_likelihood(z, key)
