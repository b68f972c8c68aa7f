"""Probabilistic principal component analysis: one linear layer, everything in closed form."""

from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve
from jax.scipy.stats import norm
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.distributions import MultivariateNormal

from tightbound.models.base import AbstractModel
from tightbound.terms import Kind


class ProbabilisticPCA(AbstractModel):
    """z ~ N(0, I),  x | z ~ N(W z + b, s^2 I).   Tipping & Bishop 1999.

    The smallest family with a closed-form log p(x), so most tests start here.
    """

    kinds: ClassVar[Mapping[str, Kind]] = {"z": Kind.LATENT, "x": Kind.OBSERVED}

    weight: Float[Array, "obs latent"]  # W
    bias: Float[Array, " obs"]  # b
    log_scale: Float[Array, ""]  # log s

    def __init__(self, obs_size: int, latent_size: int, *, key: PRNGKeyArray):
        self.weight = jax.random.normal(key, (obs_size, latent_size))
        self.bias = jnp.zeros(obs_size)
        self.log_scale = jnp.zeros(())

    def sample_prior(self, key: PRNGKeyArray) -> Float[Array, " latent"]:
        return jax.random.normal(key, (self.weight.shape[1],))

    def score(
        self, x: Float[Array, " obs"], z: Float[Array, " latent"]
    ) -> dict[str, Float[Array, " 1"]]:
        mean = self.weight @ z + self.bias
        return {
            "z": norm.logpdf(z).sum(keepdims=True),
            "x": norm.logpdf(x, mean, jnp.exp(self.log_scale)).sum(keepdims=True),
        }

    def sample_likelihood(
        self, z: Float[Array, " latent"], key: PRNGKeyArray
    ) -> Float[Array, " obs"]:
        noise = jax.random.normal(key, self.bias.shape)
        return self.weight @ z + self.bias + jnp.exp(self.log_scale) * noise

    def log_marginal(self, x: Float[Array, " obs"]) -> Float[Array, ""]:
        """log p(x) = log N(x; b, W W^T + s^2 I), in nats.

        Tipping & Bishop 1999, eq. 4, by the matrix inversion lemma: only the
        latent x latent matrix M = W^T W + s^2 I is factorised, so wide images are cheap.
        """
        obs_size, latent_size = self.weight.shape
        residual = x - self.bias
        factor = self._factor()
        projected = self.weight.T @ residual
        variance = jnp.exp(2 * self.log_scale)
        distance = (
            residual @ residual - projected @ cho_solve((factor, True), projected)
        ) / variance
        # |W W^T + s^2 I| = |M| s^(2 (obs - latent))
        log_det = 2 * jnp.log(jnp.diag(factor)).sum() + 2 * self.log_scale * (
            obs_size - latent_size
        )
        return -0.5 * (distance + log_det + obs_size * jnp.log(2 * jnp.pi))

    def posterior(self, x: Float[Array, " obs"]) -> MultivariateNormal:
        """p(z | x) = N(M^-1 W^T (x - b), s^2 M^-1).   Tipping & Bishop 1999, eq. 6."""
        factor = self._factor()
        identity = jnp.eye(factor.shape[0])
        covariance = jnp.exp(2 * self.log_scale) * cho_solve((factor, True), identity)
        mean = cho_solve((factor, True), self.weight.T @ (x - self.bias))
        return MultivariateNormal(mean, covariance_matrix=covariance)

    def _factor(self) -> Float[Array, "latent latent"]:
        """The lower Cholesky factor of M = W^T W + s^2 I."""
        identity = jnp.eye(self.weight.shape[1])
        return jnp.linalg.cholesky(
            self.weight.T @ self.weight + jnp.exp(2 * self.log_scale) * identity
        )
