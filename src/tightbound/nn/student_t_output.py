"""The Student-t output law: heavy tails, for observations with outliers such as returns."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float

from tightbound.nn.outputs import AbstractOutput
from tightbound.nn.scales import above_floor, raw_above_floor, require_floor


class StudentTOutput(AbstractOutput):
    """x_d ~ m_d + s_d t(df), independent given the features, s_d = min_scale + softplus(raw_d).

        df = min_df + softplus(raw)

    Features: the means m, then the raw scales, `obs` of each. One df is a parameter that all
    entries and steps share, and `df` is its first value; with `df` None it is read from the
    features too, one per entry, after the scales. The floor of df keeps the variance,
    s^2 df / (df - 2), below 21 s^2. s is not the standard deviation.
    """

    min_df: ClassVar[float] = 2.1

    raw_df: Float[Array, ""] | None
    min_scale: float = eqx.field(static=True)  # in units of the data

    def __init__(self, min_scale: float, *, df: float | None = 5.0):
        require_floor(min_scale)
        if df is not None and not df > self.min_df:
            raise ValueError(
                f"The degrees of freedom are {df}, but they must lie above {self.min_df}, so that "
                "the law has a variance. Raise `df`, or give None to read it from the features."
            )
        self.min_scale = min_scale
        self.raw_df = None if df is None else raw_above_floor(df, self.min_df)

    @property
    def df(self) -> Float[Array, ""] | None:
        """The shared degrees of freedom; None where the features have them."""
        return None if self.raw_df is None else above_floor(self.raw_df, self.min_df)

    def num_features(self, obs_size: int) -> int:
        return (3 if self.raw_df is None else 2) * obs_size

    def __call__(self, features: Float[Array, " features"]) -> dist.Distribution:
        if self.df is None:
            mean, raw_scale, raw_df = jnp.split(features, 3)
            df = above_floor(raw_df, self.min_df)
        else:
            mean, raw_scale = jnp.split(features, 2)
            df = jnp.broadcast_to(self.df, mean.shape)
        return dist.StudentT(df, mean, above_floor(raw_scale, self.min_scale)).to_event(1)
