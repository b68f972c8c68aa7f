"""Gaussian output laws whose scales are read from the features, step by step."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from tightbound.nn.outputs import AbstractOutput
from tightbound.nn.scales import above_floor, require_floor


class DiagonalGaussianOutput(AbstractOutput):
    """x_d ~ N(m_d, s_d^2), independent given the features, with s_d = min_scale + softplus(raw_d).

    Features: the means m, then the raw scales, `obs` of each. So log p <= -log(sqrt(2 pi) min_scale)
    per entry.
    """

    min_scale: float = eqx.field(static=True)  # in units of the data

    def __check_init__(self):
        require_floor(self.min_scale)

    def num_features(self, obs_size: int) -> int:
        return 2 * obs_size

    def __call__(self, features: Float[Array, " features"]) -> dist.Distribution:
        mean, raw = jnp.split(features, 2)
        return dist.Normal(mean, above_floor(raw, self.min_scale)).to_event(1)


class FullGaussianOutput(AbstractOutput):
    """x ~ N(m, L L^T) with L lower triangular and L_dd = min_scale + softplus(raw_d).

    Features: the means m, then the raw diagonal of L, `obs` of each, then the entries of L below
    its diagonal as they are, row by row. The floor bounds det L, and with it the density. The
    entries below the diagonal are unbounded: in 32 bits, quadratic forms of many entries near 50
    over a small floor can overflow. For two entries `BivariateGaussianOutput` is faster.
    """

    min_scale: float = eqx.field(static=True)  # of the diagonal of L, in units of the data

    def __check_init__(self):
        require_floor(self.min_scale)

    def num_features(self, obs_size: int) -> int:
        return obs_size * (obs_size + 3) // 2

    def __call__(self, features: Float[Array, " features"]) -> dist.Distribution:
        obs_size = (math.isqrt(9 + 8 * len(features)) - 3) // 2  # the inverse of `num_features`
        mean, raw, below = jnp.split(features, [obs_size, 2 * obs_size])
        scale = jnp.diag(above_floor(raw, self.min_scale))
        scale = scale.at[jnp.tril_indices(obs_size, -1)].set(below)
        return dist.MultivariateNormal(mean, scale_tril=scale)


class BivariateGaussianOutput(AbstractOutput):
    """x = (x_1, x_2) ~ N(m, [[s_1^2, r s_1 s_2], [r s_1 s_2, s_2^2]]).

        s_d = min_scale + softplus(raw_d),   r = max_correlation * tanh(raw)

    Features: two means, two raw scales, one raw correlation. Graves 2013 (arXiv:1308.0850),
    eq. 20-25, has exp for the scales and no bound on r. In 32 bits tanh is 1 from about 9 on, and
    1 - r^2 is then 0; here log p <= -log(2 pi min_scale^2 sqrt(1 - max_correlation^2)).
    """

    min_scale: float = eqx.field(static=True)  # in units of the data
    max_correlation: float = eqx.field(static=True, default=0.999)

    def __check_init__(self):
        require_floor(self.min_scale)
        if not 0 <= self.max_correlation < 1:
            raise ValueError(
                f"The largest correlation is {self.max_correlation}, but it must lie in [0, 1): "
                "at 1 the density has no upper bound."
            )

    def num_features(self, obs_size: int) -> int:
        if obs_size != 2:
            raise ValueError(
                f"A bivariate Gaussian is a law of 2 entries, not of {obs_size}. "
                "`FullGaussianOutput` takes any number."
            )
        return 5

    def __call__(self, features: Float[Array, " features"]) -> dist.Distribution:
        mean, raw_scale, raw_correlation = features[:2], features[2:4], features[4]
        correlation = self.max_correlation * jnp.tanh(raw_correlation)
        return BivariateNormal(mean, above_floor(raw_scale, self.min_scale), correlation)


class BivariateNormal(dist.Distribution):
    """Two Gaussians with a correlation, in closed form: x_1, then x_2 given x_1.

        x_2 | x_1  ~  N(m_2 + r s_2 (x_1 - m_1) / s_1,  s_2^2 (1 - r^2))

    The same density as a multivariate normal's, without its triangular solve, which does not fuse
    with what is around it.
    """

    pytree_data_fields = ("loc", "scale", "correlation")

    def __init__(
        self,
        loc: Float[Array, "2"],
        scale: Float[Array, "2"],  # s
        correlation: Float[Array, ""],  # r
    ):
        self.loc, self.scale, self.correlation = loc, scale, correlation
        super().__init__(event_shape=(2,))

    def sample(
        self, key: PRNGKeyArray | None, sample_shape: tuple[int, ...] = ()
    ) -> Float[Array, "*sample 2"]:
        assert key is not None
        noise = jax.random.normal(key, (*sample_shape, 2), self.loc.dtype)
        first = self.loc[0] + self.scale[0] * noise[..., 0]
        mean, scale = self._second_given(first)
        return jnp.stack([first, mean + scale * noise[..., 1]], axis=-1)

    def log_prob(self, value: Float[Array, "*sample 2"], intermediates=None):
        """In nats."""
        first, second = value[..., 0], value[..., 1]
        marginal = dist.Normal(self.loc[0], self.scale[0]).log_prob(first)
        return marginal + dist.Normal(*self._second_given(first)).log_prob(second)

    @property
    def mean(self) -> Float[Array, "2"]:
        return self.loc

    @property
    def variance(self) -> Float[Array, "2"]:
        return self.scale**2

    def _second_given(self, first: Float[Array, "*sample"]):
        """Mean and scale of x_2 given x_1."""
        score = (first - self.loc[0]) / self.scale[0]
        left = jnp.sqrt((1 - self.correlation) * (1 + self.correlation))  # 1 - r^2 would cancel
        return self.loc[1] + self.correlation * self.scale[1] * score, self.scale[1] * left
