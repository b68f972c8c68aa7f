"""The law of a point's target given the features that a network made of its inputs."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from tightbound.families.stein.precision import AbstractPrecision, GammaPrecision


class AbstractResponse(eqx.Module):
    """A target's law given features, and the latent of its own that this may have: a log precision."""

    @property
    @abstractmethod
    def num_features(self) -> int:
        """How many features it reads."""

    @abstractmethod
    def sample_prior(self, key: PRNGKeyArray) -> Float[Array, ""] | None:
        """One draw of the log precision; None where there is none, or where it is known."""

    @abstractmethod
    def log_prior(self, log_precision: Float[Array, ""] | None) -> Float[Array, ""]:
        """Its log-density, in nats; 0 where nothing is drawn."""

    @abstractmethod
    def law(
        self, features: Float[Array, " features"], log_precision: Float[Array, ""] | None
    ) -> dist.Distribution:
        """The distribution of one target."""

    @abstractmethod
    def expected(self, features: Float[Array, " features"]) -> Float[Array, " *outputs"]:
        """The mean of one target; the probability of every class if it is one."""


class NormalResponse(AbstractResponse):
    """y ~ N(feature, 1 / tau), tau ~ Gamma(1, 0.1) unless another precision is given."""

    precision: AbstractPrecision  # tau

    def __init__(self, precision: AbstractPrecision | None = None):
        self.precision = GammaPrecision(1.0, 0.1) if precision is None else precision

    @property
    def num_features(self) -> int:
        return 1

    def sample_prior(self, key: PRNGKeyArray) -> Float[Array, ""] | None:
        return self.precision.sample(key)

    def log_prior(self, log_precision: Float[Array, ""] | None) -> Float[Array, ""]:
        return self.precision.log_prob(log_precision)

    def law(
        self, features: Float[Array, " 1"], log_precision: Float[Array, ""] | None
    ) -> dist.Distribution:
        scale = jnp.exp(-0.5 * self.precision.log_value(log_precision))
        return dist.Normal(self.expected(features), scale)

    def expected(self, features: Float[Array, " 1"]) -> Float[Array, ""]:
        return features[0]


class ClassResponse(AbstractResponse):
    """y ~ Categorical(softmax(features)), a class from 0 to `num_classes` - 1."""

    num_classes: int = eqx.field(static=True)

    def __init__(self, num_classes: int):
        if num_classes < 2:
            raise ValueError(f"A target of {num_classes} classes was asked for; give at least 2.")
        self.num_classes = num_classes

    @property
    def num_features(self) -> int:
        return self.num_classes

    def sample_prior(self, key: PRNGKeyArray) -> None:
        return None

    def log_prior(self, log_precision: Float[Array, ""] | None) -> Float[Array, ""]:
        return jnp.zeros(())

    def law(
        self, features: Float[Array, " classes"], log_precision: Float[Array, ""] | None
    ) -> dist.Distribution:
        return dist.CategoricalLogits(features)

    def expected(self, features: Float[Array, " classes"]) -> Float[Array, " classes"]:
        return jax.nn.softmax(features)
