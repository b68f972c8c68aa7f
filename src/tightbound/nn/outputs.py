"""Output laws: from a network's raw features to a distribution of one observation."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float


class AbstractOutput(eqx.Module):
    """The law p(x | features) of a vector x. Calling it gives a numpyro distribution, one event."""

    @abstractmethod
    def __call__(self, features: Float[Array, " obs"]) -> dist.Distribution:
        """The distribution of one observation."""


class BernoulliOutput(AbstractOutput):
    """x_d ~ Bernoulli(sigmoid(features_d)), independent given the features."""

    def __call__(self, features: Float[Array, " obs"]) -> dist.Distribution:
        return dist.Bernoulli(logits=features).to_event(1)  # pyright: ignore[reportAttributeAccessIssue]


class GaussianOutput(AbstractOutput):
    """x_d ~ N(features_d, s^2), one scale s for all d, with the floor s >= `min_scale`.

    The floor is part of the law: without it a perfectly reconstructed pixel sends the density
    to infinity. `learned` False holds s at its first value: it is then no parameter at all.
    """

    raw_scale: Float[Array, ""] | None  # s = min_scale + softplus(raw_scale)
    min_scale: float = eqx.field(static=True)
    fixed_scale: float | None = eqx.field(static=True)

    def __init__(self, *, scale: float = 1.0, min_scale: float = 0.0, learned: bool = True):
        if not scale > min_scale >= 0:
            raise ValueError(
                f"The output scale is {scale} and its floor {min_scale}, but the scale must lie "
                "above the floor and the floor must not be negative. Raise the scale."
            )
        above = jnp.asarray(scale - min_scale, float)
        inverse = above + jnp.log(-jnp.expm1(-above))  # softplus^-1; e^above may overflow
        self.raw_scale = inverse if learned else None
        self.min_scale = min_scale
        self.fixed_scale = None if learned else scale

    @property
    def scale(self) -> Float[Array, ""]:
        """s, in units of the data."""
        if self.raw_scale is None:
            return jnp.asarray(self.fixed_scale, float)
        return self.min_scale + jax.nn.softplus(self.raw_scale)

    def __call__(self, features: Float[Array, " obs"]) -> dist.Distribution:
        return dist.Normal(features, self.scale).to_event(1)
