"""The variational auto-encoder with two stochastic layers of Burda et al. 2016."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.stats import norm
from jaxtyping import Array, Float, PRNGKeyArray

from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.nn.outputs import AbstractOutput
from tightbound.terms import Kind

Activation = Callable[[Array], Array]


class TwoLayers(eqx.Module):
    """The latents of both layers."""

    z1: Float[Array, "*draws low"]  # next to the data
    z2: Float[Array, "*draws top"]


class DeepVAE(AbstractModel):
    """z2 ~ N(0, I),  z1 | z2 ~ N(m(z2), diag s(z2)^2),  x | z1 ~ output(f(z1)).

    Burda et al. 2016 (arXiv:1509.00519), sec. 5 and appendix: 50 and 100 latents, two
    deterministic layers between stochastic ones.
    """

    kinds: ClassVar[Mapping[str, Kind]] = {"z2": Kind.LATENT, "z1": Kind.LATENT, "x": Kind.OBSERVED}

    prior: eqx.nn.MLP  # m and log s
    decoder: eqx.nn.MLP  # f
    output: AbstractOutput
    top_size: int = eqx.field(static=True)

    def __init__(
        self,
        obs_size: int,
        low_size: int,
        top_size: int,
        output: AbstractOutput,
        *,
        hidden_size: int,
        top_hidden_size: int,
        depth: int = 2,
        activation: Activation = jnp.tanh,
        key: PRNGKeyArray,
    ):
        prior_key, decoder_key = jax.random.split(key)
        self.prior = eqx.nn.MLP(
            top_size, 2 * low_size, top_hidden_size, depth, activation, key=prior_key
        )
        self.decoder = eqx.nn.MLP(
            low_size, obs_size, hidden_size, depth, activation, key=decoder_key
        )
        self.output = output
        self.top_size = top_size

    def sample_prior(self, key: PRNGKeyArray) -> TwoLayers:
        top_key, low_key = jax.random.split(key)
        z2 = jax.random.normal(top_key, (self.top_size,))
        return TwoLayers(z1=jnp.asarray(gaussian(self.prior(z2)).sample(low_key)), z2=z2)

    def score(self, x: Float[Array, " obs"], z: TwoLayers) -> dict[str, Float[Array, " time"]]:
        return {
            "z2": norm.logpdf(z.z2).sum(keepdims=True),
            "z1": jnp.atleast_1d(gaussian(self.prior(z.z2)).log_prob(z.z1)),
            "x": jnp.atleast_1d(self.output(self.decoder(z.z1)).log_prob(x)),
        }

    def sample_likelihood(self, z: TwoLayers, key: PRNGKeyArray) -> Float[Array, " obs"]:
        return jnp.asarray(self.output(self.decoder(z.z1)).sample(key), float)

    def residual(self, x: Float[Array, " obs"], z: TwoLayers) -> Float[Array, " obs"]:
        """What was observed less the mean of the output, in units of the data."""
        return x - self.output(self.decoder(z.z1)).mean


class DeepProposal(AbstractProposal):
    """q(z1, z2 | x) = q(z1 | x) q(z2 | z1), both Gaussian."""

    low: eqx.nn.MLP
    top: eqx.nn.MLP

    def __init__(
        self,
        obs_size: int,
        low_size: int,
        top_size: int,
        *,
        hidden_size: int,
        top_hidden_size: int,
        depth: int = 2,
        activation: Activation = jnp.tanh,
        key: PRNGKeyArray,
    ):
        low_key, top_key = jax.random.split(key)
        self.low = eqx.nn.MLP(obs_size, 2 * low_size, hidden_size, depth, activation, key=low_key)
        self.top = eqx.nn.MLP(
            low_size, 2 * top_size, top_hidden_size, depth, activation, key=top_key
        )

    def proposal(self, x: Float[Array, " obs"]) -> "TwoLayerDistribution":
        return TwoLayerDistribution(gaussian(self.low(x)), self.top)


class TwoLayerDistribution(eqx.Module):
    """z1 first, then z2 given z1; scored site by site."""

    low: dist.Distribution
    top: eqx.nn.MLP

    @property
    def mean(self) -> TwoLayers:
        """The mean of z1, and of z2 given it: what a deterministic pass gives, not E[z2]."""
        z1 = jnp.asarray(self.low.mean)
        return TwoLayers(z1=z1, z2=jnp.asarray(gaussian(self.top(z1)).mean))

    def sample(self, key: PRNGKeyArray) -> TwoLayers:
        low_key, top_key = jax.random.split(key)
        z1 = jnp.asarray(self.low.sample(low_key))
        return TwoLayers(z1=z1, z2=jnp.asarray(gaussian(self.top(z1)).sample(top_key)))

    def log_prob(self, value: TwoLayers) -> dict[str, Float[Array, " time"]]:
        return {
            "z1": jnp.atleast_1d(self.low.log_prob(value.z1)),
            "z2": jnp.atleast_1d(gaussian(self.top(value.z1)).log_prob(value.z2)),
        }


def gaussian(features: Float[Array, " twice_size"]) -> dist.Distribution:
    """N(mean, diag exp(log scale)^2) from a network's mean and log scale, one event."""
    mean, log_scale = jnp.split(features, 2)
    return dist.Normal(mean, jnp.exp(log_scale)).to_event(1)
