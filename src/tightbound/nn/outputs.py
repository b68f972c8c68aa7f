"""Output laws: from a network's raw features to a distribution of one observation.

This file has the interface and the two laws whose features are an observation's own size. Others:
`gaussian_outputs`, `student_t_output`, `mixture_output`, `discretised_output`, `pen_output`.
"""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float

from tightbound.nn.scales import raw_above_floor


class AbstractOutput(eqx.Module):
    """The law p(x | features) of one observation x. Calling it gives a distribution, one event,
    with `sample(key)`, `log_prob(x)`, `mean` and `variance` (per entry, in squared units of x).
    Where x has several sites, `log_prob` is `{site: log_p}`."""

    sites: ClassVar[tuple[str, ...]] = ("x",)  # of an observation's parts, in this order

    @abstractmethod
    def num_features(self, obs_size: int) -> int:
        """How many raw features it reads for an observation of `obs_size` entries."""

    @abstractmethod
    def __call__(self, features: Float[Array, " features"]) -> dist.Distribution:
        """The distribution of one observation."""


class BernoulliOutput(AbstractOutput):
    """x_d ~ Bernoulli(sigmoid(features_d)), independent given the features."""

    def num_features(self, obs_size: int) -> int:
        return obs_size

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
        self.raw_scale = raw_above_floor(scale, min_scale) if learned else None
        self.min_scale = min_scale
        self.fixed_scale = None if learned else scale

    @property
    def scale(self) -> Float[Array, ""]:
        """s, in units of the data."""
        if self.raw_scale is None:
            return jnp.asarray(self.fixed_scale, float)
        return self.min_scale + jax.nn.softplus(self.raw_scale)

    def num_features(self, obs_size: int) -> int:
        return obs_size

    def __call__(self, features: Float[Array, " obs"]) -> dist.Distribution:
        return dist.Normal(features, self.scale).to_event(1)
