"""Proposals that do not look at x: for latents that all data share, and for targets without data."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.scipy.stats import norm
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from tightbound.models.base import AbstractProposal, Distribution


class MeanField(AbstractProposal):
    """q(z) = N(mean, diag scale^2) over any pytree of real latents; the parameters are mean and log scale."""

    mean: PyTree[Array]
    log_scale: PyTree[Array]

    def __init__(
        self,
        sample_start: Callable[[PRNGKeyArray], PyTree[Array]],
        *,
        scale: float = 1.0,
        key: PRNGKeyArray,
    ):
        """Starts with `sample_start(key)` for its mean, for instance a draw of the model's prior."""
        _check_positive("scale", scale)
        self.mean = sample_start(key)
        self.log_scale = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.log(scale)), self.mean)

    def proposal(self, x: PyTree[Array]) -> Distribution:
        return IndependentNormal(self.mean, jax.tree.map(jnp.exp, self.log_scale))


class IndependentNormal(eqx.Module):
    """Independent normals shaped as a pytree."""

    mean: PyTree[Array]
    scale: PyTree[Array]

    def sample(self, key: PRNGKeyArray) -> PyTree[Array]:
        leaves, structure = jax.tree.flatten(self.mean)
        keys = jax.random.split(key, len(leaves))
        noise = [
            jax.random.normal(k, leaf.shape, leaf.dtype)
            for k, leaf in zip(keys, leaves, strict=True)
        ]
        return jax.tree.map(
            lambda mean, scale, noise: mean + scale * noise,
            self.mean,
            self.scale,
            structure.unflatten(noise),
        )

    def log_prob(self, value: PyTree[Array]) -> Float[Array, ""]:
        each = jax.tree.map(
            lambda v, mean, scale: norm.logpdf(v, mean, scale).sum(), value, self.mean, self.scale
        )
        return jnp.stack(jax.tree.leaves(each)).sum()


class FullRank(AbstractProposal):
    """q(z) = N(mean, L L^T) over all latents in one vector: L lower triangular, its diagonal exp(.)."""

    mean: PyTree[Array]
    factor: Float[
        Array, "latent latent"
    ]  # strictly lower part of L; log of its diagonal on the diagonal

    def __init__(
        self,
        sample_start: Callable[[PRNGKeyArray], PyTree[Array]],
        *,
        scale: float = 1.0,
        key: PRNGKeyArray,
    ):
        """Starts with `sample_start(key)` for its mean and `scale` times the identity for L."""
        _check_positive("scale", scale)
        self.mean = sample_start(key)
        self.factor = jnp.log(scale) * jnp.eye(ravel_pytree(self.mean)[0].size)

    def proposal(self, x: PyTree[Array]) -> Distribution:
        lower = jnp.tril(self.factor, -1) + jnp.diag(jnp.exp(jnp.diag(self.factor)))
        return CorrelatedNormal(self.mean, lower)


class CorrelatedNormal(eqx.Module):
    """A normal over the flattened pytree."""

    mean: PyTree[Array]
    lower: Float[Array, "latent latent"]

    def sample(self, key: PRNGKeyArray) -> PyTree[Array]:
        mean, unravel = ravel_pytree(self.mean)
        return unravel(mean + self.lower @ jax.random.normal(key, mean.shape, mean.dtype))

    def log_prob(self, value: PyTree[Array]) -> Float[Array, ""]:
        residual = ravel_pytree(value)[0] - ravel_pytree(self.mean)[0]
        whitened = jax.scipy.linalg.solve_triangular(self.lower, residual, lower=True)
        return norm.logpdf(whitened).sum() - jnp.log(jnp.diag(self.lower)).sum()


class PointMass(AbstractProposal):
    """All of q at one z: a particle of SVGD (Liu & Wang 2016, arXiv:1608.04471).

    It has no density, and its log q is 0: what is computed with it is no bound. `train.stein.svgd` gives
    it the temperature that SVGD has.
    """

    value: PyTree[Array]

    def __init__(self, sample_start: Callable[[PRNGKeyArray], PyTree[Array]], *, key: PRNGKeyArray):
        self.value = sample_start(key)

    def proposal(self, x: PyTree[Array]) -> Distribution:
        return AtPoint(self.value)


class AtPoint(eqx.Module):
    """Every draw is `value`."""

    value: PyTree[Array]

    def sample(self, key: PRNGKeyArray) -> PyTree[Array]:
        return self.value

    def log_prob(self, value: Any) -> Float[Array, ""]:
        return jnp.zeros(())


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"`{name}` is {value}, but it multiplies noise: give a number above 0.")
