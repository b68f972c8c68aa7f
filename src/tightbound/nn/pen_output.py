"""Strokes of a pen: the law of an offset times that of the pen's lifting."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from tightbound.data.strokes import Strokes
from tightbound.nn.outputs import AbstractOutput


class PenOutput(AbstractOutput):
    """offset ~ `offset`(features but the last),  pen ~ Bernoulli(sigmoid(last feature)).

    Independent given the features: Graves 2013 (arXiv:1308.0850), eq. 23. `obs_size` counts the
    entries of the offset alone. An observation is a `Strokes` of one step, and each half has its
    site: "x" the offset, "pen" the pen.
    """

    sites: ClassVar[tuple[str, ...]] = ("x", "pen")

    offset: AbstractOutput

    def num_features(self, obs_size: int) -> int:
        return self.offset.num_features(obs_size) + 1

    def __call__(self, features: Float[Array, " features"]) -> "StrokeLaw":
        return StrokeLaw(self.offset(features[:-1]), features[-1])


class StrokeLaw(eqx.Module):
    """One step of a `Strokes`: what a `PenOutput` gives."""

    offset: dist.Distribution
    pen_logit: Float[Array, ""]

    def sample(self, key: PRNGKeyArray) -> Strokes:
        """The pen is a draw, 0 or 1: never its probability."""
        offset_key, pen_key = jax.random.split(key)
        pen = jnp.asarray(self.pen.sample(pen_key), self.pen_logit.dtype)
        return Strokes(offset=jnp.asarray(self.offset.sample(offset_key)), pen=pen)

    def log_prob(self, value: Strokes) -> dict[str, Float[Array, ""]]:
        """By site, in nats: the sum is that of the whole step."""
        return {
            "x": jnp.asarray(self.offset.log_prob(value.offset)),
            "pen": jnp.asarray(self.pen.log_prob(value.pen)),
        }

    @property
    def pen(self) -> dist.Distribution:
        return dist.Bernoulli(logits=self.pen_logit)  # pyright: ignore[reportReturnType]

    @property
    def mean(self) -> Strokes:
        """The mean offset, and the probability that the pen is lifted after it."""
        return Strokes(offset=self.offset.mean, pen=self.pen.mean)

    @property
    def variance(self) -> Strokes:
        return Strokes(offset=self.offset.variance, pen=self.pen.variance)
