"""The variational auto-encoder: one vector of latents, one vector of observations."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.stats import norm
from jaxtyping import Array, Float, PRNGKeyArray

from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.nn.activations import softplus
from tightbound.nn.outputs import AbstractOutput
from tightbound.terms import Kind


class VAE(AbstractModel):
    """z ~ N(0, I),  x | z ~ output(f(z)).   Kingma & Welling 2014 (arXiv:1312.6114).

    `f` is an MLP; `output` is the law of x given its result (Bernoulli or Gaussian).
    """

    kinds: ClassVar[Mapping[str, Kind]] = {"z": Kind.LATENT, "x": Kind.OBSERVED}

    decoder: eqx.nn.MLP  # f
    output: AbstractOutput
    latent_size: int = eqx.field(static=True)

    def __init__(
        self,
        obs_size: int,
        latent_size: int,
        output: AbstractOutput,
        *,
        hidden_size: int,
        depth: int = 1,
        activation: Callable[[Array], Array] = softplus,
        key: PRNGKeyArray,
    ):
        self.decoder = eqx.nn.MLP(latent_size, obs_size, hidden_size, depth, activation, key=key)
        self.output = output
        self.latent_size = latent_size

    def sample_prior(self, key: PRNGKeyArray) -> Float[Array, " latent"]:
        return jax.random.normal(key, (self.latent_size,))

    def likelihood(self, z: Float[Array, " latent"]) -> dist.Distribution:
        """The distribution of x given z."""
        return self.output(self.decoder(z))

    def score(
        self, x: Float[Array, " obs"], z: Float[Array, " latent"]
    ) -> dict[str, Float[Array, " time"]]:
        return {
            "z": norm.logpdf(z).sum(keepdims=True),
            "x": jnp.atleast_1d(self.likelihood(z).log_prob(x)),
        }

    def sample_likelihood(
        self, z: Float[Array, " latent"], key: PRNGKeyArray
    ) -> Float[Array, " obs"]:
        return jnp.asarray(self.likelihood(z).sample(key), float)

    def residual(self, x: Float[Array, " obs"], z: Float[Array, " latent"]) -> Float[Array, " obs"]:
        """What was observed less the mean of the output, in units of the data."""
        return x - self.likelihood(z).mean


class GaussianProposal(AbstractProposal):
    """q(z | x) = N(m(x), diag s(x)^2), the mean and log-scale from one MLP, for any array x.

    s = exp(log-scale) + min_scale. A fixed scale replaces exp(log-scale) (a setting for
    debugging; the network's second half is then not read).
    """

    encoder: eqx.nn.MLP
    min_scale: float = eqx.field(static=True)
    fixed_scale: float | None = eqx.field(static=True)

    def __init__(
        self,
        obs_size: int,
        latent_size: int,
        *,
        hidden_size: int,
        depth: int = 1,
        activation: Callable[[Array], Array] = softplus,
        min_scale: float = 0.0,
        fixed_scale: float | None = None,
        key: PRNGKeyArray,
    ):
        self.encoder = eqx.nn.MLP(
            obs_size, 2 * latent_size, hidden_size, depth, activation, key=key
        )
        self.min_scale = min_scale
        self.fixed_scale = fixed_scale

    def proposal(self, x: Float[Array, " obs"]) -> dist.Distribution:
        mean, log_scale = jnp.split(self.encoder(x), 2)
        if self.fixed_scale is not None:
            scale = jnp.full_like(mean, self.fixed_scale)
        else:
            scale = jnp.exp(log_scale) + self.min_scale
        return dist.Normal(mean, scale).to_event(1)
