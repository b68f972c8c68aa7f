"""Laws of one latent vector for a whole sequence, as a prior and as a proposal has them.

A law makes a distribution of features. The prior's features are parameters; the proposal's are what
an encoder makes of x. Real latents have the Gaussian laws of `nn.gaussian_outputs`, bits the
Bernoulli law of `nn.outputs`; the others are here. Discrete latents are whole numbers.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.nn.gaussian_outputs import DiagonalGaussianOutput, FullGaussianOutput
from tightbound.nn.outputs import AbstractOutput
from tightbound.nn.scales import above_floor, raw_above_floor, require_floor


def standard_features(law: AbstractOutput, latent_size: int) -> Float[Array, " features"]:
    """The features at which a law is N(0, I), or has all values of a unit alike."""
    features = jnp.zeros(law.num_features(latent_size))
    if isinstance(law, DiagonalGaussianOutput | FullGaussianOutput):
        raw = raw_above_floor(1.0, law.min_scale)
        features = features.at[latent_size : 2 * latent_size].set(raw)
    return features


class Prior(eqx.Module):
    """p(z): a law at learned features, which start at the standard ones."""

    features: Float[Array, " features"]
    law: AbstractOutput

    def __init__(self, law: AbstractOutput, latent_size: int):
        self.features = standard_features(law, latent_size)
        self.law = law

    def __call__(self) -> dist.Distribution:
        return self.law(self.features)


class SharedScaleOutput(AbstractOutput):
    """z_d ~ N(features_d, s_d^2), where s is learned and the same whatever the features."""

    raw_scale: Float[Array, " latent"]  # s = min_scale + softplus(raw_scale)
    min_scale: float = eqx.field(static=True)

    def __init__(self, latent_size: int, *, min_scale: float):
        """The scale starts at 1."""
        require_floor(min_scale)
        self.raw_scale = jnp.full(latent_size, raw_above_floor(1.0, min_scale))
        self.min_scale = min_scale

    def num_features(self, obs_size: int) -> int:
        return obs_size

    def __call__(self, features: Float[Array, " latent"]) -> dist.Distribution:
        return dist.Normal(features, above_floor(self.raw_scale, self.min_scale)).to_event(1)


class TernaryOutput(AbstractOutput):
    """z_d is -1, 0 or 1, independent given the features: three logits for each unit."""

    def num_features(self, obs_size: int) -> int:
        return 3 * obs_size

    def __call__(self, features: Float[Array, " features"]) -> dist.Distribution:
        return Ternary(features.reshape(-1, 3))


class Ternary(dist.Distribution):
    """Units that are -1, 0 or 1, with logits for each value in this order."""

    pytree_data_fields = ("logits",)

    def __init__(self, logits: Float[Array, "latent 3"]):
        self.logits = logits
        super().__init__(event_shape=(len(logits),))

    def sample(
        self, key: PRNGKeyArray | None, sample_shape: tuple[int, ...] = ()
    ) -> Int[Array, "*sample latent"]:
        assert key is not None
        shape = (*sample_shape, len(self.logits))
        return jax.random.categorical(key, self.logits, shape=shape) - 1

    def log_prob(self, value: Int[Array, " latent"], intermediates=None) -> Float[Array, ""]:
        """Of all units together, in nats."""
        log_p = jax.nn.log_softmax(self.logits, axis=1)
        return jnp.take_along_axis(log_p, value[:, None] + 1, axis=1).sum()

    @property
    def mean(self) -> Float[Array, " latent"]:
        low, _, high = jax.nn.softmax(self.logits, axis=1).T
        return high - low

    @property
    def variance(self) -> Float[Array, " latent"]:
        low, _, high = jax.nn.softmax(self.logits, axis=1).T
        return high + low - (high - low) ** 2
